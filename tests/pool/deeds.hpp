#pragma once
// What the workers of the pool's tests do: one task function that computes an answer, or misbehaves in the way it is asked to.
// The test program is its own worker, so all of this runs in real worker processes.

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "drover/init.hpp"
#include "drover/task.hpp"

namespace drover::test {

enum class Deed : std::uint32_t {
  none,              ///< the answer
  spin,              ///< loops for ever, deaf to everything
  spin_a_while,      ///< computes for `argument` microseconds of wall time, with progress, then the answer
  spin_if_first,     ///< spins for ever the first time (shared cell 0 counts), answers the second time
  sleep,             ///< sleeps for ever
  sleep_deaf,        ///< ignores SIGTERM and the stop flag, and sleeps for ever
  sleep_polite,      ///< waits until it is asked to stop, then answers
  stop_self,         ///< SIGSTOP to itself
  escape,            ///< leaves a daemonised grandchild behind that holds the pipe named by setup, then the answer
  escape_and_abort,  ///< the same, then abort()
  leak,              ///< takes memory for ever
  grow,              ///< keeps `argument` KiB more resident, then the answer
  flood_stdout,      ///< writes `argument` MiB to stdout, then the answer
  garble,            ///< writes over line `argument` of its incarnation memory, then the answer
  garble_all,        ///< writes over all of it, again and again, for a while, then the answer
  close_fds,         ///< closes every descriptor but stdio, then the answer
  exit_0,
  abort,
  segv,
  fpe,
  kill_self,         ///< SIGKILL to itself
  throw_std,
  throw_int,
  error,
  exec_other,        ///< becomes another program
  end_main_thread,   ///< only its main thread ends; another thread lives on
  fork_bomb,         ///< forks until it is refused; the answer is how many children there were
  fork_and_return,   ///< forks, and the child returns from the task function too
  count,             ///< adds one to shared cell `number`, then the answer
  count_slowly,      ///< the same, and then 2 ms of work
  broadcast,         ///< the answer is the broadcast's version, its first and its last byte
};

struct Act {
  std::uint64_t number = 0;
  Deed deed = Deed::none;
  std::uint32_t argument = 0;
};

inline std::uint64_t answer_of(std::uint64_t number) { return splitmix64(number ^ 0x5bd1e995u); }

/// The n-th 8-byte cell of the shared segment.
inline std::atomic<std::uint64_t>& cell(std::span<std::byte> shared, std::uint64_t n) {
  if ((n + 1) * 8 > shared.size()) std::abort();
  return reinterpret_cast<std::atomic<std::uint64_t>*>(shared.data())[n];
}

inline std::string setup_path(Context& context) {
  return {reinterpret_cast<const char*>(context.setup().data()), context.setup().size()};
}

/// Where this process has its incarnation memory mapped, found as any hostile code would.
inline std::span<std::byte> own_incarnation_memory() {
  std::span<std::byte> found;
  if (FILE* maps = std::fopen("/proc/self/maps", "re")) {
    char line[512];
    while (std::fgets(line, sizeof line, maps) != nullptr) {
      unsigned long begin = 0, end = 0;
      if (std::strstr(line, "memfd:drover-incarnation") == nullptr || std::sscanf(line, "%lx-%lx", &begin, &end) != 2) continue;
      // Parts with other flags (not inherited by forks) show as lines of their own: the first to the last of them.
      std::byte* const first = found.empty() ? reinterpret_cast<std::byte*>(begin) : found.data();
      found = {first, reinterpret_cast<std::byte*>(end)};
    }
    std::fclose(maps);
  }
  return found;
}

/// A grandchild in its own session that ignores SIGTERM and holds the pipe; on return it stands.
inline void leave_grandchild(const std::string& fifo) {
  const int pipe = ::open(fifo.c_str(), O_WRONLY | O_CLOEXEC);
  int standing[2];
  if (pipe < 0 || ::pipe2(standing, O_CLOEXEC) != 0) std::abort();
  const pid_t child = ::fork();
  if (child == 0) {
    ::setsid();
    if (::fork() == 0) {
      ::signal(SIGTERM, SIG_IGN);
      ::signal(SIGHUP, SIG_IGN);
      if (::write(pipe, "x", 1) != 1 || ::write(standing[1], "x", 1) != 1) ::_exit(1);
      for (;;) ::pause();
    }
    char word = 0;
    if (::read(standing[0], &word, 1) != 1) ::_exit(1);  // its worker's death must find it there
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  for (const int fd : {pipe, standing[0], standing[1]}) ::close(fd);
}

inline void spin_for(Context& context, std::uint64_t micros) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(micros);
  for (std::uint64_t turns = 0; std::chrono::steady_clock::now() < end; ++turns) context.progress(turns);
}

inline Result<std::uint64_t> act(const Act& a, Context& context) {
  const std::uint64_t answer = answer_of(a.number);
  switch (a.deed) {
    case Deed::none: return answer;
    case Deed::spin:
      for (;;) asm volatile("");
    case Deed::spin_a_while: spin_for(context, a.argument); return answer;
    case Deed::spin_if_first:
      if (cell(context.shared_segment(), 0).fetch_add(1) == 0)
        for (;;) asm volatile("");
      return answer;
    case Deed::sleep:
      for (;;) ::pause();
    case Deed::sleep_deaf:
      ::signal(SIGTERM, SIG_IGN);
      if (!context.shared_segment().empty()) cell(context.shared_segment(), 0).fetch_add(1);
      for (;;) ::pause();
    case Deed::sleep_polite:
      if (!context.shared_segment().empty()) cell(context.shared_segment(), 0).fetch_add(1);
      while (!context.stopping()) ::sched_yield();
      return answer;
    case Deed::stop_self:
      // A namespace's PID 1 would ignore it; a worker never is one.
      for (;;) ::kill(::getpid(), SIGSTOP);
    case Deed::escape: leave_grandchild(setup_path(context)); return answer;
    case Deed::escape_and_abort: leave_grandchild(setup_path(context)); std::abort();
    case Deed::leak:
      for (;;) {
        constexpr std::size_t kPiece = std::size_t{8} << 20;
        auto* piece = static_cast<char*>(::mmap(nullptr, kPiece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (piece == MAP_FAILED) std::abort();
        std::memset(piece, 1, kPiece);
      }
    case Deed::grow: {
      const std::size_t size = std::size_t{a.argument} << 10;
      auto* piece = static_cast<char*>(::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
      if (piece == MAP_FAILED) std::abort();
      std::memset(piece, 1, size);
      spin_for(context, 60'000);  // long enough to be sampled
      return answer;
    }
    case Deed::flood_stdout: {
      const std::vector<char> flood(std::size_t{1} << 20, '#');
      for (std::uint32_t i = 0; i < a.argument; ++i)
        if (::write(1, flood.data(), flood.size()) < 0) break;
      return answer;
    }
    case Deed::garble: {
      const std::span<std::byte> memory = own_incarnation_memory();
      const std::size_t begin = std::size_t{a.argument} * 64;
      if (begin + 64 > memory.size()) std::abort();
      Rng rng(a.number);
      for (std::size_t i = 0; i < 64; ++i) memory[begin + i] = static_cast<std::byte>(rng());
      return answer;
    }
    case Deed::garble_all: {
      const std::span<std::byte> memory = own_incarnation_memory().first(40960);
      Rng rng(a.number);
      for (int round = 0; round < 20; ++round)
        for (std::size_t i = 0; i < memory.size(); i += 8) {
          const std::uint64_t word = rng();
          std::memcpy(memory.data() + i, &word, 8);
        }
      return answer;
    }
    case Deed::close_fds: ::syscall(SYS_close_range, 3u, ~0u, 0u); return answer;
    case Deed::exit_0: std::_Exit(0);
    case Deed::abort: std::abort();
    case Deed::segv: ::signal(SIGSEGV, SIG_DFL); ::raise(SIGSEGV); std::_Exit(99);
    case Deed::fpe: ::raise(SIGFPE); std::_Exit(99);
    case Deed::kill_self: ::kill(::getpid(), SIGKILL); std::_Exit(99);
    case Deed::throw_std: throw std::runtime_error("thrown on purpose");
    case Deed::throw_int: throw 42;
    case Deed::error: return fail(ErrorCode::refused, "refused on purpose");
    case Deed::exec_other:
      ::execl("/bin/cat", "cat", "/dev/null", static_cast<char*>(nullptr));
      std::_Exit(98);
    case Deed::end_main_thread: {
      std::thread([] { for (;;) ::pause(); }).detach();
      ::syscall(SYS_exit, 0);
      std::_Exit(97);
    }
    case Deed::fork_bomb: {
      std::uint64_t children = 0;
      for (; children < 100'000; ++children) {
        const pid_t child = ::fork();
        if (child < 0) break;
        if (child == 0) for (;;) ::pause();
      }
      return children;
    }
    case Deed::fork_and_return:
      (void)::fork();
      return answer;
    case Deed::count: cell(context.shared_segment(), a.number).fetch_add(1); return answer;
    case Deed::count_slowly:
      cell(context.shared_segment(), a.number).fetch_add(1);
      spin_for(context, 2000);
      return answer;
    case Deed::broadcast: {
      const BytesView b = context.broadcast();
      if (b.empty()) return 0;
      return (std::uint64_t{context.broadcast_version()} << 16) | (static_cast<std::uint64_t>(b.front()) << 8) | static_cast<std::uint64_t>(b.back());
    }
  }
  return fail(ErrorCode::corrupt, "unknown deed");
}
inline constexpr auto act_task = task<"act", &act>;

/// State that counts its own tasks; how it starts is told by setup: `fail`, `crash`, `hang`, `throw`, `flaky` (the first two
/// starts of the pool fail, counted in shared cell 0), or nothing.
struct Counter {
  std::uint64_t tasks = 0;
  static Result<Counter> start(Context& context) {
    const std::string how = setup_path(context);
    if (how == "fail") return fail(ErrorCode::refused, "no licence for this computation");
    if (how == "crash") std::abort();
    if (how == "throw") throw std::runtime_error("thrown while starting");
    if (how == "hang") for (;;) ::pause();
    if (how == "flaky" && cell(context.shared_segment(), 0).fetch_add(1) < 2) return fail(ErrorCode::unavailable, "not yet");
    return Counter{};
  }
  std::uint64_t count(const Act& a, Context&) {
    ++tasks;
    return a.deed == Deed::count ? tasks : answer_of(a.number);
  }
};
inline constexpr auto counter_task = stateful_task<"counter", &Counter::count>;

/// Reads its input in place and answers every byte turned around, in place.
inline Result<void> invert(BytesView input, ResultWriter& result, Context& context, void*) {
  DROVER_TRY(std::span<std::byte> out, result.reserve(input.size()));
  for (std::size_t i = 0; i < input.size(); ++i) {
    out[i] = ~input[i];
    if ((i & 0xfffff) == 0) context.progress(i);
  }
  return {};
}
inline constexpr TaskFunction invert_function{"invert", &invert, nullptr};
inline constexpr Task<Bytes, Bytes> invert_task{&invert_function};

/// Asks for as much result space as its input says.
inline Result<void> reserve(BytesView input, ResultWriter& result, Context&, void*) {
  std::uint64_t size = 0;
  if (input.size() != sizeof size) return fail(ErrorCode::corrupt, "not a size");
  std::memcpy(&size, input.data(), sizeof size);
  DROVER_TRY(std::span<std::byte> out, result.reserve(size));
  (void)out;
  result.truncate(0);
  return {};
}
inline constexpr TaskFunction reserve_function{"reserve", &reserve, nullptr};
inline constexpr Task<std::uint64_t, Bytes> reserve_task{&reserve_function};

/// Known to callers, not to the workers.
inline std::uint64_t unknown(const std::uint64_t& x, Context&) { return x; }
inline constexpr auto unknown_task = task<"unknown", &unknown>;

inline void init_deeds(int argc, char** argv) {
  drover::init(argc, argv, {act_task.function, counter_task.function, &invert_function, &reserve_function});
}

}  // namespace drover::test
