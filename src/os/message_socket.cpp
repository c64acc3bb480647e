#include "os/message_socket.hpp"

#include <errno.h>

#include <algorithm>
#include <array>

#include "base/assert.hpp"
#include "os/bare.hpp"

namespace drover {
namespace {
constexpr std::size_t kFdsMax = 64;
}

Result<std::pair<UniqueFd, UniqueFd>> make_message_sockets() {
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0) return fail_errno(errno, "create a message socket");
  return std::pair(UniqueFd(pair[0]), UniqueFd(pair[1]));
}

Result<std::pair<UniqueFd, UniqueFd>> make_stream_sockets() {
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0) return fail_errno(errno, "create a stream");
  return std::pair(UniqueFd(pair[0]), UniqueFd(pair[1]));
}

Result<void> send_message(int socket, std::span<const std::byte> bytes, std::span<const int> fds) {
  DROVER_ASSERT(fds.size() <= kFdsMax, fds.size());
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kFdsMax)> control{};
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    ::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  ssize_t sent = 0;
  do sent = ::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  if (sent >= 0) return {};
  // ETOOMANYREFS: too many descriptors of ours are in flight; they leave as the peer reads.
  if (errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS) return fail(ErrorCode::busy, "send a message: the queue is full");
  if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN) return fail(ErrorCode::closed, "send a message: the other side is gone");
  return fail_errno(errno, "send a message");
}

Result<ReceivedMessage> receive_message(int socket, std::span<std::byte> into, std::size_t fds_max) {
  std::array<int, kFdsMax> fds;
  std::size_t count = 0;
  const ssize_t got = bare::receive_message(socket, into.data(), into.size(), fds.data(), std::min(fds_max, kFdsMax), &count);
  if (got > 0) {
    ReceivedMessage message;
    message.size = static_cast<std::size_t>(got);
    for (std::size_t i = 0; i < count; ++i) message.fds.emplace_back(fds[i]);
    return message;
  }
  if (got == 0 || errno == ECONNRESET) return fail(ErrorCode::closed, "receive a message: the other side is gone");
  if (errno == EAGAIN || errno == EWOULDBLOCK) return fail(ErrorCode::busy, "receive a message: none is there");
  if (errno == EMSGSIZE) return fail(ErrorCode::corrupt, "receive a message: larger than agreed");
  return fail_errno(errno, "receive a message");
}

}  // namespace drover
