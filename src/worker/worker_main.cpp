/// The worker's main loop. Exceptions and errors of task functions end here and become app_error.
#include "worker/worker_main.hpp"

#include <cstdlib>
#include <cstring>
#include <exception>

#include "os/clock.hpp"
#include "os/death_watch.hpp"
#include "os/event_fd.hpp"
#include "os/fork_guard.hpp"
#include "os/memfd.hpp"
#include "os/poller.hpp"
#include "wire/rings.hpp"

namespace drover {

Result<void> ResultWriter::write(BytesView bytes) {
  DROVER_TRY(std::span<std::byte> out, reserve(bytes.size()));
  if (!bytes.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
  return {};
}

namespace worker {
namespace {

using wire::IncarnationView;

class WorkerContext final : public Context {
 public:
  WorkerContext(wire::ControlPage& control, std::span<std::byte> shared) {
    slot_ = SlotId(control.slot);
    incarnation_ = Incarnation(control.incarnation);
    job_seed_ = control.job_seed;
    progress_ = &control.progress;
    stop_ = &control.stop;
    shared_ = shared;
  }
  void set_setup(BytesView setup) { setup_ = setup; }
  void begin(const wire::Slot& slot, BytesView broadcast) {
    task_ = TaskId(slot.task);
    epoch_ = Epoch(slot.epoch);
    rng_ = Rng(job_seed_, task_);
    broadcast_ = broadcast;
    broadcast_version_ = slot.broadcast;
  }
};

/// Sleeps until the bell rings, or returns at once if `awake` says there is something to do. The sleeping flag goes up before
/// the last look, so the supervisor either sees the flag or we see its work (wire/rings.hpp).
class Sleeper {
 public:
  Sleeper(wire::ControlPage& control, EventFd bell, Poller poller) : control_(control), bell_(std::move(bell)), poller_(std::move(poller)) {}
  template <class Awake>
  void sleep_unless(Awake awake) {
    control_.worker_sleeping.store(1, std::memory_order_seq_cst);
    if (!awake() && !stopping()) {
      if (!poller_.wait(kNever, ready_)) {  // ended by the bell, or with our namespace
        // A task closed our descriptors: deaf and dumb, we would keep others waiting. What was published counts.
        static constexpr char kLine[] = "drover: worker: a task closed descriptors it did not open; this worker ends\n";
        std::fputs(kLine, stderr);
        std::_Exit(kStartFailed);
      }
      bell_.drain();
    }
    control_.worker_sleeping.store(0, std::memory_order_relaxed);
  }
  bool stopping() const { return control_.stop.load(std::memory_order_seq_cst) != 0; }

 private:
  wire::ControlPage& control_;
  EventFd bell_;
  Poller poller_;
  std::vector<std::uint64_t> ready_;
};

class ArenaResult final : public ResultWriter {
 public:
  ArenaResult(IncarnationView view, std::uint64_t bytes, Sleeper& sleeper) : view_(view), bytes_(bytes), arena_(view, bytes), sleeper_(sleeper) {}

  Result<std::span<std::byte>> reserve(std::size_t size) override {
    discard();
    if (size <= wire::kInlineBytes) {
      completion_.length = static_cast<std::uint32_t>(size);
      completion_.inline_size = static_cast<std::uint8_t>(size);
      return std::span<std::byte>(completion_.inline_bytes).first(size);
    }
    if (size > kPayloadBytesMax || size > bytes_)
      return fail(ErrorCode::no_space, "a result of " + std::to_string(size) + " bytes is larger than " + std::to_string(kPayloadBytesMax),
                  "return less, or write it to a file and return its name");
    std::optional<wire::ResultArena::Extent> extent;
    while (!(extent = arena_.allocate(size))) {
      if (sleeper_.stopping()) return fail(ErrorCode::closed, "asked to stop while waiting for room for a result");
      sleeper_.sleep_unless([&] { return (extent = arena_.allocate(size)).has_value(); });
      if (extent) break;
    }
    completion_.extent = extent->index;
    completion_.granule = extent->granule;
    completion_.length = static_cast<std::uint32_t>(size);
    completion_.inline_size = 0;
    return std::span<std::byte>(view_.arena() + std::uint64_t{extent->granule} * wire::kGranule, size);
  }
  void truncate(std::size_t size) override {
    if (size > completion_.length) return;
    completion_.length = static_cast<std::uint32_t>(size);
    if (completion_.extent == wire::kNoExtent) completion_.inline_size = static_cast<std::uint8_t>(size);
  }
  void begin() { completion_ = {}; }
  /// Forgets what was reserved; it was never published.
  void discard() {
    if (completion_.extent != wire::kNoExtent) arena_.abandon(completion_.extent);
    completion_ = {};
  }
  wire::Completion& completion() { return completion_; }

 private:
  IncarnationView view_;
  std::uint64_t bytes_;
  wire::ResultArena arena_;
  Sleeper& sleeper_;
  wire::Completion completion_{};
};

class Worker {
 public:
  Worker(const Registry& registry, IncarnationView view, BytesView pool, std::span<std::byte> shared, Sleeper& sleeper, const EventFd& supervisor_bell)
      : registry_(registry), view_(view), pool_(pool), reader_(view), writer_(view), sleeper_(sleeper), supervisor_bell_(supervisor_bell),
        context_(view.control(), shared), result_(view, view.control().arena_bytes, sleeper), states_(registry.functions.size()) {
    const auto& page = *reinterpret_cast<const wire::PoolPage*>(pool_.data());
    context_.set_setup(pool_.subspan(page.setup_offset, page.setup_length));
  }

  Result<void> warm_up() {
    try {
      if (const std::uint32_t w = view_.control().warm_up; w != 0) {
        DROVER_TRY(void* state, state_of(w - 1));
        (void)state;
      }
      return {};
    } catch (const std::exception& e) {
      return fail(ErrorCode::system, e.what());
    } catch (...) {
      return fail(ErrorCode::system, "an exception that is not a std::exception");
    }
  }

  void serve() {
    while (!sleeper_.stopping()) {
      if (const wire::Slot* slot = reader_.claim_next()) run(*slot);
      else sleeper_.sleep_unless([&] { return !reader_.empty(); });
    }
  }

 private:
  Result<void*> state_of(std::size_t index) {
    const TaskFunction& f = *registry_.functions[index];
    if (f.start == nullptr) return nullptr;
    if (!states_[index]) {
      DROVER_TRY(states_[index], f.start(context_));
    }
    return states_[index].get();
  }

  Result<void> call(const wire::Slot& slot) {
    try {
      const TaskFunction& f = *registry_.functions[slot.function_or_extent];
      DROVER_TRY(void* state, state_of(slot.function_or_extent));
      const BytesView input = slot.inline_size != 0 || slot.length == 0
                                  ? BytesView(slot.inline_bytes).first(slot.inline_size)
                                  : pool_.subspan(std::uint64_t{slot.granule} * wire::kGranule, slot.length);
      return f.run(input, result_, context_, state);
    } catch (const std::exception& e) {
      return fail(ErrorCode::system, e.what());
    } catch (...) {
      return fail(ErrorCode::system, "an exception that is not a std::exception");
    }
  }

  void run(const wire::Slot& slot) {
    result_.begin();
    BytesView broadcast;
    if (slot.broadcast != 0) {
      const auto& entry = reinterpret_cast<const wire::PoolPage*>(pool_.data())->broadcasts[slot.broadcast % wire::kBroadcasts];
      broadcast = pool_.subspan(entry.offset, entry.length);
    }
    context_.begin(slot, broadcast);
    Result<void> ended = call(slot);
    if (!ended) {
      result_.discard();
      std::string reason = ended.error().what();
      if (reason.size() > 4096) reason.resize(4096);
      if (!result_.write(std::as_bytes(std::span(reason)))) result_.discard();
    }
    wire::Completion& c = result_.completion();
    c.task = slot.task;
    c.epoch = slot.epoch;
    c.kind = static_cast<std::uint8_t>(ended ? wire::SlotKind::completed : wire::SlotKind::app_error);
    if (writer_.publish(c)) supervisor_bell_.ring();
  }

  const Registry& registry_;
  IncarnationView view_;
  BytesView pool_;
  wire::SubmissionReader reader_;
  wire::CompletionWriter writer_;
  Sleeper& sleeper_;
  const EventFd& supervisor_bell_;
  WorkerContext context_;
  ArenaResult result_;
  std::vector<std::shared_ptr<void>> states_;
};

[[noreturn]] void refuse(wire::ControlPage& control, const EventFd& bell, const Error& error) {
  const std::string& what = error.what();
  const std::size_t n = std::min(what.size(), control.start_error.size() - 1);
  std::memcpy(control.start_error.data(), what.data(), n);
  control.start_error[n] = '\0';
  control.ready.store(2, std::memory_order_release);
  bell.ring();
  std::_Exit(kStartFailed);
}

Result<Mapping> map_inherited(int fd, bool writable) {
  DROVER_TRY(Memfd memory, Memfd::adopt(UniqueFd(fd)));
  return writable ? memory.map_writable() : memory.map_read_only();
}

}  // namespace

void worker_main(const Registry& registry) {
  auto incarnation = map_inherited(wire::kIncarnationFd, true);
  if (!incarnation || incarnation->size() < wire::kArenaOffset) {
    std::fprintf(stderr, "drover: worker: started by hand? %s\n", incarnation ? "its memory is too small" : incarnation.error().what().c_str());
    std::_Exit(kStartFailed);
  }
  const IncarnationView view{incarnation->data()};
  wire::ControlPage& control = view.control();
  // A child that a task forks must never answer in our place: it does not have the rings.
  keep_from_children(incarnation->bytes().subspan(wire::kSubmissionOffset, wire::kArenaOffset - wire::kSubmissionOffset));
  const EventFd own_bell = EventFd::adopt(UniqueFd(wire::kSupervisorBellFd));
  const auto start = [&]() -> Result<void> {
    if (control.magic != wire::kMagic || control.version != wire::kVersion) return fail(ErrorCode::mismatch, "the control page is of another version");
    if (control.functions_hash != registry.hash)
      return fail(ErrorCode::mismatch, "this executable has other task functions than the supervisor", "give drover::init the same list in every process");
    DROVER_TRY(Mapping pool, map_inherited(wire::kPoolFd, false));
    Mapping shared;
    if (control.has_shared_segment != 0) {
      DROVER_TRY(shared, map_inherited(wire::kSharedFd, true));
    }
    DROVER_CHECK(hold_death_word(&control.death_word));
    DROVER_TRY(Poller poller, Poller::create());
    EventFd bell = EventFd::adopt(UniqueFd(wire::kWorkerBellFd));
    DROVER_CHECK(poller.add(bell.fd(), 0));
    Sleeper sleeper(control, std::move(bell), std::move(poller));
    Worker worker(registry, view, pool.bytes(), shared.bytes(), sleeper, own_bell);
    DROVER_CHECK(worker.warm_up());
    control.ready.store(1, std::memory_order_release);
    own_bell.ring();
    worker.serve();
    return {};
  };
  if (auto started = start(); !started) refuse(control, own_bell, started.error());
  std::fflush(nullptr);
  std::_Exit(0);
}

}  // namespace worker
}  // namespace drover
