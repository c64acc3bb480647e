/// unix(7), sd_notify(3).
#include "os/notify_socket.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace drover {

Result<NotifySocket> NotifySocket::create(const std::string& directory) {
  static unsigned count = 0;  // of the one thread of a worker
  std::string path = directory + "/notify-" + std::to_string(::getpid()) + "-" + std::to_string(++count) + ".sock";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return fail(ErrorCode::refused, "the notify socket's path '" + path + "' is longer than 107 bytes", "choose a job directory with a shorter path");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail_errno(errno, "make the notify socket");
  DROVER_CHECK(NamedFile::clear(path));
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return fail_errno(errno, "bind '" + path + "'");
  if (::chmod(path.c_str(), 0600) != 0) return fail_errno(errno, "protect '" + path + "'");
  return NotifySocket(NamedFile(std::move(fd), std::move(path)));
}

Result<std::optional<std::string>> NotifySocket::receive() {
  std::string message(4096, '\0');
  const ssize_t size = ::recv(socket_.get(), message.data(), message.size(), 0);
  if (size >= 0) {
    message.resize(static_cast<std::size_t>(size));
    return std::optional<std::string>(std::move(message));
  }
  if (errno == EAGAIN || errno == EINTR) return std::optional<std::string>();
  return fail_errno(errno, "receive a notice");
}

}  // namespace drover
