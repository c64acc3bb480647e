#pragma once
/// The memory a supervisor and one incarnation of a worker share, and the memory all workers read. docs/wire_format.md has the
/// grammar and a worked example; tests/wire checks that page against these types.
///
/// One sealed memfd per incarnation, made fresh by the supervisor, mapped writable by both:
///
///   offset      size        what                     written by
///   0           4096        ControlPage              one side a cache line, see below; death_word also by the kernel
///   4096        256 x 64    submission slots         supervisor; the claim word of a slot by both (compare-and-swap)
///   20480       256 x 64    completion slots         worker
///   36864       4096        released[64]             supervisor side (whoever let go of a result)
///   40960       arena       results above 32 bytes   worker
///
/// No word of this is ever written by two workers. Positions count from 0 and never wrap within a process's life (64 bit);
/// position p lives in slot p % 256. At most 128 leases are open at a time, so neither ring can overflow and neither side
/// publishes a read position: the supervisor trusts nothing a worker could write about how far it has read.
///
/// One sealed memfd per pool, written by the supervisor's process only (F_SEAL_FUTURE_WRITE), mapped read-only by all workers:
/// PoolPage, then task inputs above 32 bytes and broadcasts ("input arena").

#include <atomic>
#include <array>
#include <cstddef>
#include <cstdint>

namespace drover::wire {

inline constexpr std::uint32_t kSlots = 256;
inline constexpr std::uint32_t kWindowMax = 128;
inline constexpr std::uint32_t kInlineBytes = 32;
inline constexpr std::uint32_t kExtents = 64;
inline constexpr std::uint64_t kGranule = 64;          ///< arena offsets are multiples of this
inline constexpr std::uint32_t kBroadcasts = 64;
inline constexpr std::uint64_t kMagic = 0x31765245564f5244;  // "DROVERv1", little-endian
inline constexpr std::uint32_t kVersion = 1;

/// File descriptors of a worker, by number.
inline constexpr int kIncarnationFd = 3;
inline constexpr int kWorkerBellFd = 4;      ///< eventfd; the supervisor rings, the worker sleeps on it
inline constexpr int kSupervisorBellFd = 5;  ///< eventfd; the worker rings
inline constexpr int kPoolFd = 6;            ///< PoolPage and input arena, read-only
inline constexpr int kSharedFd = 7;          ///< shared segment, only if there is one
/// argv[1] of a worker.
inline constexpr const char* kWorkerArgument = "--drover-worker";

enum class Claim : std::uint32_t { empty = 0, leased = 1, claimed = 2, revoked = 3 };

enum class SlotKind : std::uint8_t {
  task = 1,       ///< submission
  completed = 2,  ///< completion: the bytes are the result
  app_error = 3,  ///< completion: the bytes are the reason
};

/// One task going out or one ending coming back: a cache line.
struct alignas(64) Slot {
  std::uint64_t task = 0;
  std::uint32_t epoch = 0;
  std::atomic<std::uint32_t> claim{0};    ///< submission: Claim; completion: unused
  std::uint32_t broadcast = 0;            ///< submission: version, 0 = none; completion: unused
  std::uint32_t length = 0;               ///< of the payload, inline or in an arena
  std::uint32_t granule = 0;              ///< payload's place in the arena, in units of kGranule; unused when inline
  std::uint16_t function_or_extent = 0;   ///< submission: index of the task function; completion: extent, kNoExtent when inline
  std::uint8_t kind = 0;
  std::uint8_t inline_size = 0;           ///< == length when the payload is inline, else 0
  std::array<std::byte, kInlineBytes> inline_bytes{};
};
static_assert(sizeof(Slot) == 64);
inline constexpr std::uint16_t kNoExtent = 0xffff;

struct ControlPage {
  // written once by the supervisor before the worker starts
  std::uint64_t magic = kMagic;
  std::uint32_t version = kVersion;
  std::uint32_t slot = 0;
  std::uint32_t incarnation = 0;
  std::uint32_t has_shared_segment = 0;
  std::uint64_t arena_bytes = 0;
  std::uint64_t pool_bytes = 0;
  std::uint64_t shared_bytes = 0;
  std::uint64_t job_seed = 0;
  std::uint64_t functions_hash = 0;   ///< names of the registered task functions, in order: both sides must agree
  std::uint32_t warm_up = 0;          ///< 1 + index of the function to start before ready; 0 = none
  // written by the supervisor while running
  alignas(64) std::atomic<std::uint64_t> submission_tail{0};
  std::atomic<std::uint32_t> stop{0};
  alignas(64) std::atomic<std::uint32_t> supervisor_sleeping{1};
  // written by the worker
  alignas(64) std::atomic<std::uint64_t> completion_tail{0};
  alignas(64) std::atomic<std::uint32_t> worker_sleeping{0};
  std::atomic<std::uint32_t> ready{0};         ///< 1 ready; 2 start failed, reason in start_error
  std::atomic<std::uint64_t> progress{0};      ///< Context::progress
  std::atomic<std::uint64_t> skipped_upto{0};  ///< positions below were passed; written only when a taken-back lease is skipped
  alignas(64) std::array<char, 256> start_error{};
  // written by the worker once and by the kernel at its death (robust futex): thread id | FUTEX_WAITERS, then FUTEX_OWNER_DIED
  alignas(64) std::atomic<std::uint32_t> death_word{0};
};
static_assert(sizeof(ControlPage) <= 4096);

inline constexpr std::uint64_t kSubmissionOffset = 4096;
inline constexpr std::uint64_t kCompletionOffset = kSubmissionOffset + kSlots * sizeof(Slot);
inline constexpr std::uint64_t kReleasedOffset = kCompletionOffset + kSlots * sizeof(Slot);
inline constexpr std::uint64_t kArenaOffset = kReleasedOffset + 4096;
static_assert(kCompletionOffset == 20480 && kReleasedOffset == 36864 && kArenaOffset == 40960);

/// Typed places in a mapped incarnation memory. Holds no ownership.
struct IncarnationView {
  std::byte* base = nullptr;
  ControlPage& control() const { return *reinterpret_cast<ControlPage*>(base); }
  Slot* submissions() const { return reinterpret_cast<Slot*>(base + kSubmissionOffset); }
  Slot* completions() const { return reinterpret_cast<Slot*>(base + kCompletionOffset); }
  std::atomic<std::uint32_t>* released() const { return reinterpret_cast<std::atomic<std::uint32_t>*>(base + kReleasedOffset); }
  std::byte* arena() const { return base + kArenaOffset; }
};

/// A broadcast: bytes every task leased with `version` sees. Entry version % kBroadcasts; not reused while a task refers to it.
struct BroadcastEntry {
  std::atomic<std::uint32_t> version{0};
  std::uint32_t reserved = 0;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};
struct PoolPage {
  std::uint64_t magic = kMagic;
  std::uint64_t setup_offset = 0;
  std::uint64_t setup_length = 0;
  std::array<BroadcastEntry, kBroadcasts> broadcasts{};
};
static_assert(sizeof(PoolPage) <= 4096);
inline constexpr std::uint64_t kPoolArenaOffset = 4096;

}  // namespace drover::wire
