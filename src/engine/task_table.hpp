#pragma once
/// Every open task: a slab of records, an index from id to record, and the queue threaded through the records. Nothing is
/// allocated per task once the slab has grown to the largest number of tasks open at once.

#include <cstdint>
#include <vector>

#include "base/assert.hpp"
#include "drover/types/ids.hpp"
#include "drover/types/task.hpp"
#include "drover/types/time.hpp"

namespace drover::engine {

inline constexpr std::uint32_t kNoTask = ~std::uint32_t{0};

struct Task {
  enum class State : std::uint8_t { queued, leased, recorded };
  TaskId id{};
  Epoch epoch{};                ///< of the current or last lease
  std::uint32_t slot = 0;       ///< while leased
  Incarnation incarnation{};    ///< while leased
  std::uint32_t previous = kNoTask, next = kNoTask;  ///< in the queue
  std::uint32_t same_bucket = kNoTask;
  std::uint16_t limits = 0;
  State state = State::queued;
  EffectClass effect = EffectClass::pure;
  bool cancel_asked = false;
  bool time_is_up = false;      ///< its task limit has passed
  std::uint8_t lonely_kills = 0;
  std::uint32_t attempts = 0;   ///< ended attempts that were started
  std::uint32_t blamed = 0;
  std::uint32_t free = 0;
  TimePoint submitted_at{};
  TimePoint leased_at{};
};

class TaskTable {
 public:
  TaskTable() : buckets_(64, kNoTask) {}

  Task& operator[](std::uint32_t i) { return slab_[i]; }
  const Task& operator[](std::uint32_t i) const { return slab_[i]; }
  std::uint32_t size() const { return used_; }

  /// kNoTask if it is not open.
  std::uint32_t find(TaskId id) const {
    std::uint32_t i = buckets_[bucket_of(id)];
    while (i != kNoTask && slab_[i].id != id) i = slab_[i].same_bucket;
    return i;
  }
  /// The id must not be open.
  std::uint32_t insert(TaskId id) {
    DROVER_ASSERT(find(id) == kNoTask && "a task id is submitted once", id);
    if (used_ == buckets_.size()) grow();
    std::uint32_t i = free_;
    if (i == kNoTask) {
      i = static_cast<std::uint32_t>(slab_.size());
      slab_.emplace_back();
    } else {
      free_ = slab_[i].next;
      slab_[i] = Task();
    }
    slab_[i].id = id;
    link(i);
    ++used_;
    return i;
  }
  void erase(std::uint32_t i) {
    std::uint32_t* at = &buckets_[bucket_of(slab_[i].id)];
    while (*at != i) {
      DROVER_ASSERT(*at != kNoTask, slab_[i].id);
      at = &slab_[*at].same_bucket;
    }
    *at = slab_[i].same_bucket;
    slab_[i].next = free_;
    free_ = i;
    --used_;
  }

 private:
  /// Dense ids, the usual case, walk through memory in order without a collision; strides of any power of two are spread.
  std::size_t bucket_of(TaskId id) const {
    const std::uint64_t v = id.value;
    return static_cast<std::size_t>(v + 7 * (v >> 10) + 11 * (v >> 20) + 13 * (v >> 30) + 17 * (v >> 40)) & (buckets_.size() - 1);
  }
  void link(std::uint32_t i) {
    std::uint32_t& first = buckets_[bucket_of(slab_[i].id)];
    slab_[i].same_bucket = first;
    first = i;
  }
  void grow() {
    std::vector<std::uint32_t> open;
    open.reserve(used_);
    for (std::uint32_t i : buckets_) {
      for (; i != kNoTask; i = slab_[i].same_bucket) open.push_back(i);
    }
    buckets_.assign(buckets_.size() * 2, kNoTask);
    for (const std::uint32_t i : open) link(i);
  }
  std::vector<Task> slab_;
  std::vector<std::uint32_t> buckets_;  // first task of each chain
  std::uint32_t free_ = kNoTask;        // chained by `next`
  std::uint32_t used_ = 0;
};

/// First in, first out, with retries at the front and removal from anywhere.
class TaskQueue {
 public:
  explicit TaskQueue(TaskTable& tasks) : tasks_(&tasks) {}
  bool empty() const { return first_ == kNoTask; }
  std::uint64_t size() const { return size_; }
  std::uint32_t front() const { return first_; }

  void push_back(std::uint32_t i) {
    Task& task = (*tasks_)[i];
    task.previous = last_;
    task.next = kNoTask;
    (last_ == kNoTask ? first_ : (*tasks_)[last_].next) = i;
    last_ = i;
    ++size_;
  }
  void push_front(std::uint32_t i) {
    Task& task = (*tasks_)[i];
    task.previous = kNoTask;
    task.next = first_;
    (first_ == kNoTask ? last_ : (*tasks_)[first_].previous) = i;
    first_ = i;
    ++size_;
  }
  void remove(std::uint32_t i) {
    const Task& task = (*tasks_)[i];
    (task.previous == kNoTask ? first_ : (*tasks_)[task.previous].next) = task.next;
    (task.next == kNoTask ? last_ : (*tasks_)[task.next].previous) = task.previous;
    --size_;
  }
  std::uint32_t pop_front() {
    const std::uint32_t i = first_;
    remove(i);
    return i;
  }

 private:
  TaskTable* tasks_;
  std::uint32_t first_ = kNoTask, last_ = kNoTask;
  std::uint64_t size_ = 0;
};

}  // namespace drover::engine
