// drover-bench: what `drover bench` becomes. The driver of the pool's benches: drover beside the pools people use instead, in
// one run on one machine, in interleaved rounds. Every measurement is a bounded child program in its own process group (this
// same program again for drover, python3 for the peers), so whatever hangs or leaks costs its own cell of the table alone.
//
//   drover bench pool  [--rounds N] [--peers WORD,...|none] [--json]   throughput, round trips, payloads, drover's own figures
//   drover bench kills [--rounds N] [--peers WORD,...|none] [--json]   what each does when processes are killed, stopped or spin
//   drover bench NAME ...                                              NAME_bench beside this program
//
// The table is Markdown on stdout, progress goes to stderr; --json prints one JSON object with every sample instead.
// Exit status: 0 measured; 1 a figure of drover's own is missing; 2 usage.

#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <sstream>
#include <thread>

#include "child.hpp"
#include "drover/init.hpp"
#include "figures.hpp"
#include "pool_scenarios.hpp"

extern "C" const char drover_bench_peers_begin[], drover_bench_peers_end[];

namespace drover::bench {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr const char* kPython = "/usr/bin/python3";  // the system's, whose packages the peers are
constexpr auto kBound = 180s;                         // of one measurement; their own bounds are shorter

struct Usage {
  std::string text;
};

struct Asked {
  std::string bench;
  std::optional<int> rounds;
  std::vector<std::string> peers = {"mp-pool", "executor", "loky", "pebble"};
  std::vector<std::string> only;
  bool as_json = false;
};

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');)
    if (!part.empty() && part != "none") parts.push_back(part);
  return parts;
}

Asked parse(const std::vector<std::string>& words) {
  Asked asked;
  asked.bench = words.at(0);
  for (std::size_t i = 1; i < words.size(); ++i) {
    const auto value = [&] {
      if (i + 1 >= words.size()) throw Usage{words[i] + " needs a value"};
      return words[++i];
    };
    if (words[i] == "--json") asked.as_json = true;
    else if (words[i] == "--rounds") {
      asked.rounds = std::atoi(value().c_str());
      if (*asked.rounds < 1 || *asked.rounds > 100) throw Usage{"--rounds is 1 to 100"};
    } else if (words[i] == "--peers") {
      asked.peers = split(value());
      for (const std::string& peer : asked.peers)
        if (peer != "mp-pool" && peer != "executor" && peer != "loky" && peer != "pebble") throw Usage{"unknown peer '" + peer + "': mp-pool, executor, loky, pebble or none"};
    } else if (words[i] == "--only") asked.only = split(value());
    else throw Usage{"unknown word '" + words[i] + "'"};
  }
  return asked;
}

// ---- the machine, as every table names it

std::string first_line_of(const char* path, std::string_view key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(key)) return line.substr(std::min(line.size(), line.find_first_not_of(": \t", key.size())));
  return "unknown";
}

std::string load() {
  std::ifstream in("/proc/loadavg");
  std::string one, five, fifteen;
  in >> one >> five >> fifteen;
  return one + "/" + five + "/" + fifteen;
}

/// `23.5 GiB`, from /proc/meminfo's kilobytes.
std::string memory() { return fmt::format("{:.1f} GiB", std::strtod(first_line_of("/proc/meminfo", "MemTotal").c_str(), nullptr) / (1 << 20)); }

json machine() {
  utsname names{};
  uname(&names);
  return {{"cpu", first_line_of("/proc/cpuinfo", "model name")}, {"cores", std::thread::hardware_concurrency()},
          {"memory", memory()}, {"kernel", names.release}, {"compiler", "g++ " __VERSION__}};
}

// ---- participants

/// peers.py as a module in a directory of its own: its task functions are then pickled by name, as a user's would be.
class PeerScript {
 public:
  PeerScript() {
    std::string name = (fs::temp_directory_path() / "drover-peers-XXXXXX").string();
    if (mkdtemp(name.data()) != nullptr) folder_ = name;
    std::ofstream(folder_ / "peers.py").write(drover_bench_peers_begin, drover_bench_peers_end - drover_bench_peers_begin);
  }
  ~PeerScript() {
    std::error_code ignored;
    if (!folder_.empty()) fs::remove_all(folder_, ignored);
  }
  PeerScript(const PeerScript&) = delete;
  PeerScript& operator=(const PeerScript&) = delete;
  std::vector<std::string> words(std::vector<std::string> rest) const {
    std::vector<std::string> all = {kPython, "-B", "-W", "ignore", "-c",
                                    "import sys; sys.path.insert(0, '" + folder_.string() + "'); import peers; peers.main(sys.argv[1:])"};
    all.insert(all.end(), rest.begin(), rest.end());
    return all;
  }

 private:
  fs::path folder_;
};

json answer_of(const ChildRun& run) {
  if (!run.started) return {{"not_installed", true}};
  json row = json::parse(run.last_line(), nullptr, false);
  if (run.hung) return {{"hung", true}, {"seconds", run.seconds}};
  if (!row.is_object()) return {{"error", fmt::format("ended with status {} and no figures", run.status)}};
  return row;
}

struct Participant {
  std::string word, name, version;
  bool installed = true;
};

class Rounds {
 public:
  Rounds(const Asked& asked, int rounds) : asked_(asked), rounds_(rounds) {
    participants_.push_back({"drover", "**drover**", "", true});
    json list = json::object();
    if (!asked.peers.empty()) {
      const ChildRun asked_for = run_bounded(script_.words({"list"}), 120s);
      if (asked_for.hung) throw Usage{"python3 did not list the peers in 120 s; try again on a quieter machine, or with --peers none"};
      list = json::parse(asked_for.last_line(), nullptr, false);
    }
    for (const std::string& peer : asked.peers) {
      const bool known = list.is_object() && list.contains(peer);
      const bool installed = known && !list[peer].contains("not_installed");
      participants_.push_back({peer, known ? list[peer].value("name", peer) : peer, installed ? list[peer].value("version", "") : "", installed});
    }
  }

  /// One scenario for every participant, round by round; the order turns with the round.
  void measure(const std::string& scenario) {
    for (int round = 0; round < rounds_; ++round)
      for (std::size_t i = 0; i < participants_.size(); ++i) {
        const Participant& who = participants_[(i + static_cast<std::size_t>(round)) % participants_.size()];
        if (!who.installed) continue;
        say(round, scenario, who.word);
        const std::string seed = std::to_string(round + 1);
        const auto words = who.word == "drover" ? std::vector<std::string>{own_path(), "child", scenario, seed} : script_.words({who.word, scenario, seed});
        rows_[scenario][who.word].push_back(answer_of(run_bounded(words, kBound)));
      }
    done();
  }
  /// A scenario that drover alone has.
  void measure_own(const std::string& scenario) {
    for (int round = 0; round < rounds_; ++round) {
      say(round, scenario, "drover");
      rows_[scenario]["drover"].push_back(answer_of(run_bounded({own_path(), "child", scenario, std::to_string(round + 1)}, kBound)));
    }
    done();
  }
  /// As measure_own, with the measuring given.
  void measure_own(const std::string& scenario, const std::function<json(int round)>& one) {
    for (int round = 0; round < rounds_; ++round) {
      say(round, scenario, "drover");
      rows_[scenario]["drover"].push_back(one(round));
    }
    done();
  }

  const std::vector<json>& rows(const std::string& scenario, const std::string& who) const {
    static const std::vector<json> none;
    const auto at = rows_.find(scenario);
    if (at == rows_.end() || !at->second.contains(who)) return none;
    return at->second.at(who);
  }
  std::optional<Summary> figure(const std::string& scenario, const std::string& who, const std::string& key) const {
    std::vector<double> samples;
    for (const json& row : rows(scenario, who))
      if (row.contains(key) && row[key].is_number()) samples.push_back(row[key].get<double>());
    return summary_of(std::move(samples));
  }
  /// Median over the rounds of drover's figure over another's, of the same round.
  std::optional<Summary> ratio(const std::string& scenario, const std::string& other, const std::string& key, const std::string& other_scenario = {}) const {
    std::vector<double> ratios;
    const auto& ours = rows(scenario, "drover");
    const auto& theirs = rows(other_scenario.empty() ? scenario : other_scenario, other);
    for (std::size_t i = 0; i < std::min(ours.size(), theirs.size()); ++i)
      if (ours[i].contains(key) && theirs[i].contains(key) && theirs[i][key].get<double>() > 0) ratios.push_back(ours[i][key].get<double>() / theirs[i][key].get<double>());
    return summary_of(std::move(ratios));
  }
  const std::vector<Participant>& participants() const { return participants_; }
  json samples() const { return rows_; }
  int count() const { return rounds_; }
  /// The words of drover's rows that brought no figures.
  std::vector<std::string> complaints() const {
    std::vector<std::string> found;
    for (const auto& [scenario, by_who] : rows_)
      for (const json& row : rows(scenario, "drover"))
        if (row.contains("error") || row.contains("hung")) found.push_back(scenario + ": " + (row.contains("hung") ? "hung" : row["error"].get<std::string>()));
    return found;
  }

 private:
  void say(int round, const std::string& scenario, const std::string& who) const {
    const std::string line = fmt::format("drover: bench: {} {}/{}: {}", scenario, round + 1, rounds_, who);
    if (isatty(2) != 0) fmt::print(stderr, "\r\033[K{}", line);
  }
  void done() const {
    if (isatty(2) != 0) fmt::print(stderr, "\r\033[K");
  }
  const Asked& asked_;
  int rounds_;
  PeerScript script_;
  std::vector<Participant> participants_;
  std::map<std::string, std::map<std::string, std::vector<json>>> rows_;
};

// ---- tables

std::string cell(const std::optional<Summary>& s) { return s ? (s->samples > 1 ? fmt::format("{} [{}..{}]", shown(s->median), shown(s->min), shown(s->max)) : shown(s->median)) : "-"; }
std::string times(const std::optional<Summary>& s) { return s ? fmt::format("**{}x** [{}..{}]", shown(s->median), shown(s->min), shown(s->max)) : "-"; }

std::string head(const Asked& asked, const Rounds& rounds, const std::string& load_before) {
  const json m = machine();
  std::string text = fmt::format("Machine: {} cores, {}, {}, Linux {}, {}. Load (1/5/15 min) {} before, {} after. {} interleaved round{}; medians [least..most]; 2 workers each.\n",
                                 m["cores"].get<unsigned>(), m["cpu"].get<std::string>(), m["memory"].get<std::string>(), m["kernel"].get<std::string>(),
                                 m["compiler"].get<std::string>(), load_before, load(), rounds.count(), rounds.count() == 1 ? "" : "s");
  text += fmt::format("Made by `drover bench {}`. Peers:", asked.bench);
  for (const Participant& who : rounds.participants())
    if (who.word != "drover") text += fmt::format(" {} ({})", who.name, who.installed ? who.version : "not installed");
  return text + "\n\n";
}

std::string pool_table(const Rounds& rounds) {
  struct Column {
    const char *key, *title;
  };
  constexpr Column kColumns[] = {{"start_ms", "start + first result ms"},  {"noop_per_s", "no-op tasks/s, window 64"}, {"rtt_p50_us", "one at a time p50 us"},
                                 {"rtt_p99_us", "p99 us"},                 {"echo_64k_mb_per_s", "echo 64 KB MB/s"},   {"echo_64k_64_mb_per_s", "64 KB, 64 in flight MB/s"},
                                 {"echo_1m_mb_per_s", "1 MB MB/s"},
                                 {"echo_16m_mb_per_s", "16 MB MB/s"}};
  std::string text = "| |", rule = "|---|";
  for (const Column& column : kColumns) text += fmt::format(" {} |", column.title), rule += "---|";
  text += "\n" + rule + "\n";
  for (const Participant& who : rounds.participants()) {
    text += fmt::format("| {}{} |", who.name, who.word == "drover" ? " (in memory, grain `ranges`)" : "");
    for (const Column& column : kColumns) text += fmt::format(" {} |", who.installed ? cell(rounds.figure("pool", who.word, column.key)) : "not installed");
    text += "\n";
  }
  text += "\ndrover / peer, ratio of the same round:\n\n| drover / |";
  for (const Column& column : kColumns) text += fmt::format(" {} |", column.title);
  text += "\n" + rule + "\n";
  for (const Participant& who : rounds.participants()) {
    if (who.word == "drover" || !who.installed) continue;
    text += fmt::format("| {} |", who.name);
    for (const Column& column : kColumns) text += fmt::format(" {} |", times(rounds.ratio("pool", who.word, column.key)));
    text += "\n";
  }
  text += "\n| drover alone | |\n|---|---|\n";
  const auto row = [&](const std::string& title, const std::string& value) { text += fmt::format("| {} | {} |\n", title, value); };
  row("round trip, in memory, p50 us", cell(rounds.figure("pool", "drover", "rtt_p50_us")));
  row("floor of the same run: eventfd + epoll between two processes, p50 us", cell(rounds.figure("floor", "drover", "rtt_p50_us")));
  row("round trip / floor", times(rounds.ratio("pool", "drover", "rtt_p50_us", "floor")));
  row("job, grain `rows`, durability `power`: tasks/s (group commit)", cell(rounds.figure("rows", "drover", "per_s")));
  row("job, grain `ranges`, durability `power`: tasks/s", cell(rounds.figure("ranges", "drover", "per_s")));
  row("job, grain `rows`, durability `power`, one worker, window 1: us per task", cell(rounds.figure("rows", "drover", "one_at_a_time_us")));
  row("worker SIGKILLed: its caller is told, p50 ms", cell(rounds.figure("own", "drover", "kill_known_p50_ms")));
  row("... p99 ms", cell(rounds.figure("own", "drover", "kill_known_p99_ms")));
  row("worker SIGKILLed: the replacement's first result, p50 ms", cell(rounds.figure("own", "drover", "replacement_p50_ms")));
  row("... p99 ms", cell(rounds.figure("own", "drover", "replacement_p99_ms")));
  row("idle, 8 workers: wake-ups/s of all its processes and threads (5 s)", cell(rounds.figure("own", "drover", "idle_wakeups_per_s")));
  row("destructor with one worker SIGSTOPped, one spinning: ms", cell(rounds.figure("own", "drover", "destructor_ms")));
  row("... of which the stop ladder's graces: ms", cell(rounds.figure("own", "drover", "destructor_graces_ms")));
  return text;
}

/// Least and most of the rounds, one number where they agree.
std::string span(const std::optional<Summary>& s) { return !s ? "-" : s->min == s->max ? shown(s->min) : fmt::format("{}..{}", shown(s->min), shown(s->max)); }

/// Every distinct word of the rounds, with how often where they differ.
std::string said(const std::vector<json>& rows, const std::string& key) {
  std::map<std::string, int> words;
  for (const json& row : rows) ++words[row.contains("hung") ? "**whole program hangs**" : row.value(key, "-")];
  std::string text;
  for (const auto& [word, n] : words) text += (text.empty() ? "" : ", ") + (words.size() > 1 ? fmt::format("{} ({} of {})", word, n, rows.size()) : word);
  return text.empty() ? "-" : text;
}

std::string under_kills(const Rounds& rounds, const std::string& scenario, const std::string& who) {
  const auto f = [&](const char* key) { return rounds.figure(scenario, who, key); };
  if (!f("ok")) return said(rounds.rows(scenario, who), "error");
  const auto never = f("never_resolved");
  std::string text = fmt::format("{} ok / {} failed / {}{}{} never", span(f("ok")), span(f("failed")), never && never->max > 0 ? "**" : "", span(never), never && never->max > 0 ? "**" : "");
  if (scenario == "kill1") text += fmt::format("; new worker {}", f("kill_to_new_worker_ms") ? shown(f("kill_to_new_worker_ms")->median) + " ms" : "never");
  else text += fmt::format("; {} kills", span(f("kills")));
  return text + "; then " + said(rounds.rows(scenario, who), "after");
}

std::string kills_table(const Rounds& rounds) {
  std::string text =
      "| | kill1: one SIGKILL in 10,000 tasks | storm: a SIGKILL each 30 ms, 20,000 tasks | idle worker killed, then a task | worker SIGSTOPped, 2,000 tasks | endless task | "
      "supervisor SIGKILLed |\n|---|---|---|---|---|---|---|\n";
  for (const Participant& who : rounds.participants()) {
    if (!who.installed) {
      text += fmt::format("| {} | not installed | | | | | |\n", who.name);
      continue;
    }
    const auto f = [&](const char* scenario, const char* key) { return rounds.figure(scenario, who.word, key); };
    std::string stopped = said(rounds.rows("sigstop", who.word), "error");
    if (f("sigstop", "ok")) stopped = fmt::format("{} ok / {} never in 8 s", span(f("sigstop", "ok")), span(f("sigstop", "never_resolved")));
    const auto left = f("superkill", "left_after_5s");
    std::string after = !left ? said(rounds.rows("superkill", who.word), "error") : left->max > 0 ? fmt::format("**{} left running**", span(left)) : "none left";
    if (const auto gone = f("superkill", "gone_after_ms"); gone && left && left->max == 0) after += fmt::format(", gone in {} ms", shown(gone->median));
    std::string endless = said(rounds.rows("forever", who.word), "said");
    if (const auto seconds = f("forever", "seconds"); seconds && endless == "ended") endless += fmt::format(" at {} s (limit 1 s)", shown(seconds->median));
    if (const auto spinning = f("forever", "still_spinning"); spinning && spinning->max > 0) endless += "; spins on";
    text += fmt::format("| {} | {} | {} | {} | {} | {} | {} |\n", who.name, under_kills(rounds, "kill1", who.word), under_kills(rounds, "storm", who.word),
                        said(rounds.rows("idlekill", who.word), "next_task"), stopped, endless, after);
  }
  return text;
}

// ---- jobs: through the drover program, since a ledger on disk belongs to a job

json measure_job(const std::string& grain) {
  const fs::path here = fs::path(own_path()).parent_path();
  const fs::path drover = here.parent_path() / "cli" / "drover";
  if (!fs::exists(drover)) return {{"error", "the drover program is not beside the bench"}};
  const fs::path folder = fs::temp_directory_path() / fmt::format("drover-bench-{}", getpid());
  json row;
  const auto run = [&](std::uint64_t tasks, std::vector<std::string> more) -> double {
    std::vector<std::string> words = {drover.string(), "echo", "--tasks", std::to_string(tasks), "--bytes", "8", "--grain", grain, "--durability", "power", "--job", folder.string(), "--json"};
    words.insert(words.end(), more.begin(), more.end());
    const json said = answer_of(run_bounded(words, kBound));
    std::error_code ignored;
    fs::remove_all(folder, ignored);
    if (!said.contains("timings")) {
      row["error"] = said.value("error", said.dump());
      return 0;
    }
    if (said["counts"].value("completed", std::uint64_t{0}) != tasks) row["error"] = said.value("exit_reason", "tasks are missing");
    return said["timings"].value("wall_seconds", 0.0);
  };
  constexpr std::uint64_t kTasks = 1'000'000;
  if (const double seconds = run(kTasks, {"--workers", "2"}); seconds > 0) row["per_s"] = static_cast<double>(kTasks) / seconds;
  if (grain == "rows") {  // window 1 on one worker: a task and its successor, each durable before it is delivered
    constexpr std::uint64_t kFew = 2000;
    if (const double seconds = run(kFew, {"--workers", "1", "--window", "1"}); seconds > 0) row["one_at_a_time_us"] = seconds / static_cast<double>(kFew) * 1e6;
  }
  return row;
}

// ---- the two benches

int bench_pool(const Asked& asked) {
  const std::string load_before = load();
  Rounds rounds(asked, asked.rounds.value_or(5));
  rounds.measure_own("floor");
  // For every participant alike: glibc gives large blocks back at each free and takes them page by page again.
  constexpr std::pair<const char*, const char*> kKeepMemory[] = {{"MALLOC_TRIM_THRESHOLD_", "268435456"}, {"MALLOC_MMAP_THRESHOLD_", "33554432"}};
  for (const auto& [name, value] : kKeepMemory) setenv(name, value, 1);
  rounds.measure("pool");
  for (const auto& [name, value] : kKeepMemory) unsetenv(name);
  rounds.measure_own("own");
  for (const char* grain : {"rows", "ranges"}) rounds.measure_own(grain, [&](int) { return measure_job(grain); });
  if (asked.as_json) fmt::print("{}\n", json{{"bench", "pool"}, {"machine", machine()}, {"load_before", load_before}, {"load_after", load()}, {"samples", rounds.samples()}}.dump());
  else fmt::print("{}{}", head(asked, rounds, load_before), pool_table(rounds));
  for (const std::string& complaint : rounds.complaints()) fmt::print(stderr, "drover: bench: {}\n", complaint);
  return rounds.complaints().empty() ? 0 : 1;
}

int bench_kills(const Asked& asked) {
  const std::string load_before = load();
  Rounds rounds(asked, asked.rounds.value_or(3));
  for (const char* scenario : {"kill1", "storm", "idlekill", "sigstop", "forever", "superkill"})
    if (asked.only.empty() || std::ranges::find(asked.only, scenario) != asked.only.end()) rounds.measure(scenario);
  if (asked.as_json) fmt::print("{}\n", json{{"bench", "kills"}, {"machine", machine()}, {"load_before", load_before}, {"load_after", load()}, {"samples", rounds.samples()}}.dump());
  else fmt::print("{}{}", head(asked, rounds, load_before), kills_table(rounds));
  for (const std::string& complaint : rounds.complaints()) fmt::print(stderr, "drover: bench: {}\n", complaint);
  return rounds.complaints().empty() ? 0 : 1;
}

constexpr const char* kHelp =
    "drover bench pool  [--rounds N] [--peers WORD,...|none] [--json]   throughput, round trips, payloads, drover's own figures\n"
    "drover bench kills [--rounds N] [--peers WORD,...|none] [--only SCENARIO,...] [--json]   processes killed, stopped, spinning\n"
    "drover bench NAME ...   the bench of a part, where it was built: guard, solve, engine\n"
    "peers: mp-pool, executor, loky, pebble; scenarios: kill1, storm, idlekill, sigstop, forever, superkill\n";

int run(const std::vector<std::string>& words) {
  if (words.empty() || words[0] == "--help" || words[0] == "help") {
    fmt::print("{}", kHelp);
    return words.empty() ? 2 : 0;
  }
  if (words[0] == "child") {
    if (words.size() < 2) throw Usage{"child needs a scenario"};
    const json row = run_scenario(words[1], words.size() > 2 ? std::strtoull(words[2].c_str(), nullptr, 10) : 1);
    fmt::print("{}\n", row.dump());
    return row.contains("error") ? 1 : 0;
  }
  if (words[0] == "pool") return bench_pool(parse(words));
  if (words[0] == "kills") return bench_kills(parse(words));
  const std::string other = (fs::path(own_path()).parent_path() / (words[0] + "_bench")).string();
  if (words[0].find('/') == std::string::npos && fs::exists(other)) {
    std::vector<char*> argv = {const_cast<char*>(other.c_str())};
    for (std::size_t i = 1; i < words.size(); ++i) argv.push_back(const_cast<char*>(words[i].c_str()));
    argv.push_back(nullptr);
    execv(other.c_str(), argv.data());
  }
  throw Usage{"no bench '" + words[0] + "': pool or kills"};
}

}  // namespace
}  // namespace drover::bench

int main(int argc, char** argv) {
  drover::init(argc, argv, drover::bench::tasks());
  try {
    return drover::bench::run({argv + 1, argv + argc});
  } catch (const drover::bench::Usage& usage) {
    fmt::print(stderr, "drover: bench: {}\n{}", usage.text, drover::bench::kHelp);
    return 2;
  }
}
