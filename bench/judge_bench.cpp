/// Measures `drover judge` on small Python submissions of three asserts, beside what people use instead, in one run:
///   drover         modes inproc and split, every profile: CPU time of the candidate's processes (split: of both sides), wall
///                  time of a run, runs a second of a whole batch on two cores with its ledger
///   python3        a fresh interpreter for each submission, two at a time; no isolation
///   bubblewrap     the same in all namespaces, where bwrap is installed
///   ProcessPool    ProcessPoolExecutor of two, exec() in the worker; no isolation, no limits
/// Usage: drover bench judge [--quick]

#include <fmt/core.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "child.hpp"
#include "figures.hpp"

extern char** environ;

namespace {

namespace fs = std::filesystem;
using namespace drover::bench;
using Clock = std::chrono::steady_clock;
constexpr const char* kPython = "/usr/bin/python3";

struct Row {
  std::string name;
  double cpu_ms = 0, wall_p50_ms = 0, wall_p99_ms = 0, runs_per_second = 0;
};

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }
std::string program(std::uint64_t i) { return fmt::format("def f(x):\n    return x + {}\n", i); }
std::vector<std::string> asserts(std::uint64_t i) { return {fmt::format("assert f(1) == {}", i + 1), fmt::format("assert f(2) == {}", i + 2), fmt::format("assert f(0) == {}", i)}; }

std::optional<Row> drover_row(const std::string& drover, const fs::path& scratch, const std::string& mode, const std::string& profile, std::uint64_t count) {
  const fs::path out = scratch / "out.jsonl";
  const ChildRun ran = run_bounded({drover, "judge", "batch", (scratch / "in.jsonl").string(), out.string(), "--mode", mode, "--profile", profile, "--workers", "2", "--job", (scratch / (mode + "-" + profile)).string(), "--json", "--progress", "none"},
                                   std::chrono::seconds(600));
  const nlohmann::json result = nlohmann::json::parse(ran.last_line(), nullptr, false);
  if (ran.status != 0 || !result.is_object() || result["figures"]["all_passed"] != count) {
    fmt::print("  (judge {} {}: status {}, not all passed: left out)\n", mode, profile, ran.status);
    return std::nullopt;
  }
  std::vector<double> cpu, wall;
  std::ifstream lines(out);
  for (std::string line; std::getline(lines, line);) {
    const nlohmann::json measured = nlohmann::json::parse(line)["measured"];
    cpu.push_back(measured["cpu_seconds"].get<double>() * 1e3);
    wall.push_back(measured["wall_seconds"].get<double>() * 1e3);
  }
  return Row{fmt::format("drover judge, {}, profile {}", mode, profile), quantile(cpu, 0.5), quantile(wall, 0.5), quantile(wall, 0.99), static_cast<double>(count) / result["timings"]["wall_seconds"].get<double>()};
}

/// A command for each submission, two at a time.
Row command_row(const std::string& name, const std::vector<std::string>& before, std::uint64_t count) {
  std::atomic<std::uint64_t> next = 0;
  std::vector<double> wall[2];
  double cpu[2] = {};
  const auto begin = Clock::now();
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 2; ++t)
      threads.emplace_back([&, t] {
        for (std::uint64_t i = next++; i < count; i = next++) {
          std::vector<std::string> words = before;
          std::string code = program(i);
          for (const std::string& one : asserts(i)) code += one + "\n";
          words.insert(words.end(), {kPython, "-I", "-S", "-B", "-c", code});
          std::vector<char*> argv;
          for (std::string& word : words) argv.push_back(word.data());
          argv.push_back(nullptr);
          const auto from = Clock::now();
          pid_t pid = 0;
          rusage used{};
          if (::posix_spawn(&pid, argv[0], nullptr, nullptr, argv.data(), environ) != 0 || ::wait4(pid, nullptr, 0, &used) != pid) continue;
          wall[t].push_back(seconds_since(from) * 1e3);
          const auto ms = [](const timeval& time) { return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_usec) * 1e-3; };
          cpu[t] += ms(used.ru_utime) + ms(used.ru_stime);
        }
      });
  }
  const double seconds = seconds_since(begin);
  wall[0].insert(wall[0].end(), wall[1].begin(), wall[1].end());
  return {name, (cpu[0] + cpu[1]) / static_cast<double>(count), quantile(wall[0], 0.5), quantile(wall[0], 0.99), static_cast<double>(count) / seconds};
}

std::optional<Row> pool_row(std::uint64_t count) {
  const std::string script = fmt::format(R"(import concurrent.futures as c, resource, time, json
def run(i):
    t = time.perf_counter()
    s = {{}}
    exec("def f(x):\n    return x + %d\n" % i, s)
    for a in ("assert f(1) == %d" % (i + 1), "assert f(2) == %d" % (i + 2), "assert f(0) == %d" % i): exec(a, s)
    return time.perf_counter() - t
if __name__ == "__main__":
    with c.ProcessPoolExecutor(2) as pool:
        list(pool.map(run, range(10)))
        t = time.perf_counter()
        walls = sorted(pool.map(run, range({0})))
        took = time.perf_counter() - t
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps([(used.ru_utime + used.ru_stime + own.ru_utime + own.ru_stime) / {0} * 1e3, walls[len(walls) // 2] * 1e3, walls[int(len(walls) * .99)] * 1e3, {0} / took])))", count);
  const ChildRun ran = run_bounded({kPython, "-c", script}, std::chrono::seconds(120));
  const nlohmann::json figures = nlohmann::json::parse(ran.last_line(), nullptr, false);
  if (!figures.is_array() || figures.size() != 4) return std::nullopt;
  return Row{"ProcessPoolExecutor(2), no isolation", figures[0], figures[1], figures[2], figures[3]};
}

}  // namespace

int main(int argc, char** argv) {
  const bool quick = argc > 1 && std::string(argv[1]) == "--quick";
  const std::uint64_t count = quick ? 200 : 2000;
  if (::access(kPython, X_OK) != 0) {
    fmt::print(stderr, "judge_bench: needs {}\n", kPython);
    return 2;
  }
  const std::string drover = (fs::canonical("/proc/self/exe").parent_path().parent_path() / "cli" / "drover").string();
  std::string name = (fs::temp_directory_path() / "drover-bench-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) return 4;
  const fs::path scratch = name;
  {
    std::ofstream in(scratch / "in.jsonl");
    for (std::uint64_t i = 0; i < count; ++i) in << nlohmann::json{{"id", std::to_string(i)}, {"code", program(i)}, {"entry_points", {"f"}}, {"tests", asserts(i)}}.dump() << "\n";
  }
  std::vector<Row> rows;
  const auto keep = [&](const std::optional<Row>& row) {
    if (row) rows.push_back(*row);
  };
  for (const char* const profile : {"root", "userns", "container"})
    for (const char* const mode : {"inproc", "split"}) keep(drover_row(drover, scratch, mode, profile, count));
  keep(command_row("fresh python3 -I -S -B, no isolation", {}, count / 4));
  if (::access("/usr/bin/bwrap", X_OK) == 0)
    keep(command_row("bubblewrap --unshare-all + python3", {"/usr/bin/bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"}, count / 4));
  else fmt::print("  (bubblewrap is not installed)\n");
  keep(pool_row(count));
  fs::remove_all(scratch);
  fmt::print("\n{:<42} {:>12} {:>10} {:>10} {:>10}\n", "three asserts", "CPU ms a run", "p50 ms", "p99 ms", "runs/s");
  for (const Row& row : rows) fmt::print("{:<42} {:>12} {:>10} {:>10} {:>10}\n", row.name, shown(row.cpu_ms), shown(row.wall_p50_ms), shown(row.wall_p99_ms), shown(row.runs_per_second));
  return 0;
}
