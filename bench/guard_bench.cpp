/// Measures what `drover guard` and the checkpoint store promise, beside Debian's process supervisors where they are installed:
///   restart      a small static child that dies by SIGKILL every 1.2 s: its last instruction to its successor's first, all supervisors at once
///   overrun      commands that resist their end under --wall: the last instruction they ran, after the deadline
///   survivors    SIGKILL of the supervisor at any instant, launch included: how long until nobody of the tree is left
///   checkpoint   100 MB committed beside a plain write + fsync + rename + fsync(dir); 1 % of 512 MiB changed; a beat
/// Usage: drover bench guard [SECTION...] [--quick]. Children are this program again: `child KIND FILE ...`.

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "child.hpp"
#include "drover/checkpoint.hpp"
#include "drover/snapshot.hpp"
#include "drover_trainer.hpp"
#include "figures.hpp"

extern char** environ;

namespace {

namespace fs = std::filesystem;
using namespace drover;
using namespace drover::bench;
using namespace std::chrono_literals;

std::int64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000 + t.tv_nsec;
}
double millis(std::int64_t ns) { return static_cast<double>(ns) * 1e-6; }

/// A page of a file that parent and children share: slot 0 is the time of the latest instruction seen.
class SharedPage {
 public:
  explicit SharedPage(const std::string& path) {
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && ftruncate(fd, 4096) == 0) at_ = static_cast<std::atomic<std::int64_t>*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    if (fd >= 0) close(fd);
    if (at_ == nullptr || at_ == MAP_FAILED) std::abort();
  }
  ~SharedPage() { munmap(at_, 4096); }
  SharedPage(const SharedPage&) = delete;
  SharedPage& operator=(const SharedPage&) = delete;
  std::atomic<std::int64_t>& operator[](std::size_t i) const { return at_[i]; }

 private:
  std::atomic<std::int64_t>* at_ = nullptr;
};

std::string own_path() { return fs::read_symlink("/proc/self/exe").string(); }
std::string drover_path() { return (fs::path(own_path()).parent_path().parent_path() / "cli" / "drover").string(); }

int spawn(const std::vector<std::string>& words, const std::string& directory) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (const int fd : {0, 1, 2}) posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
  posix_spawn_file_actions_addchdir_np(&actions, directory.c_str());
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  int pid = -1;
  if (posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ) != 0) pid = -1;
  posix_spawn_file_actions_destroy(&actions);
  return pid;
}
bool ended(int pid, std::chrono::milliseconds bound) {
  for (const auto end = std::chrono::steady_clock::now() + bound;;) {
    if (waitpid(pid, nullptr, WNOHANG) != 0) return true;
    if (std::chrono::steady_clock::now() > end) return false;
    usleep(1000);
  }
}

// ---- the children ----------------------------------------------------------------------------------------------------------------

[[noreturn]] void count_for_ever(const SharedPage& page) {
  for (;;) {
    std::int64_t seen = page[0].load(std::memory_order_relaxed);
    const std::int64_t now = now_ns();
    while (seen < now && !page[0].compare_exchange_weak(seen, now, std::memory_order_relaxed)) {
    }
  }
}

int child(const std::vector<std::string>& words) {
  const std::string& kind = words.at(1);
  const SharedPage page(words.at(2));
  signal(SIGTERM, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
  if (kind == "held") {  // FIFO: a daemon and a child hold it open for as long as they live
    const int fifo = open(words.at(3).c_str(), O_WRONLY);
    (void)!write(fifo, "x", 1);
    if (fork() == 0) {
      setsid();
      if (fork() != 0) _exit(0);
      pause();
    }
    for (;;) pause();
  }
  if (kind == "stopped" && fork() == 0) {
    kill(getppid(), SIGSTOP);
    count_for_ever(page);
  }
  if (kind == "daemon" && fork() == 0) {
    setsid();
    if (fork() != 0) _exit(0);
    count_for_ever(page);
  }
  if (kind == "storm") {
    for (;;) {
      page[0] = now_ns();
      const pid_t pid = fork();
      if (pid == 0) {
        setsid();
        for (int i = 0; i < 20'000; ++i) page[0] = now_ns();
        if (fork() != 0) _exit(0);
      }
      while (waitpid(-1, nullptr, WNOHANG) > 0) {
      }
    }
  }
  count_for_ever(page);
}

// ---- restart ---------------------------------------------------------------------------------------------------------------------

/// Last instruction to the successor's first, in ms.
std::vector<double> gaps_in(const std::string& path) {
  std::vector<double> gaps;
  std::ifstream in(path);
  std::string what;
  std::int64_t at = 0, dead = 0;
  while (in >> what >> at) {
    if (what == "dead") dead = at;
    else if (dead != 0) gaps.push_back(millis(at - dead));
  }
  return gaps;
}

void restart(const fs::path& root, bool quick) {
  const std::string mortal_path = (fs::path(own_path()).parent_path() / "mortal").string();
  std::map<std::string, int> running;
  const auto mortal = [&](const std::string& name) { return fmt::format("{} {} 1200", mortal_path, (root / (name.substr(0, name.find(' ')) + ".log")).string()); };
  const auto script = [&](const fs::path& path, const std::string& text) {
    fs::create_directories(path.parent_path());
    std::ofstream(path) << "#!/bin/sh\n" << text << "\n";
    fs::permissions(path, fs::perms::owner_all);
  };
  running["drover guard"] = spawn({drover_path(), "guard", "--job", "restart", "--progress", "none", "--restart", "permanent", "--restarts", "1000000", "--restart-delay", "0s", "--", mortal_path, (root / "drover guard.log").string(), "1200"}, root.string());
  usleep(130'000);  // so that they do not all die at once
  running["drover guard, process durability"] = spawn({drover_path(), "guard", "--job", "restart2", "--durability", "process", "--progress", "none", "--restart", "permanent", "--restarts", "1000000", "--restart-delay", "0s", "--", mortal_path, (root / "drover guard, process durability.log").string(), "1200"}, root.string());
  usleep(130'000);
  running["drover guard --spare"] = spawn({drover_path(), "guard", "--job", "restart3", "--notify", "--spare", "--progress", "none", "--restart", "permanent", "--restarts", "1000000", "--restart-delay", "0s", "--", mortal_path, (root / "drover guard --spare.log").string(), "1200"}, root.string());
  usleep(130'000);
  const auto have = [](const char* program) { return run_bounded({"sh", "-c", std::string("command -v ") + program}, 5s).status == 0; };
  if (have("runsv")) {
    script(root / "runit" / "run", "exec " + mortal("runsv"));
    running["runsv"] = spawn({"runsv", (root / "runit").string()}, root.string());
    usleep(130'000);
  }
  if (have("s6-supervise")) {
    script(root / "s6" / "run", "exec " + mortal("s6-supervise"));
    running["s6-supervise"] = spawn({"s6-supervise", (root / "s6").string()}, root.string());
    usleep(130'000);
  }
  if (have("supervisord")) {
    std::ofstream(root / "supervisord.conf") << "[supervisord]\nlogfile=" << (root / "sd.log").string() << "\npidfile=" << (root / "sd.pid").string() << "\n[program:x]\ncommand=" << mortal("supervisord") << "\nautorestart=true\n";
    running["supervisord"] = spawn({"supervisord", "-n", "-c", (root / "supervisord.conf").string()}, root.string());
  }
  sleep(quick ? 12 : 62);
  for (const auto& [name, pid] : running) {
    kill(pid, SIGTERM);
    if (!ended(pid, 5s)) kill(pid, SIGKILL), ended(pid, 5s);
  }
  // Peers leave their child behind.
  (void)run_bounded({"sh", "-c", fmt::format("for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q 'mortal {}' && kill -9 ${{p#/proc/}}; done", root.string())}, 10s);
  fmt::print("\nrestart: last instruction of a killed child to the first of its successor, ms\n  {:<36} {:>9} {:>9} {:>9} {:>9}\n", "supervisor", "median", "least", "most", "restarts");
  for (const auto& [name, pid] : running) {
    const auto gaps = summary_of(gaps_in((root / (name + ".log")).string()));
    if (gaps) fmt::print("  {:<36} {:>9} {:>9} {:>9} {:>9}\n", name, shown(gaps->median), shown(gaps->min), shown(gaps->max), gaps->samples);
  }
}

// ---- overrun ---------------------------------------------------------------------------------------------------------------------

nlohmann::json status_of(const fs::path& root, const std::string& job) {
  const ChildRun run = run_bounded({"sh", "-c", fmt::format("cd {} && {} status {} --json", root.string(), drover_path(), job)}, 5s);
  return nlohmann::json::parse(run.last_line(), nullptr, false);
}

void overrun(const fs::path& root, bool quick) {
  const struct {
    const char *name, *kind, *victim;
    int signal;
  } cases[] = {
      {"busy loop, TERM ignored", "busy", "", 0},
      {"stops itself, a child goes on", "stopped", "", 0},
      {"forks without end", "storm", "", 0},
      {"daemonised", "daemon", "", 0},
      {"supervisor frozen", "daemon", "supervisor", SIGSTOP},
      {"watchdog frozen", "daemon", "watchdog", SIGSTOP},
      {"watchdog killed", "daemon", "watchdog", SIGKILL},
      {"supervisor frozen, watchdog killed", "daemon", "both", SIGSTOP},
      {"supervisor killed", "daemon", "supervisor", SIGKILL},
  };
  fmt::print("\noverrun: --wall 600ms --grace 50ms; the last instruction after the deadline (after the kill, where the supervisor is killed), ms\n  {:<36} {:>9} {:>9} {:>9}\n", "the command and what is done to drover", "median", "most", "runs");
  for (const auto& one : cases) {
    std::vector<double> late;
    for (int run = 0; run < (quick ? 3 : 25); ++run) {
      const fs::path page_path = root / "page";
      fs::remove(page_path);
      const SharedPage page(page_path.string());
      const std::string job = fmt::format("o-{}-{}", &one - cases, run);
      const std::int64_t begin = now_ns();
      const int pid = spawn({drover_path(), "guard", "--job", job, "--progress", "none", "--wall", "600ms", "--grace", "50ms", "--pids", "200", "--", own_path(), "child", one.kind, page_path.string()}, root.string());
      std::int64_t deadline = begin + 600'000'000;
      if (*one.victim != '\0') {
        while (page[0].load() == 0 && now_ns() < deadline) usleep(1000);
        int watchdog = 0;
        const std::string victim = one.victim;
        if (victim != "supervisor") {
          const auto status = status_of(root, job);
          if (status.is_object() && status.contains("watchdog")) watchdog = status["watchdog"].value("host_pid", 0);
        }
        if (victim != "watchdog") {
          if (one.signal == SIGKILL) deadline = now_ns();
          kill(pid, one.signal);
        }
        if (victim != "supervisor" && watchdog > 0) kill(watchdog, victim == "both" ? SIGKILL : one.signal);
        if (victim != "supervisor" && watchdog == 0) {
          kill(pid, SIGKILL);
          ended(pid, 5s);
          continue;  // it could not be found in time: no sample
        }
      }
      // Until nothing counts any more for 300 ms.
      for (std::int64_t last = 0, since = now_ns(); now_ns() - since < 300'000'000 || now_ns() < deadline + 200'000'000;) {
        const std::int64_t seen = page[0].load();
        if (seen != last) last = seen, since = now_ns();
        if (now_ns() > deadline + 20'000'000'000) break;
        usleep(5000);
      }
      late.push_back(std::max(0.0, millis(page[0].load() - deadline)));
      kill(pid, SIGCONT);
      if (!ended(pid, 3s)) kill(pid, SIGKILL), ended(pid, 5s);
    }
    const auto summary = summary_of(late);
    if (summary) fmt::print("  {:<36} {:>9} {:>9} {:>9}\n", one.name, shown(summary->median), shown(summary->max), summary->samples);
    std::fflush(stdout);
  }
}

// ---- survivors -------------------------------------------------------------------------------------------------------------------

void survivors(const fs::path& root, bool quick) {
  std::mt19937_64 random(20261127);
  std::vector<double> gone;
  int left = 0, launch = 0;
  const std::string fifo = (root / "fifo").string();
  const int runs = quick ? 20 : 1000;
  for (int run = 0; run < runs; ++run) {
    fs::remove(fifo);
    if (mkfifo(fifo.c_str(), 0600) != 0) return;
    const int reader = open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    fs::remove_all(root / "survivors");
    const int pid = spawn({drover_path(), "guard", "--job", "survivors", "--progress", "none", "--", own_path(), "child", "held", (root / "page").string(), fifo}, root.string());
    usleep(static_cast<useconds_t>(random() % 150'000));
    kill(pid, SIGKILL);
    const std::int64_t begin = now_ns();
    ended(pid, 5s);
    // Whoever lived holds the fifo; a launch that had not come so far holds nothing, and must not come so far later.
    std::array<char, 16> bytes{};
    bool seen = false, closed = false;
    while (now_ns() - begin < 5'000'000'000) {
      const ssize_t n = read(reader, bytes.data(), bytes.size());
      if (n > 0) seen = true;
      if (n == 0 && (seen || now_ns() - begin > 100'000'000)) {
        closed = true;
        break;
      }
      usleep(200);
    }
    if (!closed) ++left;
    else if (seen) gone.push_back(millis(now_ns() - begin));
    launch += seen ? 0 : 1;
    close(reader);
  }
  const auto summary = summary_of(gone);
  fmt::print("\nsurvivors: SIGKILL of the supervisor within the first 150 ms of {} runs ({} before the command ran); a daemon and a child that ignore TERM\n", runs, launch);
  if (summary) fmt::print("  nobody left after {} ms median, {} ms at most; {} runs with a survivor\n", shown(summary->median), shown(summary->max), left);
}

// ---- checkpoint ------------------------------------------------------------------------------------------------------------------

void checkpoint(const fs::path& root, bool quick) {
  const std::string directory = (root / "store").string();
  std::vector<std::byte> bytes(100u << 20);
  std::mt19937_64 random(7);
  for (std::size_t i = 0; i < bytes.size(); i += 8) {
    const std::uint64_t value = random();
    std::memcpy(&bytes[i], &value, 8);
  }
  auto store = CheckpointStore::open(directory);
  if (!store) return fmt::print("checkpoint: {}\n", store.error().what());
  const WriterLease lease = *store->acquire("bench");
  const auto timed = [](const std::function<void()>& deed) {
    const std::int64_t begin = now_ns();
    deed();
    return millis(now_ns() - begin);
  };
  const auto commit = [&](const WriterLease& by, std::uint64_t step, BytesView view, bool changes) {
    NewCheckpoint one{.step = step};
    one.files.push_back({.name = "model", .source = view, .changes_only = changes});
    if (const auto done = store->commit(by, one); !done) fmt::print("commit: {}\n", done.error().what());
  };
  const std::string plain = (root / "plain").string();
  std::vector<double> ratios, ours, theirs;
  for (int round = 0; round < (quick ? 3 : 15); ++round) {
    bytes[5] = static_cast<std::byte>(round);
    theirs.push_back(timed([&] {
      const int fd = open((plain + ".tmp").c_str(), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);
      for (std::size_t at = 0; at < bytes.size();) {
        const ssize_t n = write(fd, bytes.data() + at, std::min<std::size_t>(bytes.size() - at, 8u << 20));
        if (n <= 0) break;
        at += static_cast<std::size_t>(n);
      }
      fsync(fd);
      close(fd);
      fs::rename(plain + ".tmp", plain + std::to_string(round));
      const int dir = open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      fsync(dir);
      close(dir);
    }));
    fs::remove(plain + std::to_string(round));
    ours.push_back(timed([&] { commit(lease, static_cast<std::uint64_t>(round) + 1, bytes, false); }));
    ratios.push_back(ours.back() / theirs.back());
    (void)store->retain("bench", {.last = 1, .best = 0});
  }
  {
    auto writer = SnapshotWriter::start(directory, lease, {.bytes_max = bytes.size()});
    std::vector<double> pauses;
    for (std::uint64_t round = 0; writer && round < 8; ++round) {
      pauses.push_back(timed([&] { (void)writer->save(bytes, {.step = 100 + round}); }));
      if (const auto done = writer->wait(); !done) fmt::print("snapshot: {}\n", done.error().what());
      (void)store->retain("bench", {.last = 1, .best = 0});
    }
    const auto pause = summary_of(pauses);
    if (pause) fmt::print("\nsnapshot: a trainer with 100 MiB pauses for {} ms ({} to {}), the commit runs beside it\n", shown(pause->median), shown(pause->min), shown(pause->max));
  }
  std::vector<std::byte>().swap(bytes);
  const auto a = summary_of(theirs), b = summary_of(ours), r = summary_of(ratios);
  fmt::print("\ncheckpoint: 100 MiB of random bytes, median (least to most) of {} interleaved rounds\n", ratios.size());
  fmt::print("  write + fsync + rename + fsync(dir)        {:>7} ms ({} to {})\n", shown(a->median), shown(a->min), shown(a->max));
  fmt::print("  committed, read back, SHA-256, transaction {:>7} ms ({} to {}): {} times (of each round's pair)\n", shown(b->median), shown(b->min), shown(b->max), shown(r->median));

  std::vector<std::byte> state((quick ? 64u : 512u) << 20);
  for (std::size_t i = 0; i < state.size(); i += 64) state[i] = static_cast<std::byte>(random());
  const WriterLease other = *store->acquire("changes");
  std::vector<double> changed;
  const std::size_t chunks = state.size() >> 18;
  for (int round = 0; round < (quick ? 4 : 25); ++round) {
    for (std::size_t k = 0; k <= chunks / 100; ++k) state[random() % state.size()] ^= std::byte{1};
    changed.push_back(timed([&] { commit(other, static_cast<std::uint64_t>(round) + 1, state, true); }));
  }
  fmt::print("  {} MiB in full, by its chunks               {:>7} ms, once\n", state.size() >> 20, shown(changed.front()));
  changed.erase(changed.begin());
  const auto c = summary_of(changed);
  fmt::print("  1 % of its chunks changed                  {:>7} ms ({} to {})\n", shown(c->median), shown(c->min), shown(c->max));

  // A beat of the C++ client, as a trainer pays for it.
  std::vector<char> page(4096, 0);
  std::memcpy(page.data(), "drvtrnr1", 8);
  std::ofstream(root / "trainer.page").write(page.data(), 4096).flush();
  setenv("DROVER_TRAINER_PAGE", (root / "trainer.page").c_str(), 1);
  setenv("NOTIFY_SOCKET", (root / "none").c_str(), 1);
  drover_trainer::Trainer trainer;
  constexpr std::uint64_t kBeats = 50'000'000;
  const double beat = timed([&] {
    for (std::uint64_t i = 0; i < kBeats; ++i) trainer.beat();
  });
  const double step = timed([&] {
    for (std::uint64_t i = 0; i < kBeats; ++i) trainer.progress(i);
  });
  fmt::print("  a beat {} ns, a step {} ns\n", shown(beat * 1e6 / static_cast<double>(kBeats)), shown(step * 1e6 / static_cast<double>(kBeats)));
}

}  // namespace

int main(int count, char** argv) {
  std::vector<std::string> words(argv + 1, argv + count);
  if (!words.empty() && words[0] == "child") return child(words);
  bool quick = false;
  std::erase_if(words, [&](const std::string& word) { return word == "--quick" && (quick = true); });
  const std::pair<const char*, void (*)(const fs::path&, bool)> sections[] = {{"checkpoint", checkpoint}, {"overrun", overrun}, {"survivors", survivors}, {"restart", restart}};
  for (const std::string& word : words)
    if (std::ranges::none_of(sections, [&](const auto& one) { return word == one.first; })) return fmt::print(stderr, "drover: bench: guard: '{}': must be checkpoint, overrun, survivors or restart\n", word), 2;
  std::string place = (fs::current_path() / "drover-bench-XXXXXX").string();  // here, not in /tmp: disks differ, and this one is asked about
  if (mkdtemp(place.data()) == nullptr) return 1;
  setenv("XDG_STATE_HOME", (place + "/state").c_str(), 1);
  for (const auto& [name, section] : sections)
    if (words.empty() || std::ranges::find(words, name) != words.end()) {
      section(place, quick);
      std::fflush(stdout);
    }
  fs::remove_all(place);
}
