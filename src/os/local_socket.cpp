/// socket(2), unix(7).
#include "os/local_socket.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "os/clock.hpp"

namespace drover {
namespace {

Result<sockaddr_un> address_of(const std::string& address) {
  sockaddr_un a{};
  a.sun_family = AF_UNIX;
  if (address.size() >= sizeof a.sun_path) return fail(ErrorCode::refused, "socket address '" + address + "' is longer than 107 bytes");
  std::memcpy(a.sun_path, address.c_str(), address.size() + 1);
  return a;
}

Result<UniqueFd> make_socket() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail_errno(errno, "make a socket");
  return fd;
}

}  // namespace

Result<UniqueFd> listen_local(const std::string& address) {
  DROVER_TRY(const sockaddr_un a, address_of(address));
  DROVER_TRY(UniqueFd fd, make_socket());
  if (::unlink(address.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, "replace '" + address + "'");
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&a), sizeof a) != 0) return fail_errno(errno, "bind '" + address + "'");
  if (::chmod(address.c_str(), 0600) != 0) return fail_errno(errno, "protect '" + address + "'");
  if (::listen(fd.get(), 16) != 0) return fail_errno(errno, "listen at '" + address + "'");
  return fd;
}

Result<std::optional<UniqueFd>> accept_local(int listener) {
  const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd >= 0) return std::optional<UniqueFd>(UniqueFd(fd));
  if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return std::optional<UniqueFd>();
  return fail_errno(errno, "accept");
}

Result<std::optional<std::string>> receive_local(int connection) {
  std::string message(kLocalMessageMax, '\0');
  const ssize_t n = ::recv(connection, message.data(), message.size(), 0);
  if (n > 0) {
    message.resize(static_cast<std::size_t>(n));
    return std::optional<std::string>(std::move(message));
  }
  if (n == 0) return fail(ErrorCode::closed, "the other side hung up");
  if (errno == EAGAIN || errno == EINTR) return std::optional<std::string>();
  return fail_errno(errno, "receive");
}

Result<void> send_local(int connection, std::string_view message) {
  const ssize_t n = ::send(connection, message.data(), std::min(message.size(), kLocalMessageMax), MSG_NOSIGNAL);
  if (n >= 0) return {};
  return fail_errno(errno, "send");
}

Result<std::string> ask_local(const std::string& address, std::string_view message, TimePoint deadline) {
  DROVER_TRY(const sockaddr_un a, address_of(address));
  DROVER_TRY(UniqueFd fd, make_socket());
  const auto wait = [&](short what) -> Result<void> {
    for (;;) {
      const auto left = std::chrono::duration_cast<Millis>(deadline - system_clock().now()).count();
      if (left <= 0) return fail(ErrorCode::timed_out, "no answer in time");
      pollfd p{fd.get(), what, 0};
      const int n = ::poll(&p, 1, static_cast<int>(std::min<long long>(left + 1, 60'000)));
      if (n > 0) return {};
      if (n < 0 && errno != EINTR) return fail_errno(errno, "poll");
    }
  };
  while (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&a), sizeof a) != 0) {
    if (errno == EAGAIN) {  // the backlog is full: the other side does not accept now
      DROVER_CHECK(wait(0));
      continue;
    }
    if (errno == ECONNREFUSED) return fail(ErrorCode::closed, "nobody listens at '" + address + "'");
    return fail_errno(errno, "connect '" + address + "'");
  }
  DROVER_CHECK(send_local(fd.get(), message));
  for (;;) {
    DROVER_CHECK(wait(POLLIN));
    DROVER_TRY(std::optional<std::string> answer, receive_local(fd.get()));
    if (answer) return std::move(*answer);
  }
}

}  // namespace drover
