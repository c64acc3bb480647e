#include "os/gate.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace drover {

Result<Gate> Gate::create(const std::string& path) {
  DROVER_CHECK(NamedFile::clear(path));
  if (::mkfifo(path.c_str(), 0600) != 0) return fail_errno(errno, "make '" + path + "'");
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));  // both ends: nobody sees an end of file before the message
  if (!fd) return fail_errno(errno, "open '" + path + "'");
  return Gate(NamedFile(std::move(fd), path));
}

Result<void> Gate::open(std::string_view message) {
  if (::write(fifo_.get(), message.data(), message.size()) != static_cast<ssize_t>(message.size())) return fail_errno(errno, "open the gate '" + path() + "'");
  return {};
}

}  // namespace drover
