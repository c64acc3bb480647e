/// Ends as told: `exit N`, `signal N`, `spin MS` (burns that much CPU, then exits 0), `rss MIB` (touches that much, exits 0),
/// `pause` (never), `stubborn` (ignores TERM, INT, HUP; never), `inspect` (prints what it was born with), `fail-start` (exits
/// 3 at once).

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  const long number = argc > 2 ? atol(argv[2]) : 0;
  if (what == "exit") return static_cast<int>(number);
  if (what == "fail-start") return 3;
  if (what == "signal") {
    kill(getpid(), static_cast<int>(number));
    for (;;) pause();
  }
  if (what == "spin") {
    timespec used{};
    do clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    while (used.tv_sec * 1000 + used.tv_nsec / 1'000'000 < number);
    return 0;
  }
  if (what == "rss") {
    const auto bytes = static_cast<size_t>(number) << 20;
    char* memory = static_cast<char*>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (memory == MAP_FAILED) return 2;
    for (size_t at = 0; at < bytes; at += 4096) memory[at] = 1;
    return 0;
  }
  if (what == "pause") {
    (void)!write(3, "x", 1);
    for (;;) pause();
  }
  if (what == "stubborn") {
    for (const int signal_number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT}) signal(signal_number, SIG_IGN);
    (void)!write(3, "x", 1);
    for (;;) pause();
  }
  if (what == "inspect") {
    std::vector<int> fds;
    if (DIR* open_fds = opendir("/proc/self/fd")) {
      while (const dirent* entry = readdir(open_fds))
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(open_fds)) fds.push_back(atoi(entry->d_name));
      closedir(open_fds);
    }
    std::sort(fds.begin(), fds.end());
    printf("fds");
    for (const int fd : fds) printf(" %d", fd);
    printf("\n");
    if (FILE* status = fopen("/proc/self/status", "r")) {
      char line[256];
      while (fgets(line, sizeof line, status) != nullptr)
        if (strncmp(line, "SigBlk:", 7) == 0 || strncmp(line, "SigIgn:", 7) == 0) printf("%s", line);
      fclose(status);
    }
    rlimit core{};
    getrlimit(RLIMIT_CORE, &core);
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    char directory[4096];
    printf("uid %u gid %u\n", getuid(), getgid());
    printf("core %llu nofile %llu nice %d cwd %s leader %d pid %d\n", static_cast<unsigned long long>(core.rlim_cur),
           static_cast<unsigned long long>(files.rlim_cur), getpriority(PRIO_PROCESS, 0), getcwd(directory, sizeof directory),
           getsid(0) == getpid(), getpid());
    for (char** variable = environ; *variable != nullptr; ++variable) printf("env %s\n", *variable);
    return 0;
  }
  fprintf(stderr, "ending: what is '%s'?\n", what.c_str());
  return 2;
}
