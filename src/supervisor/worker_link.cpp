/// Leases out, endings in, for one incarnation.
#include "supervisor/worker_link.hpp"

#include <algorithm>
#include <new>

namespace drover {

void IncarnationMemory::release(std::uint16_t extent) const {
  view().released()[extent].fetch_add(1, std::memory_order_seq_cst);
  if (view().control().worker_sleeping.load(std::memory_order_seq_cst) != 0) worker_bell.ring();
}

Result<std::unique_ptr<WorkerLink>> WorkerLink::create(const Setup& setup) {
  DROVER_TRY(Memfd memory, Memfd::create("drover-incarnation", wire::kArenaOffset + setup.arena_bytes, MemfdUse::shared));
  DROVER_TRY(Mapping mapping, memory.map_writable());
  DROVER_TRY(EventFd worker_bell, EventFd::create());
  DROVER_TRY(EventFd supervisor_bell, EventFd::create());
  auto& control = *new (mapping.data()) wire::ControlPage();
  control.slot = setup.slot.value;
  control.incarnation = setup.incarnation.value;
  control.has_shared_segment = setup.shared_bytes != 0 ? 1 : 0;
  control.arena_bytes = setup.arena_bytes;
  control.pool_bytes = setup.pool_bytes;
  control.shared_bytes = setup.shared_bytes;
  control.job_seed = setup.job_seed;
  control.functions_hash = setup.functions_hash;
  control.warm_up = setup.warm_up;
  auto shared = std::make_shared<IncarnationMemory>(IncarnationMemory{std::move(memory), std::move(mapping), std::move(worker_bell)});
  return std::unique_ptr<WorkerLink>(new WorkerLink(setup.slot, setup.incarnation, std::move(shared), std::move(supervisor_bell), setup.arena_bytes));
}

bool WorkerLink::lease(TaskId task, Epoch epoch, std::uint32_t broadcast, std::uint16_t function, const wire::Payload& payload) {
  const std::uint64_t position = writer_.tail();
  if (position - front_ >= wire::kSlots) pass_skipped();
  if (position - front_ >= wire::kSlots || open_ >= wire::kWindowMax) return false;
  leases_[position % wire::kSlots] = {task, epoch, true};
  writer_.put({.task = task.value, .epoch = epoch.value, .broadcast = broadcast, .function = function, .payload = &payload});
  ++open_;
  unpublished_ = true;
  return true;
}

void WorkerLink::publish() {
  if (!unpublished_) return;
  unpublished_ = false;
  if (writer_.publish()) memory_->worker_bell.ring();
}

bool WorkerLink::revoke(TaskId task, Epoch epoch) {
  for (std::uint64_t p = writer_.tail(); p-- > front_;) {
    Lease& l = leases_[p % wire::kSlots];
    if (l.task != task || l.epoch != epoch || !l.open) continue;
    if (!writer_.revoke(p)) return false;
    l.open = false;
    --open_;
    return true;
  }
  return false;
}

void WorkerLink::pass_skipped() {
  // A slot may be reused once the worker is past it: proven by a later answer, or said by the worker, who by lying about it
  // could only break its own order.
  const std::uint64_t skipped = std::min(control().skipped_upto.load(std::memory_order_acquire), writer_.tail());
  while (front_ < skipped && !leases_[front_ % wire::kSlots].open) ++front_;
}

std::optional<TaskId> WorkerLink::started() const {
  for (std::uint64_t p = front_; p < writer_.tail(); ++p) {
    const Lease& l = leases_[p % wire::kSlots];
    if (!l.open) continue;
    // Whatever is no longer `leased` was touched by the worker: one that writes garbage over its claim has begun it too, else a
    // task that does so would go back free again and again.
    const auto claim = memory_->view().submissions()[p % wire::kSlots].claim.load(std::memory_order_acquire);
    if (claim != static_cast<std::uint32_t>(wire::Claim::leased)) return l.task;
    return std::nullopt;
  }
  return std::nullopt;
}

wire::CompletionReader::Read WorkerLink::read(std::span<wire::Completion> out) {
  wire::CompletionReader::Read r = reader_.read(out);
  for (std::size_t i = 0; i < r.count; ++i) {
    while (front_ < writer_.tail() && !leases_[front_ % wire::kSlots].open) ++front_;  // taken back, and passed by this answer
    Lease& l = leases_[front_ % wire::kSlots];
    if (front_ == writer_.tail() || l.task.value != out[i].task || l.epoch.value != out[i].epoch)
      return {i, "completion of a task it does not hold, or out of order"};
    l.open = false;
    --open_;
    ++front_;
  }
  return r;
}

std::shared_ptr<const void> WorkerLink::hold(std::uint16_t extent) const {
  return std::shared_ptr<const void>(memory_->view().arena(), [memory = memory_, extent](const void*) { memory->release(extent); });
}

}  // namespace drover
