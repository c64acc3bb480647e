#include "os/clock.hpp"

#include <time.h>

namespace drover {
namespace {

Nanos read_clock(clockid_t id) {
  timespec time{};
  ::clock_gettime(id, &time);
  return Seconds(time.tv_sec) + Nanos(time.tv_nsec);
}

class SystemClock final : public Clock {
 public:
  TimePoint now() const override { return TimePoint(read_clock(CLOCK_MONOTONIC)); }
  Nanos boottime() const override { return read_clock(CLOCK_BOOTTIME); }
};

}  // namespace

const Clock& system_clock() {
  static constinit const SystemClock clock;
  return clock;
}

}  // namespace drover
