#include "os/gate.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace drover {

Result<Gate> Gate::create(std::string path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, "replace '" + path + "'");
  if (::mkfifo(path.c_str(), 0600) != 0) return fail_errno(errno, "make '" + path + "'");
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));  // both ends: nobody sees an end of file before the message
  if (!fd) return fail_errno(errno, "open '" + path + "'");
  return Gate(std::move(fd), std::move(path));
}

Gate& Gate::operator=(Gate&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  return *this;
}

Gate::~Gate() {
  if (fd_.valid()) ::unlink(path_.c_str());
}

Result<void> Gate::open(std::string_view message) {
  if (::write(fd_.get(), message.data(), message.size()) != static_cast<ssize_t>(message.size())) return fail_errno(errno, "open the gate '" + path_ + "'");
  return {};
}

}  // namespace drover
