/// The watchdog: a process of its own with one power, SIGKILL for the keeper, and three reasons to use it: the run's deadline
/// has passed, the armed supervisor's beat stands still, the supervisor is dead. See supervisor/watchdog_link.hpp.
///
/// It is woken with SIGCONT when the thread that started it ends, so that a stopped watchdog cannot outlive the run: it sees
/// its lifeline, kills and ends.
///
/// argv: name, run deadline (CLOCK_BOOTTIME ns, -1 none), tick (ns). Descriptors: wire/watchdog_message.hpp.

#include <sys/mman.h>

#include "os/bare.hpp"
#include "wire/watchdog_message.hpp"

namespace {

using namespace drover;
using namespace drover::wire;

void say(WatchdogWordKind kind) {
  const WatchdogWord word{.kind = kind};
  bare::send_message(kWatchdogSocketFd, &word, sizeof word, -1);
}

struct Ticker {
  int timer = -1;
  std::int64_t tick_ns = 0;
  bool running = false;

  void run(bool on) {
    if (on == running) return;
    running = on;
    itimerspec when{};
    if (on) {
      when.it_interval.tv_sec = when.it_value.tv_sec = static_cast<time_t>(tick_ns / 1'000'000'000);
      when.it_interval.tv_nsec = when.it_value.tv_nsec = static_cast<long>(tick_ns % 1'000'000'000);
    }
    timerfd_settime(timer, 0, &when, nullptr);
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  bare::reset_signals();
  prctl(PR_SET_NAME, "drover-watchdog");
  prctl(PR_SET_PDEATHSIG, SIGCONT);
  setsid();
  int keeper = kWatchdogKeeperFd;
  const std::int64_t deadline_ns = bare::parse_number(argv[1]);
  Ticker ticker;
  ticker.tick_ns = bare::parse_number(argv[2]);
  ticker.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  const int deadline = deadline_ns >= 0 ? bare::make_boottime_timer(deadline_ns) : -1;
  void* memory = mmap(nullptr, sizeof(BeatPage), PROT_READ, MAP_SHARED, kWatchdogBeatFd, 0);
  if (ticker.timer < 0 || ticker.tick_ns <= 0 || (deadline_ns >= 0 && deadline < 0) || memory == MAP_FAILED) return 3;
  const BeatPage& page = *static_cast<const BeatPage*>(memory);
  mlockall(MCL_CURRENT);  // best effort: a swapping host must not delay it
  say(WatchdogWordKind::ready);

  bool deadline_passed = false;
  std::uint64_t beat_seen = 0;
  std::uint32_t looks_without_beat = 0;
  for (;;) {
    pollfd waits[4] = {
        {kWatchdogSupervisorFd, POLLIN, 0},
        {deadline_passed ? -1 : deadline, POLLIN, 0},
        {kWatchdogSocketFd, POLLIN, 0},
        {ticker.timer, POLLIN, 0},
    };
    if (poll(waits, 4, -1) < 0 && errno != EINTR) break;
    if (waits[0].revents != 0) break;  // supervisor dead
    if (waits[1].revents != 0) {
      deadline_passed = true;
      say(WatchdogWordKind::fired_deadline);
      bare::send_signal(keeper, SIGKILL);
    }
    if (waits[2].revents != 0) {
      WatchdogOrder order;
      int received[1];
      std::size_t count = 0;
      const ssize_t got = bare::receive_message(kWatchdogSocketFd, &order, sizeof order, received, 1, &count);
      if (got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK)) break;  // hung up
      if (got > 0) {
        if (got != sizeof order || order.magic != kWatchdogMagic) break;
        if (order.kind == WatchdogOrderKind::watch && count == 1) {
          close(keeper);
          keeper = received[0];
          if (deadline_passed) bare::send_signal(keeper, SIGKILL);  // there is no run to start it for
        }
        // Armed or not: a supervisor that has disarmed since counts on two more ticks (BeatPage).
        if (order.kind == WatchdogOrderKind::wake && !ticker.running) {
          beat_seen = page.beat.load(std::memory_order_relaxed);
          looks_without_beat = 0;
          ticker.run(true);
        }
      }
    }
    if (waits[3].revents != 0) {
      std::uint64_t expirations;
      if (read(ticker.timer, &expirations, sizeof expirations) < 0) continue;
      if (page.armed.load(std::memory_order_seq_cst) == 0) {
        looks_without_beat = 0;
        const std::int64_t disarmed_at = page.disarmed_at_ns.load(std::memory_order_relaxed);
        if (bare::now_ns(CLOCK_MONOTONIC) - disarmed_at >= 2 * ticker.tick_ns) ticker.run(false);
        continue;
      }
      const std::uint64_t beat = page.beat.load(std::memory_order_relaxed);
      looks_without_beat = beat == beat_seen ? looks_without_beat + 1 : 0;
      beat_seen = beat;
      if (looks_without_beat >= kWatchdogTicks) {
        say(WatchdogWordKind::fired_silence);
        bare::send_signal(keeper, SIGKILL);
        ticker.run(false);  // until armed anew
      }
    }
  }
  bare::send_signal(keeper, SIGKILL);
  _exit(0);
}
