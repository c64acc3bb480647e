#include "judge/test_sets.hpp"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "judge/hash.hpp"

namespace drover::judge {
namespace {

constexpr std::size_t kShaBytes = 64;

/// An image: for each set its sha256 in hex, its size as 8 bytes, its text.
struct Entry {
  std::string_view sha, text;
};
std::optional<Entry> next_entry(std::string_view& rest) {
  std::uint64_t size = 0;
  if (rest.size() < kShaBytes + sizeof size) return std::nullopt;
  std::memcpy(&size, rest.data() + kShaBytes, sizeof size);
  const std::string_view sha = rest.substr(0, kShaBytes);
  rest.remove_prefix(kShaBytes + sizeof size);
  if (size > rest.size()) return std::nullopt;
  const Entry entry{sha, rest.substr(0, size)};
  rest.remove_prefix(size);
  return entry;
}

std::string text_of(const Submission& of) {
  nlohmann::ordered_json all = json_of(of);
  return nlohmann::ordered_json{{"tests", std::move(all["tests"])}, {"prelude", std::move(all["prelude"])}, {"entry_points", std::move(all["entry_points"])}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Result<Submission> parse(std::string_view text) {
  nlohmann::json object = nlohmann::json::parse(text, nullptr, false);
  if (!object.is_object() || !object.contains("tests")) return fail(ErrorCode::usage, "a test set must be one JSON object with `tests`", "docs/judge_api.md has its shape");
  for (const auto& [key, value] : object.items())
    if (key != "tests" && key != "prelude" && key != "entry_points") return fail(ErrorCode::usage, "'" + key + "' is no key of a test set", "tests, prelude, entry_points");
  object["code"] = "";
  return parse_submission(object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

}  // namespace

Result<std::string> TestSets::add(std::string_view json) {
  DROVER_TRY(Submission set, parse(json));
  return take_from(set);
}

std::string TestSets::take_from(Submission& submission) {
  std::string text = text_of(submission);
  std::string sha = sha256_hex(text);
  const TestSet facts{.tests = submission.tests.size(), .io = std::ranges::all_of(submission.tests, [](const Test& test) { return std::holds_alternative<IoTest>(test); }), .named = !submission.entry_points.empty()};
  submission.mode = submission.mode_chosen();
  submission.tests.clear();
  submission.prelude.clear();
  submission.entry_points.clear();
  submission.test_set = sha;
  if (const auto [made, fresh] = sets_.try_emplace(sha, facts); fresh) {
    bytes_ += text.size();
    made->second.text = std::move(text);
  }
  return sha;
}

const TestSet* TestSets::find(std::string_view sha256) const {
  const auto found = sets_.find(sha256);
  return found == sets_.end() ? nullptr : &found->second;
}

Bytes TestSets::image() const {
  Bytes image;
  image.reserve(bytes_ + sets_.size() * (kShaBytes + 8));
  const auto append = [&](const void* from, std::size_t size) { image.insert(image.end(), static_cast<const std::byte*>(from), static_cast<const std::byte*>(from) + size); };
  for (const auto& [sha, set] : sets_) {
    const std::uint64_t size = set.text.size();
    append(sha.data(), kShaBytes);
    append(&size, sizeof size);
    append(set.text.data(), set.text.size());
  }
  return image;
}

std::optional<std::string_view> find_test_set(BytesView image, std::string_view sha256) {
  std::string_view rest(reinterpret_cast<const char*>(image.data()), image.size());
  while (const auto entry = next_entry(rest))
    if (entry->sha == sha256) return entry->text;
  return std::nullopt;
}

Result<void> attach(Submission& submission, std::string_view test_set) {
  DROVER_TRY(Submission set, parse(test_set));
  submission.tests = std::move(set.tests);
  submission.prelude = std::move(set.prelude);
  submission.entry_points = std::move(set.entry_points);
  submission.test_set.clear();
  return check_tests(submission);
}

}  // namespace drover::judge
