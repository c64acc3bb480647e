/// Holds a death word in the memfd at descriptor 3 as a worker would, touches MIB of memory, says so on descriptor 4, and
/// then:  `stay MIB`  never ends;  `exit`  ends at once;  `exec`  becomes another program;  `mutex`  locks and unlocks robust
/// mutexes of libc around ours first;  `lie`  keeps changing and ringing its word.

#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "os/death_watch.hpp"

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, 3, 0);
  if (page == MAP_FAILED) return 2;
  auto* word = static_cast<std::atomic<std::uint32_t>*>(page);

  static pthread_mutex_t before, after;
  pthread_mutexattr_t robust;
  pthread_mutexattr_init(&robust);
  pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&before, &robust);
  pthread_mutex_init(&after, &robust);
  if (what == "mutex") pthread_mutex_lock(&before);
  if (!drover::hold_death_word(word)) return 3;
  if (what == "mutex") {
    for (int i = 0; i < 100; ++i) {
      pthread_mutex_lock(&after);
      pthread_mutex_unlock(&before);
      pthread_mutex_lock(&before);
      pthread_mutex_unlock(&after);
    }
    pthread_mutex_unlock(&before);
  }
  if (argc > 2) {
    const auto bytes = static_cast<size_t>(atol(argv[2])) << 20;
    char* memory = static_cast<char*>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    madvise(memory, bytes, MADV_NOHUGEPAGE);
    for (size_t at = 0; at < bytes; at += 4096) memory[at] = 1;
  }
  (void)!write(4, "x", 1);
  if (what == "exit") return 0;
  if (what == "exec") execl("/bin/sleep", "sleep", "1000", nullptr);
  if (what == "lie") {
    for (std::uint32_t value = 1;; ++value) {
      word->store(value & 0xffff);
      syscall(SYS_futex, word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
    }
  }
  for (;;) pause();
}
