/// Takes without end: `memory` (touches pages until killed), `forks` (starts sleeping children until refused, then exits with
/// how many it got, at most 200), `output` (writes lines to stdout and stderr until killed).

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "memory") {
    for (;;) {
      constexpr size_t kPart = 1 << 20;
      void* memory = mmap(nullptr, kPart, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (memory == MAP_FAILED) return 2;
      memset(memory, 1, kPart);
    }
  }
  if (what == "forks") {
    int started = 0;
    while (started < 200) {
      const pid_t child = fork();
      if (child < 0) break;
      if (child == 0)
        for (;;) pause();
      ++started;
    }
    return started;
  }
  if (what == "output") {
    const std::string line(199, 'o');
    for (;;)
      for (const int fd : {1, 2})
        if (write(fd, (line + "\n").c_str(), line.size() + 1) < 0) return 1;
  }
  return 2;
}
