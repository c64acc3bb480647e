#pragma once
/// SIGINT, SIGTERM and SIGHUP of the command line, turned into calls on a thread of their own. Made in main's thread before any
/// other thread exists: they inherit the blocked mask, so no signal ever interrupts one. The library itself installs nothing.

#include <functional>
#include <memory>
#include <thread>

#include "drover/types/error.hpp"
#include "os/event_fd.hpp"

namespace drover::cli {

class Signals {
 public:
  /// `told(signal, nth)` for each signal, nth from 1.
  static Result<std::unique_ptr<Signals>> watch(std::function<void(int signal, int nth)> told);
  ~Signals();   ///< ends the thread; the signals stay blocked, the program is about to end

 private:
  Signals(UniqueFd signals, EventFd end) : signals_(std::move(signals)), end_(std::move(end)) {}
  UniqueFd signals_;
  EventFd end_;
  std::jthread thread_;
};

}  // namespace drover::cli
