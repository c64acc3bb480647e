#pragma once
/// The stop ladder as a value: where one incarnation stands between "please stop" and "nobody waits for it any more". It reads
/// no clock and sends no signal; the scheduler asks it what is due and emits that command.
///
///   idle --begin--> asked --ask--> termed --term--> killed --reap--> abandoned
///     \______________________________________kill___^
///
/// Each grace is counted from the moment its own rung was taken, not from the start: after a suspended supervisor wakes, every
/// rung still gets its time, one rung a step. The sum of the graces bounds the whole.

#include "drover/types/task.hpp"
#include "drover/types/time.hpp"

namespace drover::engine {

enum class Rung : std::uint8_t { idle, asked, termed, killed, abandoned };

class LadderRun {
 public:
  Rung rung() const { return rung_; }
  /// When advance() has something to do; kNever while idle and after the end.
  TimePoint deadline() const { return deadline_; }

  /// Starts from the top. The caller emits AskStop. Without effect unless idle.
  bool begin(const StopLadder& ladder, TimePoint now) {
    if (rung_ != Rung::idle) return false;
    return go(Rung::asked, ladder.ask, now);
  }
  /// Goes straight to SIGKILL. The caller emits Kill. Without effect when already there.
  bool kill(const StopLadder& ladder, TimePoint now) {
    if (rung_ >= Rung::killed) return false;
    return go(Rung::killed, ladder.reap, now);
  }
  /// Takes the next rung if its time has come; tells which one was taken, idle for none.
  Rung advance(const StopLadder& ladder, TimePoint now) {
    if (now < deadline_) return Rung::idle;
    switch (rung_) {
      case Rung::asked: go(Rung::termed, ladder.term, now); return rung_;
      case Rung::termed: go(Rung::killed, ladder.reap, now); return rung_;
      case Rung::killed: go(Rung::abandoned, kUnlimited, now); return rung_;
      case Rung::idle:
      case Rung::abandoned: return Rung::idle;
    }
    return Rung::idle;
  }

 private:
  bool go(Rung rung, Nanos grace, TimePoint now) {
    rung_ = rung;
    deadline_ = after(now, grace);
    return true;
  }
  Rung rung_ = Rung::idle;
  TimePoint deadline_ = kNever;
};

/// The longest a ladder takes, counted from begin().
constexpr Nanos longest(const StopLadder& ladder) { return ladder.ask + ladder.term + ladder.reap; }

}  // namespace drover::engine
