#include "sim/fault_vfs.hpp"

#include <sqlite3.h>

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string_view>

namespace drover::sim {
namespace {

struct State {
  std::mutex mutex;
  VfsFault fault;
  std::uint64_t calls = 0;
  bool hit = false;
  std::atomic<std::uint64_t> unsynced_wal{0};
  std::atomic<std::uint64_t> syncs{0};
  sqlite3_vfs vfs{};
  sqlite3_vfs* below = nullptr;
};
State& state() {
  static State one;
  return one;
}

/// 0 to go on, else the code to fail with.
int step(int own_error) {
  State& s = state();
  std::function<void()> instead;
  {
    const std::lock_guard lock(s.mutex);
    ++s.calls;
    if (s.fault.at_call == 0 || s.calls < s.fault.at_call || (s.calls > s.fault.at_call && !s.fault.for_good)) return SQLITE_OK;
    s.hit = true;
    if (!s.fault.instead) return s.fault.sqlite_code == SQLITE_FULL && own_error == SQLITE_IOERR_WRITE ? SQLITE_FULL : own_error;
    instead = s.fault.instead;
  }
  instead();
  return SQLITE_OK;
}

struct FaultFile {
  sqlite3_file base;
  bool is_wal;
  sqlite3_file* below() { return reinterpret_cast<sqlite3_file*>(this + 1); }
};
FaultFile& of(sqlite3_file* file) { return *reinterpret_cast<FaultFile*>(file); }

int x_close(sqlite3_file* f) { return of(f).below()->pMethods != nullptr ? of(f).below()->pMethods->xClose(of(f).below()) : SQLITE_OK; }
int x_read(sqlite3_file* f, void* to, int n, sqlite3_int64 at) { return of(f).below()->pMethods->xRead(of(f).below(), to, n, at); }
int x_write(sqlite3_file* f, const void* from, int n, sqlite3_int64 at) {
  if (const int code = step(SQLITE_IOERR_WRITE); code != SQLITE_OK) {
    if (state().fault.half_write) (void)of(f).below()->pMethods->xWrite(of(f).below(), from, n / 2, at);
    return code;
  }
  if (of(f).is_wal) state().unsynced_wal += static_cast<std::uint64_t>(n);
  return of(f).below()->pMethods->xWrite(of(f).below(), from, n, at);
}
int x_truncate(sqlite3_file* f, sqlite3_int64 size) {
  if (const int code = step(SQLITE_IOERR_TRUNCATE); code != SQLITE_OK) return code;
  return of(f).below()->pMethods->xTruncate(of(f).below(), size);
}
int x_sync(sqlite3_file* f, int flags) {
  if (const int code = step(SQLITE_IOERR_FSYNC); code != SQLITE_OK) return code;
  ++state().syncs;
  const int code = of(f).below()->pMethods->xSync(of(f).below(), flags);
  if (code == SQLITE_OK && of(f).is_wal) state().unsynced_wal = 0;
  return code;
}
int x_file_size(sqlite3_file* f, sqlite3_int64* size) { return of(f).below()->pMethods->xFileSize(of(f).below(), size); }
int x_lock(sqlite3_file* f, int level) { return of(f).below()->pMethods->xLock(of(f).below(), level); }
int x_unlock(sqlite3_file* f, int level) { return of(f).below()->pMethods->xUnlock(of(f).below(), level); }
int x_check_reserved(sqlite3_file* f, int* out) { return of(f).below()->pMethods->xCheckReservedLock(of(f).below(), out); }
int x_control(sqlite3_file* f, int op, void* arg) { return of(f).below()->pMethods->xFileControl(of(f).below(), op, arg); }
int x_sector(sqlite3_file* f) { return of(f).below()->pMethods->xSectorSize(of(f).below()); }
int x_characteristics(sqlite3_file* f) { return of(f).below()->pMethods->xDeviceCharacteristics(of(f).below()); }
int x_shm_map(sqlite3_file* f, int page, int size, int extend, void volatile** out) {
  if (const int code = step(SQLITE_IOERR_SHMMAP); code != SQLITE_OK) {
    *out = nullptr;
    return code;
  }
  return of(f).below()->pMethods->xShmMap(of(f).below(), page, size, extend, out);
}
int x_shm_lock(sqlite3_file* f, int offset, int n, int flags) { return of(f).below()->pMethods->xShmLock(of(f).below(), offset, n, flags); }
void x_shm_barrier(sqlite3_file* f) { of(f).below()->pMethods->xShmBarrier(of(f).below()); }
int x_shm_unmap(sqlite3_file* f, int remove) { return of(f).below()->pMethods->xShmUnmap(of(f).below(), remove); }

const sqlite3_io_methods kMethods = {.iVersion = 2, .xClose = x_close, .xRead = x_read, .xWrite = x_write, .xTruncate = x_truncate, .xSync = x_sync, .xFileSize = x_file_size,
                                     .xLock = x_lock, .xUnlock = x_unlock, .xCheckReservedLock = x_check_reserved, .xFileControl = x_control, .xSectorSize = x_sector,
                                     .xDeviceCharacteristics = x_characteristics, .xShmMap = x_shm_map, .xShmLock = x_shm_lock, .xShmBarrier = x_shm_barrier,
                                     .xShmUnmap = x_shm_unmap, .xFetch = nullptr, .xUnfetch = nullptr};

int x_open(sqlite3_vfs*, const char* path, sqlite3_file* f, int flags, int* out) {
  f->pMethods = nullptr;
  if (const int code = step(SQLITE_CANTOPEN); code != SQLITE_OK) return code;
  FaultFile& file = of(f);
  file.is_wal = (flags & SQLITE_OPEN_WAL) != 0;
  const int code = state().below->xOpen(state().below, path, file.below(), flags, out);
  f->pMethods = file.below()->pMethods != nullptr ? &kMethods : nullptr;
  return code;
}
int x_delete(sqlite3_vfs*, const char* path, int sync_directory) {
  if (const int code = step(SQLITE_IOERR_DELETE); code != SQLITE_OK) return code;
  return state().below->xDelete(state().below, path, sync_directory);
}
int x_access(sqlite3_vfs*, const char* path, int flags, int* out) { return state().below->xAccess(state().below, path, flags, out); }
int x_full_path(sqlite3_vfs*, const char* path, int n, char* out) { return state().below->xFullPathname(state().below, path, n, out); }
int x_randomness(sqlite3_vfs*, int n, char* out) { return state().below->xRandomness(state().below, n, out); }
int x_sleep(sqlite3_vfs*, int us) { return state().below->xSleep(state().below, us); }
int x_time(sqlite3_vfs*, double* out) { return state().below->xCurrentTime(state().below, out); }
int x_last_error(sqlite3_vfs*, int n, char* out) { return state().below->xGetLastError != nullptr ? state().below->xGetLastError(state().below, n, out) : 0; }
int x_time64(sqlite3_vfs*, sqlite3_int64* out) { return state().below->xCurrentTimeInt64(state().below, out); }

}  // namespace

const char* FaultVfs::name() { return "drover-fault"; }

FaultVfs::FaultVfs() {
  State& s = state();
  s.below = sqlite3_vfs_find(nullptr);
  if (s.below == nullptr) std::abort();
  s.vfs = {};
  s.vfs.iVersion = 2;
  s.vfs.szOsFile = static_cast<int>(sizeof(FaultFile)) + s.below->szOsFile;
  s.vfs.mxPathname = s.below->mxPathname;
  s.vfs.zName = name();
  s.vfs.xOpen = x_open;
  s.vfs.xDelete = x_delete;
  s.vfs.xAccess = x_access;
  s.vfs.xFullPathname = x_full_path;
  s.vfs.xRandomness = x_randomness;
  s.vfs.xSleep = x_sleep;
  s.vfs.xCurrentTime = x_time;
  s.vfs.xGetLastError = x_last_error;
  s.vfs.xCurrentTimeInt64 = x_time64;
  if (sqlite3_vfs_register(&s.vfs, 0) != SQLITE_OK) std::abort();
  s.unsynced_wal = 0;
  s.syncs = 0;
  disarm();
}
FaultVfs::~FaultVfs() {
  disarm();
  sqlite3_vfs_unregister(&state().vfs);
}
void FaultVfs::arm(VfsFault fault) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  s.fault = std::move(fault);
  s.calls = 0;
  s.hit = false;
}
std::uint64_t FaultVfs::calls() const {
  const std::lock_guard lock(state().mutex);
  return state().calls;
}
bool FaultVfs::hit() const {
  const std::lock_guard lock(state().mutex);
  return state().hit;
}
std::uint64_t FaultVfs::unsynced_wal_bytes() const { return state().unsynced_wal; }
std::uint64_t FaultVfs::syncs() const { return state().syncs; }

}  // namespace drover::sim
