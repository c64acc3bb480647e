#pragma once
/// Test sets that many submissions share travel once: all of them in one block of sealed, read-only memory that every worker maps
/// (Context::broadcast), and a submission names its own by sha256. No candidate ever sees that memory.
///
/// A test set is a JSON object of the keys `tests`, `prelude` and `entry_points` of a submission.

#include <map>
#include <string>
#include <string_view>

#include "drover/types/bytes.hpp"
#include "judge/submission.hpp"

namespace drover::judge {

/// What of a set is known without reading it again.
struct TestSet {
  std::string text{};
  std::size_t tests = 0;
  bool io = false, named = false;  ///< all are inputs and outputs; entry points are named
};

class TestSets {
 public:
  /// Its sha256, of the canonical text: equal sets are one. Error usage: no test set.
  Result<std::string> add(std::string_view json);
  /// As above, of a submission; its tests, prelude and entry points are taken out of it, and its mode is the one they chose.
  std::string take_from(Submission& submission);
  const TestSet* find(std::string_view sha256) const;
  std::uint64_t bytes() const { return bytes_; }
  std::size_t size() const { return sets_.size(); }
  /// For Pool::broadcast.
  Bytes image() const;

 private:
  std::map<std::string, TestSet, std::less<>> sets_;
  std::uint64_t bytes_ = 0;
};

/// Of the set a submission's tests are.
std::string test_set_sha256(const Submission& submission);
/// The set's JSON in an image, or nothing.
std::optional<std::string_view> find_test_set(BytesView image, std::string_view sha256);
/// Puts the set's tests into a submission that names it. Error usage: its mode is not for these tests.
Result<void> attach(Submission& submission, std::string_view test_set);

}  // namespace drover::judge
