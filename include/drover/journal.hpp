#pragma once
/// An append-only file of records, each whole or absent whatever crashed: for what was accepted and is not done yet, which a job keeps in its
/// directory beside the ledger of what was done.
///
///   auto journal = Journal::open(job.directory() / "intake", [&](BytesView record) { return take(record); });   // what earlier runs accepted
///   journal->append(bytes);      // survives the end of this process, by any signal
///   journal->sync();             // all appended so far survives a power failure
///
/// A record that a crash cut off is the last one, and is removed; damage before it is an error, never passed over.
/// File: "DRVRJRN1", then for each record its size (u32), a check of size and hash (u32), XXH3-64 of its bytes (u64), its bytes; little-endian.
///
/// Threads: append by one at a time; sync beside it from another. An append that failed leaves the journal as it was; a failed sync, or an append that cannot be taken
/// back, spoils it: no more is taken.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "drover/types/bytes.hpp"
#include "drover/types/error.hpp"

namespace drover {

class Journal {
 public:
  static constexpr std::uint64_t kRecordBytesMax = std::uint64_t{1} << 31;

  /// Makes the file if there is none. `each` gets every record in order, borrowed until it returns; its error is open's. Errors: busy (another
  /// process has it open), corrupt (names the offset), no_space, system.
  static Result<Journal> open(const std::string& path, const std::function<Result<void>(BytesView)>& each);
  Journal(Journal&&) noexcept;
  Journal& operator=(Journal&&) noexcept;
  ~Journal();

  /// Errors: no_space, usage (too large), system.
  Result<void> append(BytesView record);
  Result<void> sync();
  std::uint64_t records() const;  ///< in the file

 private:
  struct Impl;
  explicit Journal(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace drover
