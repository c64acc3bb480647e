#pragma once
/// One incarnation of a worker as the supervisor holds it: the memory shared with it, its bell, its process, and the leases it
/// was given, in order. The loop thread owns it. It touches what the worker writes only through CompletionReader and the claim
/// words; everything it keeps itself is in private memory.

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "drover/types/ids.hpp"
#include "os/event_fd.hpp"
#include "os/limits.hpp"
#include "os/memfd.hpp"
#include "os/pidfd.hpp"
#include "wire/rings.hpp"

namespace drover {

/// The memory of one incarnation and its bell; lives on while anybody still reads a result in it.
struct IncarnationMemory {
  Memfd memory;
  Mapping mapping;
  EventFd worker_bell;
  wire::IncarnationView view() const { return {mapping.data()}; }
  /// From any thread, once per published extent: the worker may reuse it.
  void release(std::uint16_t extent) const;
};

class WorkerLink {
 public:
  /// What the worker is told in its control page.
  struct Setup {
    SlotId slot;
    Incarnation incarnation;
    std::uint64_t arena_bytes = 0;
    std::uint64_t pool_bytes = 0;
    std::uint64_t shared_bytes = 0;
    std::uint64_t job_seed = 0;
    std::uint64_t functions_hash = 0;
    std::uint32_t warm_up = 0;
  };
  static Result<std::unique_ptr<WorkerLink>> create(const Setup& setup);

  SlotId slot() const { return slot_; }
  Incarnation incarnation() const { return incarnation_; }
  wire::ControlPage& control() const { return memory_->view().control(); }
  const std::shared_ptr<IncarnationMemory>& memory() const { return memory_; }
  const EventFd& supervisor_bell() const { return supervisor_bell_; }

  // ---- leases, in the order they were given ----
  /// False if too many positions are still unpassed; the lease must be given back.
  bool lease(TaskId task, Epoch epoch, std::uint32_t broadcast, std::uint16_t function, const wire::Payload& payload);
  /// Makes what was leased visible and rings if need be.
  void publish();
  bool revoke(TaskId task, Epoch epoch);
  /// The oldest unanswered lease, if the worker has claimed it.
  std::optional<TaskId> started() const;
  std::size_t leases() const { return open_; }

  // ---- endings ----
  bool has_completions() const { return !reader_.empty(); }
  /// Reads one batch into `out`. An honest worker answers its leases in order: anything else is a complaint.
  wire::CompletionReader::Read read(std::span<wire::Completion> out);
  /// Before the loop sleeps, and after.
  void set_supervisor_sleeping(bool sleeping) { control().supervisor_sleeping.store(sleeping ? 1 : 0, std::memory_order_seq_cst); }
  /// Takes the extent of a completion over: its bytes, held until the last copy of the pointer is gone.
  std::shared_ptr<const void> hold(std::uint16_t extent) const;
  BytesView bytes(const wire::Completion& completion) const {
    return {memory_->view().arena() + std::uint64_t{completion.granule} * wire::kGranule, completion.length};
  }

  // ---- process ----
  PidFd pidfd;
  int host_pid = 0;
  CgroupLeaf cgroup;
  bool ready = false;
  bool kill_on_spawn = false;
  TimePoint spawn_asked{};
  bool polled = false;          ///< its bell is in the poller
  bool watched = false;         ///< its death word is in the death watch
  bool broken = false;          ///< it lied on its ring: not read any more
  std::string start_error;      ///< why it could not start, in its own words
  /// Leases that wait until the ledger has the opening of an effectful attempt; later ones wait behind it, so that the worker
  /// gets its tasks in the scheduler's order.
  struct Held {
    TaskId task;
    Epoch epoch;
    RecordNumber after;         ///< in the ledger's numbering; 0 = only waits for those before it
  };
  std::deque<Held> held;
  std::uint64_t rss_bytes = 0;  ///< as last sampled
  Nanos cpu{};                  ///< as last sampled

 private:
  WorkerLink(SlotId slot, Incarnation incarnation, std::shared_ptr<IncarnationMemory> memory, EventFd supervisor_bell, std::uint64_t arena_bytes)
      : slot_(slot), incarnation_(incarnation), memory_(std::move(memory)), supervisor_bell_(std::move(supervisor_bell)),
        writer_(memory_->view()), reader_(memory_->view(), arena_bytes) {}
  struct Lease {
    TaskId task;
    Epoch epoch;
    bool open;      ///< not answered, not taken back
  };
  void pass_skipped();

  SlotId slot_;
  Incarnation incarnation_;
  std::shared_ptr<IncarnationMemory> memory_;
  EventFd supervisor_bell_;
  wire::SubmissionWriter writer_;
  wire::CompletionReader reader_;
  std::array<Lease, wire::kSlots> leases_{};   ///< by position % kSlots
  std::uint64_t front_ = 0;                    ///< oldest position not answered; positions front_..writer_.tail()
  std::size_t open_ = 0;
  bool unpublished_ = false;
};

}  // namespace drover
