// Goal: other programs can rely on docs/json.md. Method: every object the real drover prints has exactly the keys its table lists,
// both ways; the worked examples parse and have them too.

#include <algorithm>
#include <map>
#include <regex>
#include <set>

#include "cli/program.hpp"

namespace drover::test::cli {
namespace {

struct Section {
  std::vector<std::string> keys;
  std::optional<json> example;
};

const std::map<std::string, Section>& document() {
  static const std::map<std::string, Section> sections = [] {
    std::map<std::string, Section> out;
    std::ifstream in(std::string(DROVER_SOURCE_DIR) + "/docs/json.md");
    std::string line, name;
    static const std::regex row(R"(^\| `([^`]+)` \|.*)");
    while (std::getline(in, line)) {
      std::smatch match;
      if (line.starts_with("## ")) name = line.substr(3);
      else if (std::regex_match(line, match, row)) out[name].keys.push_back(match[1]);
      else if (line.starts_with("```json")) {
        std::string text;
        while (std::getline(in, line) && line != "```") text += line;
        out[name].example = json::parse(text, nullptr, false);
      }
    }
    return out;
  }();
  return sections;
}

/// Differences in either direction. What is null or an empty array may stand for its inner keys.
std::string differences(const std::string& section, const json& value) {
  const auto& keys = document().at(section).keys;
  std::vector<std::string> found;
  paths_of(value, "", keys, found);
  const std::set<std::string> printed(found.begin(), found.end());
  std::string out;
  for (const std::string& path : printed) {
    const bool listed = std::ranges::any_of(keys, [&](const std::string& key) {
      return key == path || (key.ends_with("[].*") && path.starts_with(key.substr(0, key.size() - 1))) || key.starts_with(path + ".") || key.starts_with(path + "[].");
    });
    if (!listed) out += "not in docs/json.md: " + path + "\n";
  }
  for (const std::string& key : keys) {
    const bool there = std::ranges::any_of(printed, [&](const std::string& path) {
      return key == path || (key.ends_with("[].*") && path.starts_with(key.substr(0, key.size() - 1))) || key.starts_with(path + ".") || key.starts_with(path + "[].");
    });
    if (!there) out += "not printed: " + key + "\n";
  }
  return out;
}

TEST(Json, ResultsHaveExactlyTheDocumentedKeys) {
  const Scratch scratch;
  EXPECT_EQ(differences("result", run(scratch, {"echo", "--tasks", "50", "--json"}).last_json()), "");
  EXPECT_EQ(differences("result", run(scratch, {"echo", "--tasks", "50", "--crash-every", "20", "--json"}).last_json()), "");
  const Ended solve = run(scratch, {"solve", "kuhn", "--algorithm", "cfr+", "--iterations", "200", "--json"});
  ASSERT_EQ(solve.status, 0) << solve.all();
  EXPECT_EQ(differences("result", solve.last_json()), "");
  for (const char* figure : {"exploitability_chips", "value", "iterations", "iterations_per_cpu_second"}) EXPECT_TRUE(solve.last_json()["figures"].contains(figure)) << figure;
}

TEST(Json, StatusHasExactlyTheDocumentedKeysLiveAndEnded) {
  const Scratch scratch;
  Started job(scratch, drover({"echo", "--tasks", "10000", "--sleep", "5ms", "--workers", "2", "--crash-every", "5000", "--job", "a", "--progress=json"}));
  json live;
  ASSERT_TRUE(eventually([&] {
    live = status_of(scratch, "a");
    return live.is_object() && live["live"] == true && live["workers"].size() == 2;
  }));
  EXPECT_EQ(differences("status", live), "");
  EXPECT_TRUE(eventually([&] {
    const json now = status_of(scratch, "a");
    return std::ranges::any_of(now["workers"], [](const json& worker) { return worker["task"].is_number() && worker["attempt"] == 1; });
  })) << "no worker says which attempt it runs";
  ASSERT_TRUE(eventually([&] { return job.err().find("{\"job\"") != std::string::npos; }));
  const std::string err = job.err();
  const std::size_t at = err.find("{\"job\"");
  EXPECT_EQ(differences("progress", json::parse(err.substr(at, err.find('\n', at) - at), nullptr, false)), "") << err;
  EXPECT_EQ(run(scratch, {"stop", "a", "--now"}).status, 0);
  job.wait();
  EXPECT_EQ(differences("status", status_of(scratch, "a")), "");
}

TEST(Json, WhyDoctorAndVersionHaveExactlyTheDocumentedKeys) {
  const Scratch scratch;
  ASSERT_EQ(run(scratch, {"echo", "--tasks", "10", "--crash-every", "10", "--job", "a"}).status, 1);
  EXPECT_EQ(differences("why job", run(scratch, {"why", "a", "--json"}).last_json()), "");
  EXPECT_EQ(differences("why task", run(scratch, {"why", "a", "9", "--json"}).last_json()), "");
  EXPECT_EQ(differences("doctor", run(scratch, {"doctor", "--json"}).last_json()), "");
  EXPECT_EQ(differences("version", run(scratch, {"version", "--json"}).last_json()), "");
}

TEST(Json, AuditHasExactlyTheDocumentedKeys) {
  const Scratch scratch;
  std::ofstream held(scratch / "held");  // by this test, which is not drover
  EXPECT_EQ(differences("audit", run(scratch, {"audit", ".", "--json"}).last_json()), "");
}

TEST(Json, TheExamplesHaveTheDocumentedKeys) {
  for (const char* section : {"result", "status"}) {
    ASSERT_TRUE(document().at(section).example.has_value()) << section;
    ASSERT_FALSE(document().at(section).example->is_discarded()) << section;
    EXPECT_EQ(differences(section, *document().at(section).example), "") << section;
  }
}

TEST(Help, EveryVerbAndWorkloadHasIt) {
  const Scratch scratch;
  const Ended all = run(scratch, {"help"});
  EXPECT_EQ(all.status, 0);
  for (const char* verb : {"ps", "status", "top", "stop", "resume", "why", "replay", "audit", "selftest", "ckpt", "doctor", "version", "solve", "echo", "guard", "judge"}) {
    EXPECT_NE(all.out.find(std::string("drover ") + verb), std::string::npos) << verb;
    const Ended one = run(scratch, {verb, "--help"});
    EXPECT_EQ(one.status, 0) << one.all();
    EXPECT_NE(one.out.find(std::string("drover ") + verb), std::string::npos) << one.all();
  }
}

}  // namespace
}  // namespace drover::test::cli
