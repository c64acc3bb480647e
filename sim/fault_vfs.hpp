#pragma once
/// SQLite's VFS with a fault: the k-th system-level call of a database fails, or stops the process. Also watches that nothing is
/// acknowledged while WAL pages are unsynced. Wraps SQLite's own VFS; at most one at a time, any thread.

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

namespace drover::sim {

struct VfsFault {
  std::uint64_t at_call = 0;           ///< from 1, over open, write, sync, truncate, delete and shared-memory maps; 0 never
  int sqlite_code = 0;                 ///< SQLITE_FULL, SQLITE_IOERR, ...: given for writes; syncs and opens give their own I/O error
  bool for_good = false;               ///< every later call fails too
  bool half_write = false;             ///< a write puts its first half in place before it fails
  std::function<void()> instead{};     ///< called before the call instead of failing; the call then goes on
};

class FaultVfs {
 public:
  FaultVfs();                          ///< registers it, not as the default
  ~FaultVfs();
  FaultVfs(const FaultVfs&) = delete;
  FaultVfs& operator=(const FaultVfs&) = delete;

  static const char* name();           ///< for LedgerOptions::vfs
  void arm(VfsFault fault);            ///< counts from 0 again
  void disarm() { arm({}); }
  std::uint64_t calls() const;
  bool hit() const;
  /// Bytes written to a WAL and not synced since.
  std::uint64_t unsynced_wal_bytes() const;
  std::uint64_t syncs() const;
};

}  // namespace drover::sim
