#pragma once
/// What supervisor and watchdog share. Like keeper_message.hpp: plain structs, read by the static watchdog too.
///
/// Orders (supervisor to watchdog): WatchdogOrder, with the keeper's new pidfd. Words (watchdog to supervisor): WatchdogWord.
/// BeatPage: written by the supervisor alone, mapped read-only by the watchdog.

#include <atomic>
#include <cstdint>

namespace drover::wire {

inline constexpr std::uint32_t kWatchdogMagic = 0x52474457u;  // "WDGR"

inline constexpr int kWatchdogSocketFd = 3;
inline constexpr int kWatchdogSupervisorFd = 4;  // pidfd
inline constexpr int kWatchdogKeeperFd = 5;      // pidfd
inline constexpr int kWatchdogBeatFd = 6;        // memfd of one BeatPage

/// The watchdog looks every tick = beat_silence / kWatchdogTicks while armed, and fires after that many looks at a beat that
/// stands still: looks are counted, not time, so a host that was paused for an hour loses one look.
inline constexpr std::uint32_t kWatchdogTicks = 4;

/// Disarming is a store and the watchdog notices by itself. It stops looking once `disarmed_at` is 2 ticks old, so a
/// supervisor that arms again within 1 tick need not wake it, and one that does so later must. Order of arming: store armed,
/// then read the clock, then decide: the watchdog that slept at 2 ticks has not missed a store made before 1 tick.
struct BeatPage {
  std::atomic<std::uint64_t> beat;
  std::atomic<std::uint32_t> armed;
  std::atomic<std::uint32_t> reserved;
  std::atomic<std::int64_t> disarmed_at_ns;  // CLOCK_MONOTONIC
};

enum class WatchdogOrderKind : std::uint32_t { wake = 1, watch };
struct WatchdogOrder {
  std::uint32_t magic = kWatchdogMagic;
  WatchdogOrderKind kind{};
};

enum class WatchdogWordKind : std::uint32_t { ready = 1, fired_deadline, fired_silence };
struct WatchdogWord {
  std::uint32_t magic = kWatchdogMagic;
  WatchdogWordKind kind{};
};

}  // namespace drover::wire
