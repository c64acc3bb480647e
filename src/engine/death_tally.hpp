#pragma once
/// Tells a task that gets its workers SIGKILLed from a host that kills workers. A SIGKILL nobody explains is `lost(killed)` and
/// free; the third one of the same task is blamed if each of the three stood alone, that is if no incarnation running something
/// else was lost within a second of it. A later neighbour takes an earlier one's loneliness away again; the third itself is
/// judged when it arrives, by what was lost before it, because waiting for its second would delay every retry.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "drover/types/ids.hpp"
#include "drover/types/time.hpp"

namespace drover::engine {

class DeathTally {
 public:
  static constexpr Nanos kNeighbourhood = Seconds(1);

  /// An incarnation was lost without explanation while running `task` (none: idle, or the keeper took it along). Calls
  /// `take_back(task)` for each earlier lonely kill that this one gives a neighbour. True: this one stands alone so far.
  bool lost(TimePoint now, std::optional<TaskId> task, const std::function<void(TaskId)>& take_back) {
    std::erase_if(lonely_, [&](const Loss& loss) { return now - loss.at > kNeighbourhood; });
    std::erase_if(lonely_, [&](const Loss& loss) {
      if (task && loss.task == task) return false;
      take_back(*loss.task);
      return true;
    });
    bool alone = task.has_value();
    for (const auto& loss : {last_, last_of_another_}) {
      if (loss && now - loss->at <= kNeighbourhood && (!task || loss->task != task)) alone = false;
    }
    if (last_ && last_->task != task) last_of_another_ = last_;
    last_ = Loss{now, task};
    if (alone) lonely_.push_back({now, task});
    return alone;
  }

 private:
  struct Loss {
    TimePoint at;
    std::optional<TaskId> task;
  };
  std::optional<Loss> last_;             // the latest loss
  std::optional<Loss> last_of_another_;  // the latest one with another task than last_
  std::vector<Loss> lonely_;             // within the last second; all of one task
};

}  // namespace drover::engine
