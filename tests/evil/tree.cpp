/// A family that tries to outlive its supervisor. Descriptor 3 is a pipe: every member writes one byte when it stands and
/// keeps the pipe open as long as it lives, so that end-of-file means: nobody is left.
///
///   tree            8 members: itself, a child, a setsid child, a daemon by double fork, a daemon that ignores TERM and HUP and
///                   has cleared its PDEATHSIG, a child and a grandchild that cleared theirs, a child of vfork kind
///   tree storm      itself, and 4 lines of processes each of which forks its successor and exits, for ever
///   tree deep N     itself, and a chain of N nested children

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

constexpr int kPipe = 3;

void stand() { (void)!write(kPipe, "x", 1); }

[[noreturn]] void stay() {
  for (;;) pause();
}

template <class F>
void child(F&& prepare) {
  if (fork() != 0) return;
  prepare();
  stand();
  stay();
}

template <class F>
void daemon_child(F&& prepare) {
  const pid_t first = fork();
  if (first != 0) {
    waitpid(first, nullptr, 0);
    return;
  }
  setsid();
  if (fork() != 0) _exit(0);
  prepare();
  stand();
  stay();
}

[[noreturn]] void storm_line() {
  stand();
  for (;;)
    if (fork() != 0) _exit(0);  // parent ends, child goes on
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && strcmp(argv[1], "storm") == 0) {
    for (int i = 0; i < 4; ++i)
      if (fork() == 0) storm_line();
    stand();
    stay();
  }
  if (argc > 2 && strcmp(argv[1], "deep") == 0) {
    for (int left = atoi(argv[2]); left > 0; --left)
      if (fork() != 0) break;  // the child goes on in the loop
    stand();
    stay();
  }
  child([] {});
  child([] { setsid(); });
  daemon_child([] {});
  daemon_child([] {
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, 0);
  });
  child([] {
    prctl(PR_SET_PDEATHSIG, 0);
    if (fork() == 0) {
      prctl(PR_SET_PDEATHSIG, 0);
      stand();
      stay();
    }
  });
  if (vfork() == 0) {
    char* const arguments[] = {const_cast<char*>("tree"), const_cast<char*>("deep"), const_cast<char*>("0"), nullptr};
    execv("/proc/self/exe", arguments);
    _exit(127);
  }
  stand();
  stay();
}
