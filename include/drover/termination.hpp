#pragma once
/// SIGINT, SIGTERM and SIGHUP as a thing to wait for, for a verb that serves until it is told to end. Made in main's thread before any other
/// thread exists: they inherit the blocked mask.

#include <memory>

#include "drover/types/error.hpp"
#include "drover/types/time.hpp"

namespace drover {

class Termination {
 public:
  /// With `until_stdin_ends` the end of stdin counts as SIGHUP: for a server that must not outlive the program that started it.
  static Result<Termination> watch(bool until_stdin_ends = false);
  Termination(Termination&&) noexcept;
  Termination& operator=(Termination&&) noexcept;
  ~Termination();  ///< the signals stay blocked: the program is about to end
  /// The signal's number; 0: `deadline` came first. A signal once told is told again by every further call.
  int wait(TimePoint deadline);

 private:
  struct Impl;
  explicit Termination(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace drover
