#include "os/unique_fd.hpp"

#include <unistd.h>

namespace drover {

void UniqueFd::reset(int fd) {
  if (fd_ >= 0) ::close(fd_);  // EINTR included: on Linux the descriptor is gone either way
  fd_ = fd;
}

}  // namespace drover
