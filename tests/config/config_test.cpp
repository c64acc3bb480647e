// Goal: whatever a person types or writes into a file is either taken exactly or refused in one pass, every mistake with its place,
// what is allowed and the nearest name. Method: the public functions of drover/config.hpp on texts; properties over seeded random
// values; the reader is also fed damaged texts and must answer without crashing.
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "drover/config.hpp"
#include "drover/types/random.hpp"

namespace drover {
namespace {

struct Fields {
  std::uint32_t workers = 2;
  std::int64_t offset = -5;
  std::uint64_t seed = 1;
  double target = 0.5;
  Nanos time = kUnlimited;
  std::uint64_t memory = 0;
  std::string name = "a";
  std::string game;
  bool json = false;
  bool operator==(const Fields&) const = default;
};

Schema schema_of(Fields& f, bool game_required = true) {
  Schema s;
  s.choice("game", f.game, {"kuhn", "leduc", "dice"}, "which game").positional(game_required);
  s.integer("workers", f.workers, {1, 1024}, "worker processes");
  s.integer("offset", f.offset, {}, "any number");
  s.integer("seed", f.seed, {}, "of every random stream");
  s.real("target", f.target, {0.0, 1e30}, "stop below");
  s.duration("attempt-wall", f.time, {Millis(1), kUnlimited}, "of one attempt");
  s.bytes("worker-memory", f.memory, {}, "of one worker");
  s.text("name", f.name, "any text");
  s.flag("json", f.json, "print JSON");
  return s;
}

std::vector<std::string> texts(const std::vector<Error>& errors) {
  std::vector<std::string> out;
  for (const Error& e : errors) out.push_back(e.advice().empty() ? e.what() : e.what() + " | " + e.advice());
  return out;
}
using Texts = std::vector<std::string>;

TEST(ConfigWords, TakesValuesAfterASpaceAfterAnEqualsSignAndByPlace) {
  Fields f;
  Schema s = schema_of(f);
  EXPECT_EQ(texts(apply_words({"leduc", "--workers", "4", "--offset", "-7", "--target=0.25", "--attempt-wall", "1h30m", "--worker-memory=512M", "--json", "--name", ""}, s)), Texts{});
  EXPECT_EQ(f, (Fields{.workers = 4, .offset = -7, .target = 0.25, .time = std::chrono::minutes(90), .memory = 512u << 20, .name = "", .game = "leduc", .json = true}));
}

TEST(ConfigWords, EveryMistakeIsToldInOnePassWithWhatIsAllowedAndTheNearestName) {
  Fields f;
  Schema s = schema_of(f);
  EXPECT_EQ(texts(apply_words({"leduk", "--workers", "0", "--worker", "3", "--target", "x", "--attempt-wall", "10", "--json=maybe", "more", "-x", "--seed"}, s)),
            (Texts{
                "--workers '0': must be a whole number from 1 to 1024",
                "unknown option '--worker' | did you mean '--workers'?",
                "--target 'x': must be a number from 0 to 1e+30",
                "--attempt-wall '10': must be a duration such as 250ms, 10m or 1h30m, at least 1ms",
                "--json 'maybe': must be true or false",
                "unknown option '-x'",
                "--seed: a value is missing: must be a whole number, at least 0",
                "GAME 'leduk': must be kuhn, leduc or dice | did you mean 'leduc'?",
                "'more': one word too many",
            }));
}

TEST(ConfigWords, ARequiredPositionalThatIsMissingIsSaidUnlessTheFileGaveIt) {
  Fields f;
  Schema s = schema_of(f);
  EXPECT_EQ(texts(apply_words({}, s)), Texts{"GAME is missing: must be kuhn, leduc or dice"});
  Fields g;
  Schema t = schema_of(g);
  EXPECT_EQ(texts(apply_toml("[solve]\ngame = \"dice\"\n", "a.toml", "solve", t)), Texts{});
  EXPECT_EQ(texts(apply_words({}, t)), Texts{});
  EXPECT_EQ(g.game, "dice");
}

TEST(ConfigWords, ARefusedValueLeavesTheFieldAsItWas) {
  Fields f;
  Schema s = schema_of(f);
  apply_words({"--workers", "99999999999999999999", "--offset", "1.5", "--worker-memory", "-1", "--name", "\xff", "--attempt-wall", "-3s"}, s);
  EXPECT_EQ(f, Fields{});
}

TEST(ConfigToml, EveryMistakeIsToldInTheOrderOfTheTextWithItsLine) {
  Fields f;
  Schema s = schema_of(f);
  const auto errors = apply_toml(
      "workers = 3\n"
      "[solve]\n"
      "worker = 3\n"
      "workers = 10000\n"
      "name = 7\n"
      "attempt_wall = 10\n"
      "game = \"leduk\"\n"
      "attempt-wall = \"10s\"\n"
      "[solv]\n"
      "x = 1\n",
      "job.toml", "solve", s);
  EXPECT_EQ(texts(errors), (Texts{
                               "job.toml:1: unknown key 'workers' | write it below a line [solve]",
                               "job.toml:3: unknown key 'solve.worker' | did you mean 'workers'?",
                               "job.toml:4: solve.workers '10000': must be a whole number from 1 to 1024",
                               "job.toml:5: solve.name is a whole number: must be text",
                               "job.toml:6: solve.attempt_wall is a whole number: must be a duration such as 250ms, 10m or 1h30m, at least 1ms | write it in quotes: attempt_wall = \"10m\"",
                               "job.toml:7: solve.game 'leduk': must be kuhn, leduc or dice | did you mean 'leduc'?",
                               "job.toml:8: unknown key 'solve.attempt-wall' | did you mean 'attempt_wall'?",
                               "job.toml:9: unknown table 'solv' | did you mean 'solve'?",
                           }));
  EXPECT_EQ(f, Fields{});
}

TEST(ConfigToml, ATextThatIsNotTomlIsRefusedWithLineAndColumn) {
  Fields f;
  Schema s = schema_of(f);
  const auto errors = apply_toml("[solve]\nworkers = = 3\n", "job.toml", "solve", s);
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_TRUE(errors[0].what().starts_with("job.toml:2:")) << errors[0].what();
  EXPECT_EQ(errors[0].code(), ErrorCode::usage);
}

TEST(ConfigToml, WordsOverrideTheFile) {
  Fields f;
  Schema s = schema_of(f);
  EXPECT_TRUE(apply_toml("[solve]\nworkers = 3\ngame = \"kuhn\"\ntarget = 1\n", "a.toml", "solve", s).empty());
  EXPECT_TRUE(apply_words({"--workers", "5"}, s).empty());
  EXPECT_EQ(f.workers, 5u);
  EXPECT_EQ(f.game, "kuhn");
  EXPECT_EQ(f.target, 1.0);
}

Fields random_fields(Rng& rng) {
  Fields f;
  f.workers = static_cast<std::uint32_t>(1 + rng.below(1024));
  f.offset = static_cast<std::int64_t>(rng() >> rng.below(64)) * (rng.chance(0.5) ? 1 : -1);
  f.seed = rng() >> (1 + rng.below(63));
  f.target = std::ldexp(rng.unit(), static_cast<int>(rng.below(140)) - 60);
  if (rng.chance(0.2)) f.target = std::floor(f.target);
  f.time = rng.chance(0.2) ? kUnlimited : Nanos(static_cast<std::int64_t>(1'000'000 + (rng() >> (2 + rng.below(60)))));
  f.memory = rng() >> (1 + rng.below(63));
  if (rng.chance(0.3)) f.memory <<= 10, f.memory &= ~std::uint64_t{0} >> 1;
  static const std::vector<std::string> kPieces = {"a", " ", "\"", "\\", "\n", "\t", "'", "=", "#", "]", "\x01", "\x7f", "é", "日", "😀", "\r", "\"\"\"", "-"};
  f.name.clear();
  for (std::uint64_t n = rng.below(12); n > 0; --n) f.name += kPieces[rng.below(kPieces.size())];
  f.game = std::vector<std::string>{"kuhn", "leduc", "dice"}[rng.below(3)];
  f.json = rng.chance(0.5);
  return f;
}

TEST(ConfigProperty, TomlWrittenReadsBackToTheSameFieldsAndWritesTheSameText) {
  Rng rng(7);
  for (int i = 0; i < 3000; ++i) {
    Fields out = random_fields(rng);
    const std::string text = to_toml("solve", schema_of(out));
    Fields in;
    Schema s = schema_of(in);
    const auto errors = apply_toml(text, "job.toml", "solve", s);
    ASSERT_TRUE(errors.empty()) << errors[0].what() << "\n" << text;
    ASSERT_EQ(in, out) << text;
    ASSERT_EQ(to_toml("solve", s), text);
  }
}

TEST(ConfigProperty, SettingAnOptionToItsOwnTextChangesNothing) {
  Rng rng(8);
  for (int i = 0; i < 2000; ++i) {
    Fields f = random_fields(rng);
    const Fields before = f;
    Schema s = schema_of(f);
    for (const Option& option : s.options()) {
      const auto done = option.set(option.get());
      ASSERT_TRUE(done.has_value()) << option.name << " '" << option.get() << "': " << done.error().what();
    }
    ASSERT_EQ(f, before);
  }
}

TEST(ConfigProperty, DamagedTextIsRefusedOrTakenButNeverCrashesAndNeverLeavesAValueOutOfRange) {
  Rng rng(9);
  for (int i = 0; i < 3000; ++i) {
    Fields out = random_fields(rng);
    std::string text = to_toml("solve", schema_of(out));
    for (std::uint64_t n = 1 + rng.below(4); n > 0 && !text.empty(); --n) {
      const std::size_t at = rng.below(text.size());
      if (rng.chance(0.4)) text.erase(at, 1 + rng.below(5));
      else if (rng.chance(0.5)) text[at] = static_cast<char>(rng());
      else text.insert(at, 1, "\"[]=\n#.0-"[rng.below(9)]);
    }
    Fields in;
    Schema s = schema_of(in);
    for (const Error& e : apply_toml(text, "job.toml", "solve", s)) ASSERT_TRUE(e.what().starts_with("job.toml:")) << e.what();
    ASSERT_GE(in.workers, 1u);
    ASSERT_LE(in.workers, 1024u);
    ASSERT_GE(in.time, Nanos(Millis(1)));
  }
}

TEST(ConfigHelp, HasOneLineAnOptionWithItsDefault) {
  Fields f;
  const std::string help = help_of(schema_of(f));
  EXPECT_NE(help.find("  GAME "), std::string::npos) << help;
  EXPECT_NE(help.find("--workers N"), std::string::npos) << help;
  EXPECT_NE(help.find("[2]"), std::string::npos) << help;
  EXPECT_EQ(std::count(help.begin(), help.end(), '\n'), 9) << help;
}

TEST(Words, ACommandIsEverythingAfterTwoDashesAndReadsBackFromToml) {
  std::vector<std::string> command;
  bool json = false;
  Schema schema;
  schema.flag("json", json, "").words("command", command, "");
  EXPECT_TRUE(apply_words({"--json", "--", "sh", "-c", "echo \"a\" 'b'", "--json", "--"}, schema).empty());
  const std::vector<std::string> given = {"sh", "-c", "echo \"a\" 'b'", "--json", "--"};
  EXPECT_EQ(command, given);
  const std::string toml = to_toml("guard", schema);
  command.clear();
  EXPECT_TRUE(apply_toml(toml, "job.toml", "guard", schema).empty()) << toml;
  EXPECT_EQ(command, given) << toml;
}

TEST(Words, EveryListOfWordsSurvivesJoiningAndSplitting) {
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{{"a"}, {""}, {"a b", "c"}, {"'", "\"", "\\", "$x", "\n"}, {"it's", "\\'"}, {}}) {
    const auto back = split_words(join_words(words));
    ASSERT_TRUE(back) << join_words(words);
    EXPECT_EQ(*back, words) << join_words(words);
  }
  EXPECT_EQ(*split_words("python3 \"my file\".py\\ x"), (std::vector<std::string>{"python3", "my file.py x"}));
  EXPECT_FALSE(split_words("sh -c 'never closed"));
}

TEST(Words, AMissingCommandIsOneClearLine) {
  std::vector<std::string> command;
  Schema schema;
  schema.words("command", command, "");
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{{}, {"--"}}) {
    const auto errors = apply_words(words, schema);
    ASSERT_EQ(errors.size(), 1u);
    EXPECT_EQ(errors[0].what(), "the command is missing: must be a command and its arguments, after `--`");
  }
}

}  // namespace
}  // namespace drover
