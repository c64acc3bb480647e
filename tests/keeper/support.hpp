#pragma once
// What the keeper's tests share: a link with bounded waits, pipes that tell who is alive, and a proof that nobody is left.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "os/clock.hpp"
#include "os/helper_image.hpp"
#include "os/pidfd.hpp"
#include "os/poller.hpp"
#include "os/unique_fd.hpp"
#include "containment/keeper_link.hpp"
#include "supervisor/watchdog_link.hpp"
#include "support/long.hpp"

namespace drover::test {

inline TimePoint in(Nanos timeout) { return after(system_clock().now(), timeout); }
inline double millis_since(TimePoint begin) { return static_cast<double>((system_clock().now() - begin).count()) / 1e6; }

inline std::string evil_path(const std::string& name) { return std::string(DROVER_BINARY_DIR) + "/tests/evil/" + name; }
inline UniqueFd evil(const std::string& name) {
  UniqueFd fd(::open(evil_path(name).c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_TRUE(fd.valid()) << evil_path(name);
  return fd;
}

/// The same program as everybody may execute it, whatever the checkout's owner, umask and folders allow.
inline UniqueFd evil_for_everybody(const std::string& name) {
  std::ifstream file(evil_path(name), std::ios::binary);
  const std::vector<char> image{std::istreambuf_iterator<char>(file), {}};
  auto fd = make_executable_image(name, std::as_bytes(std::span(image)));
  if (!fd) {
    ADD_FAILURE() << evil_path(name) << ": " << fd.error().what();
    return UniqueFd();
  }
  return std::move(*fd);
}

struct Pipe {
  UniqueFd read_end, write_end;
  Pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) abort();
    read_end.reset(ends[0]);
    write_end.reset(ends[1]);
  }
  /// Reads until `count` bytes came; false if the deadline or end-of-file came first.
  bool wait_bytes(int count, TimePoint deadline) {
    while (count > 0) {
      if (!wait_readable(read_end.get(), deadline)) return false;
      char bytes[64];
      const ssize_t got = ::read(read_end.get(), bytes, static_cast<size_t>(std::min(count, 64)));
      if (got <= 0) return false;
      count -= static_cast<int>(got);
    }
    return true;
  }
  /// True once every holder of the write end is dead. Bytes on the way are read and forgotten.
  bool wait_end(TimePoint deadline) {
    write_end.reset();
    for (;;) {
      if (!wait_readable(read_end.get(), deadline)) return false;
      char bytes[256];
      if (::read(read_end.get(), bytes, sizeof bytes) == 0) return true;
    }
  }
  /// Everything until end-of-file.
  std::string read_all(TimePoint deadline) {
    write_end.reset();
    std::string text;
    char bytes[4096];
    while (wait_readable(read_end.get(), deadline)) {
      const ssize_t got = ::read(read_end.get(), bytes, sizeof bytes);
      if (got <= 0) break;
      text.append(bytes, static_cast<size_t>(got));
    }
    return text;
  }
};

/// A keeper of this process, its messages kept until asked for.
class TestKeeper {
 public:
  explicit TestKeeper(KeeperOptions options = {}) {
    auto link = KeeperLink::start(options, in(Seconds(10)));
    if (!link) {
      ADD_FAILURE() << link.error().what();
      return;
    }
    link_.emplace(std::move(*link));
  }
  KeeperLink& operator*() { return *link_; }
  KeeperLink* operator->() { return &*link_; }

  /// The first message of this type, waiting for it; nothing if the deadline came first. Others stay.
  template <class Message>
  std::optional<Message> wait(TimePoint deadline, const std::function<bool(const Message&)>& wanted = [](const Message&) { return true; }) {
    for (;;) {
      for (auto one = messages_.begin(); one != messages_.end(); ++one) {
        Message* message = std::get_if<Message>(&*one);
        if (message == nullptr || !wanted(*message)) continue;
        std::optional<Message> found(std::move(*message));
        messages_.erase(one);
        return found;
      }
      if (!wait_readable(link_->fd(), deadline)) return std::nullopt;
      const std::size_t before = messages_.size();
      if (!link_->receive(messages_) || messages_.size() == before) return std::nullopt;
    }
  }

  /// Starts it and waits until it runs.
  std::optional<keeper::Spawned> spawn(SpawnRequest request) {
    if (request.incarnation == Incarnation{}) request.incarnation = Incarnation(++incarnations_);
    if (auto sent = link_->request_spawn(request); !sent) {
      ADD_FAILURE() << sent.error().what();
      return std::nullopt;
    }
    auto spawned =
        wait<keeper::Spawned>(in(Seconds(10)), [&](const keeper::Spawned& one) { return one.incarnation == request.incarnation; });
    if (!spawned) {
      auto failed = wait<keeper::SpawnFailed>(in(Millis(0)));
      ADD_FAILURE() << "not spawned: " << (failed ? failed->step + " " + std::to_string(failed->errno_value) : "no word");
    }
    return spawned;
  }
  std::optional<keeper::Ended> wait_ended(Incarnation incarnation, TimePoint deadline = in(Seconds(10))) {
    return wait<keeper::Ended>(deadline, [incarnation](const keeper::Ended& one) { return one.incarnation == incarnation; });
  }

 private:
  std::optional<KeeperLink> link_;
  std::vector<KeeperMessage> messages_;
  std::uint32_t incarnations_ = 1000;
};

/// From here on, processes orphaned below us become our children, keepers of killed stand-ins included.
inline void become_subreaper() { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }

/// True once this process has no child of any kind. Reaps; waits on pidfds of what /proc lists, so it does not spin.
inline bool wait_no_children(TimePoint deadline) {
  for (;;) {
    const pid_t dead = ::waitpid(-1, nullptr, WNOHANG | __WALL);
    if (dead < 0) return true;  // ECHILD
    if (dead > 0) continue;
    if (system_clock().now() >= deadline) return false;
    std::string list;
    if (FILE* children = ::fopen("/proc/thread-self/children", "re")) {
      char text[256];
      if (::fgets(text, sizeof text, children) != nullptr) list = text;
      ::fclose(children);
    }
    const auto first = PidFd::open(static_cast<pid_t>(::atol(list.c_str())));
    if (first) (void)first->wait_dead(std::min(deadline, in(Millis(100))));
  }
}

/// A process of the test that runs `body` and then sleeps until killed. Killed and reaped at the end of the test.
class StandIn {
 public:
  explicit StandIn(const std::function<void()>& body) {
    pid_ = ::fork();
    if (pid_ != 0) return;
    body();
    for (;;) ::pause();
  }
  StandIn(const StandIn&) = delete;
  ~StandIn() { kill(); }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
};

}  // namespace drover::test
