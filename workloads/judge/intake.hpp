#pragma once
/// What a service over a job has taken, in the order in which its tasks were given: the job's journal. Every submission and execution is a task,
/// so the n-th of them is task n of the job.

#include <functional>
#include <string>
#include <string_view>

#include "drover/journal.hpp"

namespace drover::judge {

enum class IntakeKind : char { submission = 's', execution = 'x', test_set = 't' };

struct IntakeRecord {
  IntakeKind kind{};
  std::string_view key{};   ///< of a submission: content_key, 64 hex digits
  std::string_view text{};  ///< the task's input; a test set's JSON
};

class Intake {
 public:
  /// As Journal::open.
  static Result<Intake> open(const std::string& path, const std::function<Result<void>(const IntakeRecord&)>& each);
  Result<void> append(const IntakeRecord& record);
  Result<void> sync() { return journal_.sync(); }
  std::uint64_t records() const { return journal_.records(); }

 private:
  explicit Intake(Journal journal) : journal_(std::move(journal)) {}
  Journal journal_;
};

}  // namespace drover::judge
