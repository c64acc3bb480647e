#pragma once
/// What a sandbox's owner and its warden say to each other, one SOCK_SEQPACKET message each. Same binary on both ends; plain
/// structs, read by the static warden too.
///
/// The owner sends one WardenSetup, then one WardenRun at a time; WardenCancel while one runs. The warden answers WardenReady,
/// then one WardenEnded a run, sent when the run's last process is dead and reaped.
///
/// Strings travel in a memfd, each ended by a zero byte. WardenSetup: pairs (host path, path inside), bound read-only; then the
/// seccomp program in a second memfd; then the zygote's argv.  WardenRun: argv, env, then a name for each file; descriptors: blob, stdin, stdout, stderr,
/// the files.

#include <cstddef>
#include <cstdint>

namespace drover::wire {

inline constexpr std::uint32_t kWardenMagic = 0x4e445257u;  // "WRDN"
inline constexpr int kWardenSocketFd = 3;
inline constexpr int kWardenOwnerFd = 4;  // pidfd of the owner's process
inline constexpr std::uint32_t kWardenFilesMax = 16;
inline constexpr std::uint32_t kWardenFdsMax = 5 + kWardenFilesMax;
inline constexpr std::uint32_t kWardenStringsMax = 4096;
inline constexpr std::uint32_t kWardenBlobBytesMax = 1u << 20;

enum class WardenKind : std::uint32_t { setup = 1, run, cancel, ready, ended, failed };

/// What holds a candidate. Bits of WardenReady::layers; a bit that is off is off for every run.
namespace warden_layer {
inline constexpr std::uint32_t kPidNamespace = 1, kMountNamespace = 2, kNetNamespace = 4, kIpcNamespace = 8, kUtsNamespace = 16;
inline constexpr std::uint32_t kReadOnlyRoot = 32, kPrivateTmpfs = 64, kOwnUid = 128, kNoCapabilities = 256, kNoNewPrivileges = 512;
inline constexpr std::uint32_t kLandlock = 1024, kSeccomp = 2048, kProc = 4096, kLandlockScope = 8192, kZygote = 16384;
inline constexpr std::uint32_t kMemoryCgroup = 32768, kProcessCgroup = 65536, kCpuCgroup = 131072;  // the owner's to make
}  // namespace warden_layer

struct WardenSetup {
  std::uint32_t magic = kWardenMagic;
  WardenKind kind = WardenKind::setup;
  std::uint32_t binds = 0;
  std::uint32_t blob_bytes = 0;
  std::uint32_t filter_bytes = 0;
  std::uint32_t leave_out = 0;     ///< layers not to use, for the tests that show what each is good for
  std::uint32_t uid_first = 0;     ///< runs take uid_first, uid_first + 1, ... ; 0: no uids to give, stay who we are
  std::uint32_t uid_count = 0;
  std::uint32_t zygote_argc = 0;   ///< its argv follows the binds; 0: none
  std::uint32_t home = 0;          ///< 1: no namespaces; the last string is the directory runs work in, owned by the warden from now on
  std::uint32_t first_to_go = 0;   ///< 1: a limit of memory holds for all of the sandbox; candidates offer themselves to the kernel's killer
};

struct WardenRun {
  std::uint32_t magic = kWardenMagic;
  WardenKind kind = WardenKind::run;
  std::uint32_t argc = 0, envc = 0, files = 0, blob_bytes = 0;
  std::uint32_t number = 0;        ///< of the run; comes back in its end
  std::uint32_t take = 0;          ///< 1: the last string names a file to be handed out at the end
  std::uint32_t channel = 0;       ///< 1: the last descriptor becomes descriptor 3
  std::uint32_t zygote = 0;        ///< 1: argv[0] names one of the zygote's programs, the rest is its argv
  std::int64_t cpu_ns = 0, wall_ns = 0;  ///< wall: not counting what it waited for a core, up to as much again
  std::uint64_t memory_bytes = 0;  ///< resident, all processes together, looked at every 10 ms
  std::uint64_t address_bytes = 0; ///< RLIMIT_AS; 0: none
  std::uint64_t tmpfs_bytes = 0, tmpfs_inodes = 0, file_bytes = 0, stack_bytes = 0;
  std::uint32_t processes = 0, open_files = 0;
};

enum class WardenLimit : std::uint32_t { none, cpu, wall, memory, cancelled };
enum class WardenStep : std::uint32_t { none, blob, tmpfs, files, clone, fds, rlimit, uid, capabilities, landlock, seccomp, exec, kill, root, binds, proc, zygote };

struct WardenReply {
  std::uint32_t magic = kWardenMagic;
  WardenKind kind = WardenKind::ready;
  std::uint32_t layers = 0;        ///< ready
  std::uint32_t number = 0;
  WardenStep step = WardenStep::none;  ///< failed: where
  std::int32_t error = 0;
  WardenLimit limit = WardenLimit::none;  ///< ended by the warden for this
  std::int32_t cld_code = 0, status = 0;  ///< CLD_EXITED, CLD_KILLED, CLD_DUMPED of the first process
  std::uint32_t processes_peak = 0;
  std::uint32_t left_behind = 0;   ///< processes that outlived the first one
  std::int64_t user_ns = 0, system_ns = 0, wall_ns = 0;
  std::int64_t starved_ns = -1;    ///< how long it waited for a core, by the kernel's count, where the wall ended it; -1: unknown (more than one thread or process, or no /proc)
  std::uint64_t rss_peak_bytes = 0;  ///< of all processes at a look, or of the largest by the kernel's count
  std::uint64_t taken_bytes = 0;   ///< of the file handed out, whose descriptor comes along; ~0: it was not there
};

}  // namespace drover::wire
