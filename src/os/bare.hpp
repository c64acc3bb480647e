#pragma once
/// System calls for the static helpers (keeper, watchdog, warden), which are linked without the C++ library: no allocation, no
/// Result, only what both need. Nobody else includes this.

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

namespace drover::bare {

/// Decimal, possibly negative; what is not a number is -1.
inline std::int64_t parse_number(const char* text) {
  if (text == nullptr || *text == '\0') return -1;
  const bool negative = *text == '-';
  if (negative) ++text;
  std::int64_t value = 0;
  for (; *text != '\0'; ++text) {
    if (*text < '0' || *text > '9' || value > (INT64_MAX - 9) / 10) return -1;
    value = value * 10 + (*text - '0');
  }
  return negative ? -value : value;
}

/// Appends `number` to `text` and ends it; `text` has room for 20 more characters.
inline char* append_number(char* text, std::uint64_t number) {
  char digits[20];
  int count = 0;
  do digits[count++] = static_cast<char>('0' + number % 10);
  while ((number /= 10) != 0);
  while (count > 0) *text++ = digits[--count];
  *text = '\0';
  return text;
}
inline char* append_text(char* text, const char* more) {
  while (*more != '\0') *text++ = *more++;
  *text = '\0';
  return text;
}

inline std::int64_t now_ns(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

/// Readable once CLOCK_BOOTTIME has reached `at_ns`; armed even when that is in the past. -1 on failure.
inline int make_boottime_timer(std::int64_t at_ns) {
  const int timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
  if (timer < 0) return -1;
  if (at_ns < 1) at_ns = 1;
  itimerspec when{};
  when.it_value.tv_sec = static_cast<time_t>(at_ns / 1'000'000'000);
  when.it_value.tv_nsec = static_cast<long>(at_ns % 1'000'000'000);
  if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, nullptr) != 0) return -1;
  return timer;
}

/// What a host process may have left us: handlers are gone by exec, but ignored signals and the mask are inherited.
inline void reset_signals() {
  struct sigaction plain{};
  plain.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) sigaction(signal, &plain, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

inline int send_signal(int pidfd, int signal) { return static_cast<int>(syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0)); }

/// One message and its descriptors (close-on-exec). Bytes received, 0 when the peer hung up, -1 with errno. More descriptors
/// or bytes than there is room for: everything received is closed and errno is EMSGSIZE.
inline ssize_t receive_message(int socket, void* bytes, std::size_t bytes_max, int* fds, std::size_t fds_max, std::size_t* fds_count) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 64)];
  *fds_count = 0;
  iovec part{bytes, bytes_max};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got;
  do got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  while (got < 0 && errno == EINTR);
  if (got < 0) return -1;
  bool too_many = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd;
      memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      if (*fds_count < fds_max) {
        fds[(*fds_count)++] = fd;
      } else {
        close(fd);
        too_many = true;
      }
    }
  }
  if (too_many) {
    for (std::size_t i = 0; i < *fds_count; ++i) close(fds[i]);
    *fds_count = 0;
    errno = EMSGSIZE;
    return -1;
  }
  return got;
}

inline constexpr std::size_t kSendFdsMax = 8;

/// One message with up to kSendFdsMax descriptors. 0, or -1 with errno (EAGAIN: the queue is full).
inline int send_message(int socket, const void* bytes, std::size_t size, const int* fds, std::size_t fds_count) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kSendFdsMax)] = {};
  iovec part{const_cast<void*>(bytes), size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (fds_count > 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds_count);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds_count);
    memcpy(CMSG_DATA(header), fds, sizeof(int) * fds_count);
  }
  ssize_t sent;
  do sent = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  return sent < 0 ? -1 : 0;
}
/// The same with one descriptor, or none if `fd` is -1.
inline int send_message(int socket, const void* bytes, std::size_t size, int fd) { return send_message(socket, bytes, size, &fd, fd >= 0 ? 1 : 0); }

}  // namespace drover::bare
