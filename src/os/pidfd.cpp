#include "os/pidfd.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <charconv>
#include <string>

#include "os/poller.hpp"
#include "os/proc_file.hpp"

// The system calls are made by number: glibc 2.36's <sys/pidfd.h> lacks extern "C", so its functions do not link from C++
// unless the include is wrapped, and older ones have no such header at all.

namespace drover {

Result<PidFd> PidFd::open(pid_t pid) {
  const long fd = ::syscall(SYS_pidfd_open, pid, 0);
  if (fd >= 0) return PidFd(UniqueFd(static_cast<int>(fd)));
  if (errno == ESRCH) return fail(ErrorCode::not_found, "open process " + std::to_string(pid) + ": there is none");
  return fail_errno(errno, "open process " + std::to_string(pid));
}

Result<PidFd> PidFd::self() { return open(::getpid()); }

Result<bool> PidFd::send(int signal) const {
  if (::syscall(SYS_pidfd_send_signal, fd_.get(), signal, nullptr, 0) == 0) return true;
  if (errno == ESRCH) return false;
  return fail_errno(errno, "send signal " + std::to_string(signal));
}

bool PidFd::is_dead() const { return wait_readable(fd_.get(), TimePoint{}); }

bool PidFd::wait_dead(TimePoint deadline) const { return wait_readable(fd_.get(), deadline); }

Result<pid_t> PidFd::host_pid() const {
  DROVER_TRY(const std::string text, read_proc_file("/proc/self/fdinfo/" + std::to_string(fd_.get())));
  const auto at = text.find("Pid:");
  if (at == std::string::npos) return fail(ErrorCode::unavailable, "read the pid of a process: fdinfo does not name it");
  const auto begin = text.find_first_of("-0123456789", at);
  pid_t pid = 0;
  if (begin == std::string::npos || std::from_chars(text.data() + begin, text.data() + text.size(), pid).ec != std::errc{})
    return fail(ErrorCode::unavailable, "read the pid of a process: fdinfo cannot be read");
  if (pid <= 0) return fail(ErrorCode::not_found, "read the pid of a process: it is gone");
  return pid;
}

}  // namespace drover
