#pragma once
/// What supervisor and keeper say to each other, one SOCK_SEQPACKET message each. Same binary on both ends (the keeper is
/// embedded), so the words are plain structs; `version` refuses anything else. Read by the static keeper too: no library
/// beyond headers of the language.
///
/// Supervisor to keeper: KeeperSpawn, with descriptors in the order of `KeeperSpawnFds`. argv, env and cwd travel in a sealed
/// memfd, whatever their size: argc + envc + 1 strings, each ended by a zero byte, cwd last ("" = keep).
/// Keeper to supervisor: KeeperReply; `spawned` carries the pidfd.

#include <cstddef>
#include <cstdint>

namespace drover::wire {

inline constexpr std::uint32_t kKeeperMagic = 0x5250524bu;  // "KRPR"
inline constexpr std::uint32_t kKeeperVersion = 1;

inline constexpr std::uint32_t kKeeperFdsMax = 32;
inline constexpr std::uint32_t kKeeperCgroupsMax = 4;
inline constexpr std::uint32_t kKeeperRlimitsMax = 16;
inline constexpr std::uint32_t kKeeperBlobBytesMax = 4u << 20;
inline constexpr std::uint32_t kKeeperStringsMax = 1u << 16;

// Descriptors the keeper is born with. 0-2 are /dev/null.
inline constexpr int kKeeperSocketFd = 3;
inline constexpr int kKeeperSupervisorFd = 4;  // pidfd of the supervisor: its lifeline
inline constexpr int kKeeperImageFd = 5;       // executable of workers

/// How it was started, argv[1].
enum class KeeperMode : std::uint32_t { pid_namespace = 1, user_pid_namespace = 2, subreaper = 3 };

struct KeeperRlimit {
  std::uint32_t resource = 0;
  std::uint32_t reserved = 0;
  std::uint64_t soft = 0, hard = 0;
};

namespace keeper_flag {
inline constexpr std::uint32_t kImage = 1;  // each: its descriptor is in the message
inline constexpr std::uint32_t kStdin = 2;
inline constexpr std::uint32_t kStdout = 4;
inline constexpr std::uint32_t kStderr = 8;
inline constexpr std::uint32_t kNice = 16;
inline constexpr std::uint32_t kAll = 31;
}  // namespace keeper_flag

struct KeeperSpawn {
  std::uint32_t magic = kKeeperMagic;
  std::uint32_t version = kKeeperVersion;
  std::uint32_t slot = 0;
  std::uint32_t incarnation = 0;
  std::uint32_t flags = 0;
  std::uint32_t argc = 0;
  std::uint32_t envc = 0;
  std::uint32_t blob_bytes = 0;
  std::uint32_t cgroups = 0;
  std::uint32_t fds = 0;
  std::uint32_t rlimits = 0;
  std::int32_t nice = 0;
  KeeperRlimit rlimit[kKeeperRlimitsMax] = {};
};

/// Order of the descriptors in a KeeperSpawn: blob, then image, stdin, stdout, stderr as far as flagged, cgroups, fds.
inline constexpr std::uint32_t keeper_fds_expected(const KeeperSpawn& spawn) {
  std::uint32_t count = 1 + spawn.cgroups + spawn.fds;
  for (std::uint32_t bit = keeper_flag::kImage; bit <= keeper_flag::kStderr; bit <<= 1) count += (spawn.flags & bit) != 0;
  return count;
}
inline constexpr std::uint32_t kKeeperMessageFdsMax = 1 + 4 + kKeeperCgroupsMax + kKeeperFdsMax;

/// True if the keeper may act on it: every count within its bound and as many descriptors as it says.
inline constexpr bool is_valid(const KeeperSpawn& spawn, std::size_t message_bytes, std::size_t fds_received) {
  return message_bytes == sizeof(KeeperSpawn) && spawn.magic == kKeeperMagic && spawn.version == kKeeperVersion &&
         (spawn.flags & ~keeper_flag::kAll) == 0 && spawn.argc >= 1 && spawn.argc <= kKeeperStringsMax && spawn.envc <= kKeeperStringsMax &&
         spawn.blob_bytes >= spawn.argc + spawn.envc + 1 && spawn.blob_bytes <= kKeeperBlobBytesMax && spawn.cgroups <= kKeeperCgroupsMax &&
         spawn.fds <= kKeeperFdsMax && spawn.rlimits <= kKeeperRlimitsMax && fds_received == keeper_fds_expected(spawn);
}

/// Points `strings[i]` at the i-th of `count` strings in the blob. False unless there are exactly that many and the last
/// byte ends the last of them.
inline bool split_blob(const char* blob, std::size_t bytes, const char** strings, std::size_t count) {
  std::size_t found = 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < bytes; ++i) {
    if (blob[i] != '\0') continue;
    if (found == count) return false;
    strings[found++] = blob + begin;
    begin = i + 1;
  }
  return found == count && begin == bytes;
}

enum class KeeperReplyKind : std::uint32_t { hello = 1, spawned, spawn_failed, ended, orphans_swept, gave_up };

/// Why a process could not be started; names in keeper_step_name.
enum class KeeperStep : std::int32_t { none, request, table, arguments, clone, session, stdio, fds, cgroup, rlimit, nice, cwd, exec };
inline constexpr const char* keeper_step_name(std::int32_t step) {
  constexpr const char* kNames[] = {"none", "request", "table",  "arguments", "clone", "session", "stdio",
                                    "fds",  "cgroup",  "rlimit", "nice",      "cwd",   "exec"};
  return step >= 0 && step < static_cast<std::int32_t>(sizeof kNames / sizeof kNames[0]) ? kNames[step] : "unknown";
}

enum class KeeperGaveUp : std::int32_t { deadline = 1, sweep_did_not_converge, broken_request };

struct KeeperReply {
  std::uint32_t magic = kKeeperMagic;
  KeeperReplyKind kind{};
  std::uint32_t slot = 0;
  std::uint32_t incarnation = 0;
  std::int32_t what =
      0;  // hello: KeeperMode; spawned: its pid in /proc, or 0; spawn_failed: KeeperStep; ended: si_code; gave_up: KeeperGaveUp
  std::int32_t value = 0;  // hello: 1 if orphans can be swept; spawn_failed: errno; ended: si_status; orphans_swept: killed
  std::int64_t user_ns = 0;
  std::int64_t system_ns = 0;
  std::uint64_t rss_max_bytes = 0;
};

static_assert(sizeof(KeeperReply) == 48 && sizeof(KeeperSpawn) == 48 + 24 * kKeeperRlimitsMax);

}  // namespace drover::wire
