#include "judge/test_sets.hpp"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "judge/hash.hpp"

namespace drover::judge {
namespace {

/// An image: how many sets, an entry of each in the order of their sha256, then their texts.
struct Entry {
  char sha[64];
  std::uint64_t at = 0, size = 0;  ///< of its text, from the image's beginning
  std::string_view name() const { return {sha, sizeof sha}; }
};

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
  return read_submission(object);
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
  const std::uint64_t count = sets_.size();
  Entry entry{};
  entry.at = sizeof count + count * sizeof entry;
  Bytes image(entry.at + bytes_);
  std::memcpy(image.data(), &count, sizeof count);
  std::byte* to = image.data() + sizeof count;
  for (const auto& [sha, set] : sets_) {
    sha.copy(entry.sha, sizeof entry.sha);
    entry.size = set.text.size();
    std::memcpy(to, &entry, sizeof entry);
    std::memcpy(image.data() + entry.at, set.text.data(), entry.size);
    to += sizeof entry;
    entry.at += entry.size;
  }
  return image;
}

std::string test_set_sha256(const Submission& submission) { return sha256_hex(text_of(submission)); }

std::optional<std::string_view> find_test_set(BytesView image, std::string_view sha256) {
  std::uint64_t count = 0;
  if (image.size() < sizeof count) return std::nullopt;
  std::memcpy(&count, image.data(), sizeof count);
  if (count > (image.size() - sizeof count) / sizeof(Entry)) return std::nullopt;
  const auto entry_at = [&](std::uint64_t number) {
    Entry entry{};
    std::memcpy(&entry, image.data() + sizeof count + number * sizeof entry, sizeof entry);
    return entry;
  };
  std::uint64_t low = 0, high = count;
  while (low < high) {
    const std::uint64_t middle = low + (high - low) / 2;
    if (entry_at(middle).name() < sha256) low = middle + 1;
    else high = middle;
  }
  if (low == count) return std::nullopt;
  const Entry entry = entry_at(low);
  if (entry.name() != sha256 || entry.at > image.size() || entry.size > image.size() - entry.at) return std::nullopt;
  return std::string_view(reinterpret_cast<const char*>(image.data()) + entry.at, entry.size);
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
