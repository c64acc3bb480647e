// A child for `drover bench guard restart`: FILE LIFE_MS. Says when it was born, lives, says when it dies, dies by SIGKILL. Static and
// free of the C++ library's start-up, so that what is measured is the supervisor.

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

namespace {

long long now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

void say(const char* path, const char* what, long long at) {
  char line[64];
  const int size = snprintf(line, sizeof line, "%s %lld\n", what, at);
  const int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  (void)!write(fd, line, static_cast<size_t>(size));
  close(fd);
}

}  // namespace

int main(int count, char** words) {
  if (count < 3) return 2;
  // A spare waits here, as the trainer client does, until the one before has died.
  if (const char* const gate = getenv("DROVER_GATE")) {
    const int fd = open(gate, O_RDONLY | O_CLOEXEC);
    char told[4096];
    if (read(fd, told, sizeof told) <= 0) return 3;
    close(fd);
  }
  const long long born = now_ns();
  say(words[1], "born", born);
  usleep(static_cast<useconds_t>(atol(words[2]) * 1000));
  say(words[1], "dead", now_ns());
  kill(getpid(), SIGKILL);
}
