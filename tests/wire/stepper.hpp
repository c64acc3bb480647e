#pragma once
/// Takes a child process through a marked region of its code to every single instruction, and there either kills it or lets
/// the other side act while it stands still. Nothing in the code under test knows of it: the region begins where the child
/// executes marker() and ends at its next marker() or where it is about to block in poll or epoll_wait.
///
/// One walk single-steps the region and writes down the address before every instruction. Then each point gets a fresh child,
/// which runs at full speed to its n-th arrival at that address (a breakpoint): n points cost n short runs instead of n*n/2
/// steps. A hash of the shared memory proves that the place reached is the one walked over.

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace drover::test {

#if defined(__x86_64__)
inline void marker() { asm volatile("int3" ::: "memory"); }
#else
inline void marker() {}
#endif

/// Two processes and the memory between them, made afresh for every point.
class Scene {
 public:
  virtual ~Scene() = default;
  /// In the child. Begins the region with marker().
  virtual void child() = 0;
  /// Hash of the memory both sides share.
  virtual std::uint64_t signature() const = 0;
  /// The other side's turn while the child stands at a point.
  virtual void intervene() {}
  /// What is wrong now; the child is dead, or stands at the marker that ends everything.
  virtual std::vector<std::string> judge() = 0;
};
using MakeScene = std::function<std::unique_ptr<Scene>()>;

#if defined(__x86_64__)

class Tracee {
 public:
  explicit Tracee(Scene& scene) {
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(97);
      ::raise(SIGSTOP);
      scene.child();
      ::_exit(0);
    }
  }
  ~Tracee() { kill(); }
  Tracee(const Tracee&) = delete;
  Tracee& operator=(const Tracee&) = delete;

  /// True when the child stands at a trap; false when it ended, got another signal, or was silent until the alarm.
  bool wait() {
    int status = 0;
    stopped_ = false;
    if (::waitpid(pid_, &status, __WALL) != pid_) return false;
    stopped_ = WIFSTOPPED(status);
    if (!stopped_) pid_ = -1;
    signal_ = stopped_ ? WSTOPSIG(status) : 0;
    return stopped_ && signal_ == SIGTRAP;
  }
  bool begin() {
    (void)wait();
    return stopped_ && signal_ == SIGSTOP && proceed() && is_after_marker();
  }
  bool proceed() { return ::ptrace(PTRACE_CONT, pid_, nullptr, nullptr) == 0 && wait(); }
  bool step() { return ::ptrace(PTRACE_SINGLESTEP, pid_, nullptr, nullptr) == 0 && wait(); }
  std::uint64_t address() const { return word_of_user(offsetof(user_regs_struct, rip)); }
  bool is_after_marker() const { return (text(address() - 1) & 0xff) == 0xcc; }
  bool region_ends_here() const {
    const std::uint64_t code = text(address());
    if ((code & 0xff) == 0xcc) return true;
    if ((code & 0xffff) != 0x050f) return false;
    const std::uint64_t call = word_of_user(offsetof(user_regs_struct, rax));
    return call == SYS_epoll_wait || call == SYS_epoll_pwait || call == 441 /* epoll_pwait2 */ || call == SYS_poll || call == SYS_ppoll;
  }
  /// The n-th arrival at `address` from here on; false if the child gets to `end` before that.
  bool arrive(std::uint64_t address, std::uint32_t n, std::uint64_t end) {
    for (std::uint32_t i = 0; i < n; ++i) {
      if (!step()) return false;
      if (this->address() == address) continue;
      if (this->address() == end) return false;
      const std::uint64_t old = set_breakpoint(address);
      const std::uint64_t old_end = end != address && (text(end) & 0xff) != 0xcc ? set_breakpoint(end) : 0;
      const bool trapped = proceed();
      if (!stopped_) return false;
      if (old_end != 0) set_text(end, old_end);
      set_text(address, old);
      if (!trapped || this->address() != address + 1) return false;
      ::ptrace(PTRACE_POKEUSER, pid_, reinterpret_cast<void*>(offsetof(user_regs_struct, rip)), reinterpret_cast<void*>(address));
    }
    return true;
  }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    int status = 0;
    while (::waitpid(pid_, &status, __WALL) == pid_ && WIFSTOPPED(status)) {
    }
    pid_ = -1;
  }

 private:
  std::uint64_t word_of_user(std::size_t offset) const {
    return static_cast<std::uint64_t>(::ptrace(PTRACE_PEEKUSER, pid_, reinterpret_cast<void*>(offset), nullptr));
  }
  std::uint64_t text(std::uint64_t at) const { return static_cast<std::uint64_t>(::ptrace(PTRACE_PEEKTEXT, pid_, reinterpret_cast<void*>(at), nullptr)); }
  void set_text(std::uint64_t at, std::uint64_t word) { ::ptrace(PTRACE_POKETEXT, pid_, reinterpret_cast<void*>(at), reinterpret_cast<void*>(word)); }
  std::uint64_t set_breakpoint(std::uint64_t at) {
    const std::uint64_t old = text(at);
    set_text(at, (old & ~std::uint64_t{0xff}) | 0xcc);
    return old;
  }

  pid_t pid_ = -1;
  bool stopped_ = false;
  int signal_ = 0;
};

/// Why points cannot be walked here; empty if they can.
inline std::string why_no_stepping() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return "crash points: walked in the build without sanitizers, whose instructions are the ones that run";
#else
  struct Nothing final : Scene {
    void child() override { marker(); }
    std::uint64_t signature() const override { return 0; }
    std::vector<std::string> judge() override { return {}; }
  } nothing;
  Tracee tracee(nothing);
  if (!tracee.begin()) return "crash points: ptrace refused by this host";
  if (!tracee.step()) return "crash points: ptrace refused to single-step";
  return {};
#endif
}

enum class Then { kill, intervene };

struct Walked {
  std::size_t points = 0;
  std::size_t violations = 0;        ///< points with at least one complaint
  std::size_t strayed = 0;           ///< points where the memory was not as on the walk
  double seconds = 0;
  std::vector<std::string> said;     ///< the first few
};

/// Every `stride`-th point of the region, the last one always. Bounded: a child that is silent for ten seconds is a violation, two end
/// the walk.
inline Walked walk_every_point(const MakeScene& make, Then then, std::size_t stride = 1) {
  struct OneCpu {  // tracer and tracee take turns anyway; on one processor a turn costs a quarter
    cpu_set_t before{};
    OneCpu() {
      cpu_set_t one;
      CPU_ZERO(&one);
      ::sched_getaffinity(0, sizeof before, &before);
      CPU_SET(static_cast<std::size_t>(::sched_getcpu()), &one);
      ::sched_setaffinity(0, sizeof one, &one);
    }
    ~OneCpu() { ::sched_setaffinity(0, sizeof before, &before); }
  } one_cpu;
  struct sigaction act{};
  act.sa_handler = [](int) {};  // without SA_RESTART: waitpid returns
  ::sigaction(SIGALRM, &act, nullptr);
  const auto bound = [](long seconds) {
    const itimerval timer{{1, 0}, {seconds, 0}};  // again each second, in case it fires before the wait begins
    ::setitimer(ITIMER_REAL, &timer, nullptr);
  };

  Walked walked;
  timespec begin{};
  ::clock_gettime(CLOCK_MONOTONIC, &begin);
  struct Point {
    std::uint64_t address;
    std::uint32_t arrival;
    std::uint64_t signature;
  };
  std::vector<Point> points;
  {
    bound(60);
    const auto scene = make();
    Tracee tracee(*scene);
    std::unordered_map<std::uint64_t, std::uint32_t> arrivals;
    bool alive = tracee.begin();
    for (bool first = true; alive; first = false) {
      const std::uint64_t at = tracee.address();
      points.push_back({at, first ? 0 : ++arrivals[at], scene->signature()});
      if (tracee.region_ends_here()) break;
      alive = tracee.step();
    }
    if (!alive) {
      walked.violations = 1;
      walked.said.push_back("the child did not get through the region");
      return walked;
    }
  }
  const std::uint64_t end = points.back().address;
  std::size_t silent = 0;
  for (std::size_t k = 0; k < points.size() && silent < 2; k += (k + 1 < points.size() && k + stride >= points.size()) ? points.size() - 1 - k : stride) {
    bound(10);
    const auto scene = make();
    Tracee tracee(*scene);
    std::vector<std::string> wrong;
    const bool there = tracee.begin() && tracee.arrive(points[k].address, points[k].arrival, end);
    if (!there || scene->signature() != points[k].signature) ++walked.strayed;
    if (!there) {
      ++silent;
      wrong.push_back("the point was not reached again");
    } else if (then == Then::intervene) {
      scene->intervene();
      if (!(tracee.proceed() && tracee.is_after_marker())) {
        ++silent;
        wrong.push_back("the child never came to the end: a lost wake-up");
      }
    } else {
      tracee.kill();
    }
    if (wrong.empty()) wrong = scene->judge();
    ++walked.points;
    if (!wrong.empty()) {
      ++walked.violations;
      if (walked.said.size() < 5) walked.said.push_back("point " + std::to_string(k) + " of " + std::to_string(points.size()) + ": " + wrong.front());
    }
  }
  bound(0);
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  walked.seconds = static_cast<double>(now.tv_sec - begin.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec - begin.tv_nsec);
  return walked;
}

#else
inline std::string why_no_stepping() { return "crash points: ptrace refused: single-stepping is written for x86-64"; }
enum class Then { kill, intervene };
struct Walked {
  std::size_t points = 0, violations = 0, strayed = 0;
  double seconds = 0;
  std::vector<std::string> said;
};
inline Walked walk_every_point(const MakeScene&, Then, std::size_t = 1) { return {}; }
#endif

}  // namespace drover::test
