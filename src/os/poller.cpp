#include "os/poller.hpp"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <atomic>

#include "base/assert.hpp"
#include "os/clock.hpp"

namespace drover {
namespace {

std::uint32_t events_of(Interest interest) {
  switch (interest) {
    case Interest::readable: return EPOLLIN;
    case Interest::writable: return EPOLLOUT;
    case Interest::both: return EPOLLIN | EPOLLOUT;
  }
  return EPOLLIN;
}

constexpr int kEventsMax = 256;

/// epoll_pwait2 takes nanoseconds (Linux 5.11); older kernels get milliseconds, rounded up so that no deadline is early.
int wait_once(int epoll, epoll_event* events, Nanos timeout, bool forever) {
  static std::atomic<bool> has_pwait2{true};
  if (forever) return ::epoll_wait(epoll, events, kEventsMax, -1);
  if (timeout <= Nanos::zero()) return ::epoll_wait(epoll, events, kEventsMax, 0);
  if (has_pwait2.load(std::memory_order_relaxed)) {
    const auto whole = std::chrono::duration_cast<Seconds>(timeout);
    const timespec span{.tv_sec = whole.count(), .tv_nsec = (timeout - whole).count()};
    const int count = ::epoll_pwait2(epoll, events, kEventsMax, &span, nullptr);
    if (count >= 0 || errno != ENOSYS) return count;
    has_pwait2.store(false, std::memory_order_relaxed);
  }
  const auto millis = std::chrono::ceil<Millis>(timeout).count();
  return ::epoll_wait(epoll, events, kEventsMax, static_cast<int>(millis > 1'000'000 ? 1'000'000 : millis));
}

}  // namespace

Result<Poller> Poller::create() {
  const int fd = ::epoll_create1(EPOLL_CLOEXEC);
  if (fd < 0) return fail_errno(errno, "create an epoll set");
  return Poller(UniqueFd(fd));
}

Result<void> Poller::add(int fd, std::uint64_t token, Interest interest) {
  epoll_event event{};
  event.events = events_of(interest);
  event.data.u64 = token;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return fail_errno(errno, "watch a descriptor");
  return {};
}

Result<void> Poller::modify(int fd, std::uint64_t token, Interest interest) {
  epoll_event event{};
  event.events = events_of(interest);
  event.data.u64 = token;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) != 0) return fail_errno(errno, "watch a descriptor differently");
  return {};
}

Result<void> Poller::remove(int fd) {
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr) != 0) return fail_errno(errno, "stop watching a descriptor");
  return {};
}

Result<void> Poller::wait(TimePoint deadline, std::vector<std::uint64_t>& ready) {
  std::array<epoll_event, kEventsMax> events;
  ready.clear();
  const bool forever = deadline == kNever;
  for (;;) {
    const Nanos left = forever ? Nanos::zero() : deadline - system_clock().now();
    const int count = wait_once(epoll_.get(), events.data(), left, forever);
    if (count > 0) {
      for (int i = 0; i < count; ++i) ready.push_back(events[static_cast<std::size_t>(i)].data.u64);
      return {};
    }
    if (count < 0 && errno != EINTR) return fail_errno(errno, "wait for events");
    if (!forever && system_clock().now() >= deadline) return {};
  }
}

bool wait_readable(int fd, TimePoint deadline) {
  for (;;) {
    int timeout_ms = -1;
    if (deadline != kNever) {
      const auto left = std::chrono::ceil<Millis>(deadline - system_clock().now()).count();
      timeout_ms = static_cast<int>(std::clamp<std::int64_t>(left, 0, 1'000'000));
    }
    pollfd one{fd, POLLIN, 0};
    const int ready = ::poll(&one, 1, timeout_ms);
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
    if (deadline != kNever && system_clock().now() >= deadline) return false;
  }
}

}  // namespace drover
