#include "solve/verbs.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>

#include "drover/config.hpp"
#include "solve/checkpoint_payload.hpp"

namespace drover::solve {
namespace {

namespace fs = std::filesystem;

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

Result<Bytes> read_file(const std::string& path) {
  const File file(std::fopen(path.c_str(), "rbe"));
  if (!file) return fail_errno(errno, fmt::format("cannot open '{}'", path));
  Bytes bytes;
  for (;;) {
    const std::size_t before = bytes.size();
    bytes.resize(before + (1U << 20));
    const std::size_t got = std::fread(bytes.data() + before, 1, 1U << 20, file.get());
    bytes.resize(before + got);
    if (got == 0) break;
  }
  if (std::ferror(file.get()) != 0) return fail_errno(errno, fmt::format("cannot read '{}'", path));
  return bytes;
}

/// Checkpoint files of a job, newest first: they are named <number>-<hash>.ckpt.
std::vector<std::string> checkpoints_of(const fs::path& job) {
  std::vector<std::pair<unsigned long long, std::string>> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(job / "checkpoints", error)) {
    const std::string name = entry.path().filename();
    if (entry.path().extension() == ".ckpt") found.emplace_back(std::strtoull(name.c_str(), nullptr, 10), entry.path());
  }
  std::sort(found.rbegin(), found.rend());
  std::vector<std::string> paths;
  for (auto& [number, path] : found) paths.push_back(std::move(path));
  return paths;
}

Result<std::string> newest_job() {
  std::error_code error;
  fs::path newest;
  fs::file_time_type time{};
  for (const auto& entry : fs::directory_iterator("drover-jobs", error)) {
    if (!entry.path().filename().string().starts_with("solve-")) continue;
    if (const auto changed = entry.last_write_time(error); newest.empty() || changed > time) newest = entry.path(), time = changed;
  }
  if (newest.empty())
    return fail(ErrorCode::not_found, "there is no solve job under ./drover-jobs", "name a job directory, a checkpoint or a strategy file");
  return newest.string();
}

Result<OpenedStrategy> open_file(const std::string& path, const GameSpec* expected) {
  DROVER_TRY(const Bytes bytes, read_file(path));
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.starts_with("drover-solve-checkpoint")) {
    DROVER_TRY(CheckpointState state, decode_checkpoint(bytes));
    if (expected != nullptr && state.spec.game != *expected)
      return fail(ErrorCode::mismatch, fmt::format("it is of '{}' ({}), expected '{}' ({})", canonical_text(state.spec.game),
                                                   hex(game_hash(state.spec.game)), canonical_text(*expected), hex(game_hash(*expected))));
    DROVER_TRY(const Game game, Game::build(state.spec.game));
    return OpenedStrategy{.game = state.spec.game,
                          .strategy = average_strategy(game, state.cells, state.spec.algorithm),
                          .source = {std::string(name_of(state.spec.algorithm)), state.position.iterations},
                          .path = path};
  }
  DROVER_TRY(LoadedStrategy loaded, read_strategy(text, expected));
  return OpenedStrategy{.game = loaded.game, .strategy = std::move(loaded.strategy), .source = std::move(loaded.source), .path = path};
}

Result<void> write_all(std::FILE* file, std::string_view text, const std::string& name) {
  const bool whole = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  if (!whole && errno == EPIPE) return fail(ErrorCode::closed, fmt::format("the reader of {} went away", name));
  if (!whole) return fail_errno(errno, fmt::format("cannot write '{}'", name));
  return {};
}

/// What every verb understands.
struct VerbOptions {
  std::string node, from, game, format = "json", out;
  bool json = false;
  std::optional<GameSpec> expected{};

  /// All errors in one message: the caller prints one.
  Result<bool> parse(const std::vector<std::string>& words, Schema& schema, std::string_view usage) {
    schema.text("game", game, "the game of a CSV file: kuhn, leduc, liars_dice, or its full text");
    if (std::find(words.begin(), words.end(), "--help") != words.end()) {
      DROVER_CHECK(write_all(stdout, fmt::format("drover solve {}\n{}", usage, help_of(schema)), "stdout"));
      return false;
    }
    const std::vector<Error> errors = apply_words(words, schema);
    if (!errors.empty()) {
      std::string what, advice;
      for (const Error& error : errors) {
        what += (what.empty() ? "" : "; ") + error.what();
        if (advice.empty()) advice = error.advice();
      }
      return fail(ErrorCode::usage, what, advice);
    }
    if (!game.empty()) {
      if (auto named = game_named(game)) {
        expected = *named;
      } else if (auto spelled = parse_game(game)) {
        expected = *spelled;
      } else {
        return std::unexpected(std::move(named).error());
      }
    }
    return true;
  }
  const GameSpec* expected_game() const { return expected ? &*expected : nullptr; }
};

Result<int> show(const std::vector<std::string>& words) {
  VerbOptions o;
  Schema schema;
  schema.text("node", o.node, "hand[/public]:history, for example K: or Q/J:crc/r").positional(true);
  schema.text("from", o.from, "job directory, checkpoint or strategy file; default: the newest solve job here").positional(false);
  DROVER_TRY(const bool go_on, o.parse(words, schema, "show NODE [FROM]"));
  if (!go_on) return 0;
  DROVER_TRY(const OpenedStrategy opened, open_strategy(o.from, o.expected_game()));
  DROVER_TRY(const Game game, Game::build(opened.game));
  DROVER_TRY(const Game::InfosetId id, game.find_infoset(o.node));
  DROVER_CHECK(write_all(stdout, show_infoset(game, opened.strategy, id), "stdout"));
  return 0;
}

Result<int> eval(const std::vector<std::string>& words) {
  VerbOptions o;
  Schema schema;
  schema.text("from", o.from, "job directory, checkpoint or strategy file; default: the newest solve job here").positional(false);
  schema.flag("json", o.json, "one JSON object");
  DROVER_TRY(const bool go_on, o.parse(words, schema, "eval [FROM]"));
  if (!go_on) return 0;
  DROVER_TRY(const OpenedStrategy opened, open_strategy(o.from, o.expected_game()));
  DROVER_TRY(const Game game, Game::build(opened.game));
  const Certificate c = certify(game, opened.strategy);
  const auto known = known_value(opened.game);
  std::string text;
  if (o.json) {
    text = fmt::format(R"({{"game": "{}", "game_sha256": "{}", "algorithm": "{}", "iterations": {}, "exploitability_chips": {}, )"
                       R"("exploitability_mbb_per_game": {}, "nash_conv_chips": {}, "value": {}, "value_known": {}, )"
                       R"("best_response_chips": [{}, {}]}})"
                       "\n",
                       canonical_text(opened.game), hex(game_hash(opened.game)), opened.source.algorithm, opened.source.iterations,
                       c.exploitability, c.exploitability_mbb, c.nash_conv, c.value,
                       known ? fmt::format("{}", known->chips) : "null", c.best_response[0], c.best_response[1]);
  } else {
    text = fmt::format("{}, {} infosets, from {}\n", display_name(opened.game), game.infoset_count(), opened.path);
    if (!opened.source.algorithm.empty())
      text += fmt::format("  trained         {} iterations of {}\n", opened.source.iterations, opened.source.algorithm);
    text += fmt::format("  exploitability  {:.6g} chips a game = {:.6g} mbb/g; NashConv {:.6g} chips\n", c.exploitability,
                        c.exploitability_mbb, c.nash_conv);
    text += fmt::format("  value           {:.9f} chips for player 0", c.value);
    if (known) text += fmt::format("; known: {:.9f} ({})", known->chips, known->source);
    text += fmt::format("\n  best response   player 0 wins {:.9f} chips, player 1 wins {:.9f} chips\n", c.best_response[0], c.best_response[1]);
  }
  DROVER_CHECK(write_all(stdout, text, "stdout"));
  return 0;
}

Result<int> export_strategy(const std::vector<std::string>& words) {
  VerbOptions o;
  Schema schema;
  schema.text("from", o.from, "job directory, checkpoint or strategy file; default: the newest solve job here").positional(false);
  schema.choice("format", o.format, {"json", "csv"}, "docs/solve.md has the fields");
  schema.text("out", o.out, "file to write; default: stdout");
  DROVER_TRY(const bool go_on, o.parse(words, schema, "export [FROM] [--format json|csv] [--out FILE]"));
  if (!go_on) return 0;
  DROVER_TRY(const OpenedStrategy opened, open_strategy(o.from, o.expected_game()));
  DROVER_TRY(const Game game, Game::build(opened.game));
  File file;
  if (!o.out.empty()) {
    file.reset(std::fopen(o.out.c_str(), "wxe"));
    if (!file)
      return fail_errno(errno, fmt::format("cannot create '{}'", o.out), errno == EEXIST ? "name a file that does not exist yet" : "");
  }
  std::FILE* const to = file ? file.get() : stdout;
  const std::string name = o.out.empty() ? "stdout" : o.out;
  const TextSink sink = [&](std::string_view text) { return write_all(to, text, name); };
  if (o.format == "csv") {
    DROVER_CHECK(write_csv(game, opened.strategy, sink));
  } else {
    DROVER_CHECK(write_json(game, opened.strategy, opened.source, certify(game, opened.strategy), sink));
  }
  if (std::fflush(to) != 0) return fail_errno(errno, fmt::format("cannot write '{}'", name));
  return 0;
}

}  // namespace

Result<OpenedStrategy> open_strategy(const std::string& from, const GameSpec* game) {
  std::string path = from;
  if (path.empty()) {
    DROVER_TRY(path, newest_job());
  }
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    auto opened = open_file(path, game);
    if (!opened) return std::unexpected(std::move(opened).error().with(fmt::format("'{}'", path)));
    return opened;
  }
  const std::vector<std::string> files = checkpoints_of(path);
  if (files.empty())
    return fail(ErrorCode::not_found, fmt::format("'{}' has no checkpoint", path), "is it a job of solve, and has it run long enough to save one?");
  auto opened = open_file(files.front(), game);
  if (!opened) {
    Error failure = std::move(opened).error().with(fmt::format("'{}'", files.front()));
    return std::unexpected(files.size() > 1 ? std::move(failure).advise(fmt::format("an older one is '{}'", files[1])) : std::move(failure));
  }
  return opened;
}

std::vector<WorkloadVerb> solve_verbs() {
  return {{"show", "NODE [FROM]: the strategy at one infoset, for example `drover solve show K:`", show},
          {"eval", "[FROM] [--json]: exploitability and value of a job, checkpoint or exported strategy", eval},
          {"export", "[FROM] [--format json|csv] [--out FILE]: the strategy, for other programs", export_strategy}};
}

}  // namespace drover::solve
