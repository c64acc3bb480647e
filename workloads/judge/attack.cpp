#include "judge/attack.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "drover/clock.hpp"
#include "drover/http.hpp"
#include "judge/options.hpp"
#include "judge/python_sources.hpp"
#include "judge/service.hpp"

namespace drover::judge {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kSandboxUids = 1'000'000'000;  ///< uids of runs begin above it
constexpr std::string_view kSecret = "drover-canary\n";

std::string replaced(std::string text, const Canaries& canaries) {
  const std::pair<std::string_view, std::string> words[] = {{"@CANARY_FILE@", canaries.file}, {"@CANARY_SOCKET@", canaries.socket}, {"@CANARY_PORT@", std::to_string(canaries.port)}, {"@CANARY_PID@", std::to_string(canaries.pid)}};
  for (const auto& [word, value] : words)
    for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + value.size())) text.replace(at, word.size(), value);
  return text;
}

Submission honest() { return {.id = "honest", .language = "bash", .code = "read a; echo $((a + 1))", .tests = {IoTest{.input = "41\n", .output = "42"}}, .mode = Mode::stdio}; }

/// What an attack may leave on the host.
struct Traces {
  std::set<std::string> files;
  std::size_t mounts = 0, processes = 0;
  static Traces now() {
    Traces traces;
    for (const char* const path : {"/evil", "/usr/bin/evil", "/usr/lib/evil", "/tmp/left", "/dev/shm/left", "/dev/shm/big", "/sys/fs/cgroup/evil"})
      if (fs::exists(fs::symlink_status(path))) traces.files.insert(path);
    std::ifstream mounts("/proc/self/mounts");
    for (std::string device, target, rest; mounts >> device >> target && std::getline(mounts, rest);) traces.mounts += target == "/w" || target == "/tmp" || target.starts_with("/tmp/drover-sandbox-");
    // Of a run's uid and below no warden: those of another judge on this host are below theirs.
    struct Process {
      int parent = 0;
      bool of_a_run = false, warden = false;
    };
    std::map<int, Process> all;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator("/proc", error)) {
      if (entry.path().filename().string().find_first_not_of("0123456789") != std::string::npos) continue;
      Process& one = all[std::stoi(entry.path().filename().string())];
      std::ifstream status(entry.path() / "status");
      for (std::string line; std::getline(status, line);) {
        if (line.starts_with("Name:")) one.warden = line.ends_with("drover-warden");
        if (line.starts_with("PPid:")) one.parent = std::atoi(line.c_str() + 5);
        if (line.starts_with("Uid:")) one.of_a_run = std::strtoull(line.c_str() + 4, nullptr, 10) >= kSandboxUids;
      }
    }
    for (const auto& [pid, one] : all) {
      if (!one.of_a_run) continue;
      bool held = false;
      for (int at = pid, steps = 0; at > 0 && steps < 100 && !held; at = all.contains(at) ? all[at].parent : 0, ++steps) held = all.contains(at) && all[at].warden;
      traces.processes += !held;
    }
    return traces;
  }
};

/// Whether docs/judge_threat_model.md says that this gets through: RLIMIT_NPROC does not hold for root, and in userns a run is the user who
/// started it. A cgroup holds it.
bool is_known(std::string_view name, std::string_view profile, const std::vector<std::string>& layers) {
  if ((name != "resources/process_limit" && name != "resources/forks") || profile != "userns" || std::ranges::find(layers, "process_cgroup") != layers.end()) return false;
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("Uid:")) return std::strtoull(line.c_str() + 4, nullptr, 10) == 0;
  return false;
}

struct Found {
  std::map<std::string, std::pair<std::size_t, std::size_t>> kinds;  ///< contained, all
  std::vector<std::string> escaped;   ///< got what they wanted
  std::vector<std::string> known;     ///< got through where the profile's table says that it does
  std::vector<std::string> not_judged;///< escaped the zero
  std::vector<std::string> traces;    ///< what was left behind, or changed
  std::size_t neighbours = 0, neighbours_wrong = 0, skipped = 0;
  std::vector<std::string> layers;
  std::uint64_t workers_lost = 0;
  bool contained() const { return escaped.empty() && not_judged.empty() && traces.empty() && neighbours_wrong == 0 && workers_lost == 0; }
};

Result<Found> attack_profile(const SlotOptions& slot, std::uint32_t workers, const std::vector<std::string>& only, const Canaries& canaries) {
  Found found;
  {
    DROVER_TRY(const Sandbox tried, make_sandbox(slot));
    found.layers = tried.layers();
  }
  const Traces before = Traces::now();
  DROVER_TRY(const std::unique_ptr<Service> service, Service::start({.workers = workers, .slot = slot, .cache_bytes = 0}));
  struct Open {
    std::string name;
    std::shared_ptr<Ticket<Verdict>> ticket;
  };
  std::vector<Open> open;
  for (const Attack& one : attacks(canaries)) {
    if (!only.empty() && std::ranges::none_of(only, [&](const std::string& word) { return word == one.name || word == one.kind(); })) continue;
    if (!fs::exists(language_named(one.submission.language)->needs)) {
      ++found.skipped;
      continue;
    }
    DROVER_TRY(auto ticket, service->submit(one.submission));
    open.push_back({one.name, std::move(ticket)});
    DROVER_TRY(auto neighbour, service->submit(honest()));
    open.push_back({"", std::move(neighbour)});
  }
  for (const Open& one : open) {
    const auto verdict = one.ticket->get(in(one.ticket->bound()));
    if (!verdict) return fail(ErrorCode::timed_out, fmt::format("attack '{}': no answer within the bound of its ticket", one.name));
    if (one.name.empty()) {
      ++found.neighbours;
      found.neighbours_wrong += verdict->outcome != SubmissionOutcome::all_passed;
      continue;
    }
    auto& [contained, all] = found.kinds[one.name.substr(0, one.name.find('/'))];
    ++all;
    // Where an object of the candidate was let decide by the test, the verdict says that it is worth no more than the candidate's word.
    if (verdict->passed != 0 && !verdict->candidate_answers) (is_known(one.name, slot.profile, found.layers) ? found.known : found.escaped).push_back(one.name);
    else if (!verdict->reward) found.not_judged.push_back(fmt::format("{} ({})", one.name, verdict->reason));
    else ++contained;
  }
  found.workers_lost = service->status().workers_lost;
  service->shutdown();
  const Traces after = Traces::now();
  for (const std::string& path : after.files)
    if (!before.files.contains(path)) found.traces.push_back("file " + path);
  if (after.mounts != before.mounts) found.traces.push_back(fmt::format("{} mounts, {} before", after.mounts, before.mounts));
  if (after.processes > before.processes) found.traces.push_back(fmt::format("{} processes of a run's uid", after.processes - before.processes));
  std::ifstream canary(canaries.file);
  std::string text(kSecret.size() + 1, '\0');
  canary.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (std::string_view(text.data(), static_cast<std::size_t>(canary.gcount())) != kSecret) found.traces.emplace_back("the caller's file was changed");
  return found;
}

nlohmann::ordered_json json_of(const Found& f) {
  nlohmann::ordered_json kinds = nlohmann::ordered_json::object();
  for (const auto& [kind, counts] : f.kinds) kinds[kind] = {{"contained", counts.first}, {"programs", counts.second}};
  return {{"contained", f.contained()}, {"layers", f.layers}, {"classes", kinds}, {"escaped", f.escaped}, {"known", f.known}, {"not_judged", f.not_judged}, {"traces", f.traces}, {"neighbours", f.neighbours}, {"neighbours_wrong", f.neighbours_wrong}, {"workers_lost", f.workers_lost}, {"skipped", f.skipped}};
}

std::string shown(const std::string& profile, const Found& f) {
  std::string text = fmt::format("profile {}: {}\n", profile, fmt::join(f.layers, ", "));
  std::size_t contained = 0, all = 0;
  for (const auto& [kind, counts] : f.kinds) {
    text += fmt::format("  {:<12} {:>3} of {:>3} contained\n", kind, counts.first, counts.second);
    contained += counts.first, all += counts.second;
  }
  text += fmt::format("  {:<12} {:>3} of {:>3} contained; {} of {} neighbours judged as ever; {} workers lost\n", "all", contained, all, f.neighbours - f.neighbours_wrong, f.neighbours, f.workers_lost);
  if (f.skipped != 0) text += fmt::format("  {} programs are of a language that is not here\n", f.skipped);
  for (const std::string& one : f.escaped) text += "  ESCAPED     " + one + "\n";
  for (const std::string& one : f.known) text += "  as its table says, gets through: " + one + "\n";
  for (const std::string& one : f.not_judged) text += "  NOT JUDGED  " + one + "\n";
  for (const std::string& one : f.traces) text += "  LEFT BEHIND " + one + "\n";
  return text;
}

}  // namespace

std::vector<Attack> attacks(const Canaries& canaries) {
  std::vector<Attack> all;
  std::string* into = nullptr;
  std::string test;
  const auto finish = [&] {
    if (all.empty()) return;
    Submission& s = all.back().submission;
    s.code = replaced(s.code, canaries);
    if (s.mode == Mode::stdio) s.tests.push_back(IoTest{.input = "", .output = "ESCAPED"});
    else s.tests.push_back(CodeTest{std::exchange(test, {})});
  };
  std::string_view rest = attacks_source();
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size() - 1);
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end + 1);
    if (line.starts_with("=== ")) {
      finish();
      const std::size_t first = line.find(' ', 4), second = line.find(' ', first + 1);
      Attack one{.name = std::string(line.substr(4, first - 4))};
      one.submission.id = one.name;
      one.submission.mode = mode_named(line.substr(first + 1, second - first - 1));
      one.submission.language = line.substr(second + 1);
      one.submission.limits = {.cpu = Seconds(1), .wall = Seconds(3), .memory_bytes = std::uint64_t{256} << 20, .output_bytes = 1 << 20, .disk_bytes = std::uint64_t{32} << 20, .processes = 48};
      if (one.submission.mode == Mode::split) one.submission.entry_points = {"f", "S"};
      all.push_back(std::move(one));
      into = &all.back().submission.code;
    } else if (line == "--- test") {
      into = &test;
    } else if (line == "--- prelude") {
      into = &all.back().submission.prelude;
    } else if (into != nullptr) {
      into->append(line).push_back('\n');
    }
  }
  finish();
  return all;
}

Result<int> attack(const std::vector<std::string>& words) {
  std::string profile, only, without;
  std::uint32_t workers = 0;
  bool json = false, layers = false;
  Schema schema;
  schema.text("only", only, "classes of attacks, or single ones: files,kernel/ptrace");
  schema.choice("profile", profile, {"", "root", "userns", "container"}, "else every one this host allows");
  schema.text("without", without, "layers to leave out, to see what then gets through");
  schema.flag("layers", layers, "for every layer, what gets through when it is left out: takes minutes, and is for a machine of yours");
  schema.integer("workers", workers, Range<std::uint32_t>{0, 64}, "0: usable cores");
  schema.flag("json", json, "one JSON object");
  DROVER_TRY(const bool go_on, read_options(words, schema, "drover judge attack [options]\nRuns the corpus of hostile programs on this host: exit status 0 all contained, 1 not."));
  if (!go_on) return 0;
  const std::vector<std::string> chosen = split_list(only);
  for (const std::string& one : chosen)
    if (std::ranges::none_of(attacks({}), [&](const Attack& known) { return known.name == one || known.kind() == one; }))
      return fail(ErrorCode::usage, fmt::format("--only '{}': there is no such class of attacks and no such attack", one), "as in: --only files,kernel/ptrace");
  const fs::path home = fs::temp_directory_path() / fmt::format("drover-attack-{}", fs::read_symlink("/proc/self").string());
  fs::create_directory(home);
  struct Home {
    fs::path path;
    ~Home() {
      std::error_code ignored;
      fs::remove_all(path, ignored);
    }
  } const clean{home};
  std::ofstream(home / "canary") << kSecret;
  DROVER_TRY(const HttpServer canary, HttpServer::start({.unix_path = (home / "socket").string(), .port = 0, .token = "nobody-knows-this"}, {}, [](const std::shared_ptr<HttpExchange>& e) { e->answer({}); }));
  const Canaries canaries{.file = (home / "canary").string(), .socket = (home / "socket").string(), .port = canary.port(), .pid = std::stoi(fs::read_symlink("/proc/self").string())};

  nlohmann::ordered_json profiles = nlohmann::ordered_json::object();
  std::string text;
  bool any = false, contained = true;
  for (const SandboxProfile one : kSandboxProfiles) {
    const std::string name(name_of(one));
    if (!profile.empty() && profile != name) continue;
    auto found = attack_profile({.profile = name, .leave_out = without}, workers, chosen, canaries);
    if (!found) {
      if (found.error().code() != ErrorCode::unavailable) return std::unexpected(std::move(found).error());
      text += fmt::format("profile {}: not here: {}\n", name, found.error().what());
      continue;
    }
    any = true;
    contained = contained && found->contained();
    profiles[name] = json_of(*found);
    text += shown(name, *found);
    if (!layers) continue;
    for (const std::string& layer : found->layers) {
      if (layer == "zygote" || layer == "proc") continue;  // no walls
      auto left_out = attack_profile({.profile = name, .leave_out = layer}, workers, chosen, canaries);
      if (!left_out) {
        text += fmt::format("  without {:<18} the sandbox refuses to be made\n", layer);
        profiles[name]["without"][layer] = {{"refused", left_out.error().what()}};
        continue;
      }
      if (std::ranges::find(left_out->layers, layer) != left_out->layers.end()) {
        text += fmt::format("  without {:<18} it does not work: it cannot be left out\n", layer);
        profiles[name]["without"][layer] = {{"refused", "it cannot be left out"}};
        continue;
      }
      const std::size_t through = left_out->escaped.size() + left_out->not_judged.size() + left_out->traces.size() + left_out->neighbours_wrong;
      text += fmt::format("  without {:<18} {} get through{}{}\n", layer, through, through == 0 ? ": no program of the corpus depends on it" : ": ", fmt::join(left_out->escaped, ", "));
      profiles[name]["without"][layer] = json_of(*left_out);
    }
  }
  if (!any) return fail(ErrorCode::unavailable, "no sandbox can be made here", "`drover judge doctor` says why");
  if (json) text = nlohmann::ordered_json{{"contained", contained}, {"profiles", std::move(profiles)}}.dump() + "\n";
  std::fwrite(text.data(), 1, text.size(), stdout);
  return contained ? 0 : 1;
}

}  // namespace drover::judge
