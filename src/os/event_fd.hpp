#pragma once
/// A bell: ring() from any thread or process that holds it, drain() by the one who waits for fd() to become readable.
/// Rings between two drains melt into one. Neither call ever blocks.

#include <cstdint>

#include "drover/types/error.hpp"
#include "os/unique_fd.hpp"

namespace drover {

class EventFd {
 public:
  static Result<EventFd> create();
  /// Takes over a descriptor that was inherited or received.
  static EventFd adopt(UniqueFd fd) { return EventFd(std::move(fd)); }

  void ring() const;            ///< a full counter (2^64-2 rings) is rung already: not an error
  std::uint64_t drain() const;  ///< how often it was rung since the last drain; 0 if it was not
  int fd() const { return fd_.get(); }

 private:
  explicit EventFd(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace drover
