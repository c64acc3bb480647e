#include "child.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

extern char** environ;

namespace drover::bench {
namespace {

using Clock = std::chrono::steady_clock;

struct Spawned {
  int pid = -1;
  int out = -1;
};

Spawned spawn(const std::vector<std::string>& words) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return {};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  Spawned child;
  if (posix_spawnp(&child.pid, argv[0], &actions, &attributes, argv.data(), environ) != 0) child.pid = -1;
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  close(ends[1]);
  if (child.pid < 0) {
    close(ends[0]);
    return child;
  }
  child.out = ends[0];
  fcntl(child.out, F_SETFL, O_NONBLOCK);
  return child;
}

/// False at the end of the stream.
bool read_some(int fd, std::string& out) {
  char buffer[4096];
  for (;;) {
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n > 0) out.append(buffer, static_cast<std::size_t>(n));
    else return n < 0;
  }
}

int millis_until(Clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<long>(left, 0, 60'000));
}

}  // namespace

std::string ChildRun::last_line() const {
  std::string_view text = out;
  while (text.ends_with('\n')) text.remove_suffix(1);
  const auto at = text.rfind('\n');
  return std::string(at == std::string_view::npos ? text : text.substr(at + 1));
}

ChildRun run_bounded(const std::vector<std::string>& words, std::chrono::seconds bound) {
  ChildRun run;
  const auto begin = Clock::now();
  const auto deadline = begin + bound;
  const Spawned child = spawn(words);
  if (child.pid < 0) return run;
  run.started = true;
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, child.pid, 0));
  bool open = true, ended = false;
  while (!ended && Clock::now() < deadline) {
    pollfd fds[2] = {{pidfd, POLLIN, 0}, {open ? child.out : -1, POLLIN, 0}};
    poll(fds, 2, millis_until(deadline));
    if (fds[1].revents != 0) open = read_some(child.out, run.out);
    ended = (fds[0].revents & POLLIN) != 0;
  }
  run.hung = !ended;
  // The group is killed while its leader is still unreaped, so its number cannot have gone to somebody else.
  kill(-child.pid, SIGKILL);
  int raw = 0;
  waitpid(child.pid, &raw, 0);
  run.status = WIFEXITED(raw) ? WEXITSTATUS(raw) : 128 + WTERMSIG(raw);
  read_some(child.out, run.out);
  close(child.out);
  close(pidfd);
  run.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return run;
}

Running start_until_line(const std::vector<std::string>& words, std::chrono::seconds bound) {
  const auto deadline = Clock::now() + bound;
  const Spawned child = spawn(words);
  Running running{child.pid, child.out, {}};
  while (child.pid >= 0 && running.line.find('\n') == std::string::npos && Clock::now() < deadline) {
    pollfd fd{child.out, POLLIN, 0};
    poll(&fd, 1, millis_until(deadline));
    if (fd.revents != 0 && !read_some(child.out, running.line)) break;
  }
  return running;
}

}  // namespace drover::bench
