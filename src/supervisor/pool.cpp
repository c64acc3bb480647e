/// The public Pool: checks options, starts the loop thread, and forwards.
#include "drover/pool.hpp"

#include <algorithm>
#include <future>

#include "os/clock.hpp"
#include "os/host.hpp"
#include "supervisor/pool_impl.hpp"
#include "supervisor/pool_start.hpp"
#include "supervisor/supervisor.hpp"
#include "worker/registry.hpp"

namespace drover {
namespace {

constexpr std::uint32_t kWorkersMax = 1024;
constexpr std::uint64_t kWorkerMemoryFloor = std::uint64_t{16} << 20;  ///< what a worker needs at least, for the bound by memory

Result<void> check(PoolOptions& o) {
  const auto out_of_range = [](std::string_view what, auto value, std::string_view allowed) {
    return fail(ErrorCode::usage, std::string(what) + " is " + std::to_string(value), "allowed: " + std::string(allowed));
  };
  if (!worker::registry().initialised)
    return fail(ErrorCode::refused, "drover::init was not called", "make drover::init(argc, argv, {tasks...}) the first line of main");
  const std::uint32_t cores = usable_cores();
  if (o.workers == 0) o.workers = cores;
  const auto by_memory = static_cast<std::uint32_t>(std::min<std::uint64_t>(host_memory().available_bytes / std::max(kWorkerMemoryFloor, o.worker.memory_bytes), kWorkersMax));
  const std::uint32_t most = std::max(1u, std::min(o.oversubscribe ? kWorkersMax : std::min(kWorkersMax, 4 * cores), by_memory));
  if (o.workers > most)
    return fail(ErrorCode::usage, "workers is " + std::to_string(o.workers),
                "allowed: 1 to " + std::to_string(most) + " on this host (" + std::to_string(cores) + " usable cores, four workers each; memory for " + std::to_string(by_memory) + ")");
  if (o.window < 1 || o.window > wire::kWindowMax) return out_of_range("window", o.window, "1 to 128");
  if (o.tasks_max < 1) return out_of_range("tasks_max", o.tasks_max, "1 to 4294967295");
  if (o.bytes_max < 1 || o.bytes_max > (std::uint64_t{16} << 30)) return out_of_range("bytes_max", o.bytes_max, "1 to 16 GiB");
  if (o.warm_up != nullptr && !worker::registry().index_of(*o.warm_up))
    return fail(ErrorCode::refused, "task function '" + std::string(o.warm_up->name) + "' is not known to the workers", "add it to the list given to drover::init");
  return {};
}

}  // namespace

Result<StartedPool> start_pool(PoolOptions options, std::unique_ptr<JobStore> job, Nanos run_deadline_boottime) {
  DROVER_CHECK(check(options));
  // Room for bytes_max in every size class mix, an input of the largest size besides, and broadcasts.
  const std::uint64_t capacity = 4 * options.bytes_max + 4 * kPayloadBytesMax + (std::uint64_t{4} << 30);
  DROVER_TRY(auto arena, InputArena::create(capacity, options.setup));
  DROVER_TRY(EventFd bell, EventFd::create());
  auto impl = std::make_shared<detail::PoolImpl>(std::move(options), std::move(arena), std::move(bell));
  DROVER_CHECK(impl->make_shared_segment());
  auto summary = std::make_shared<RunSummary>();
  std::promise<Result<void>> started;
  auto answer = started.get_future();
  impl->loop = std::thread([pool = impl.get(), summary, job = std::move(job), run_deadline_boottime, &started]() mutable {
    Supervisor supervisor(*pool, system_clock(), std::move(job), run_deadline_boottime);
    Result<void> ok = supervisor.start();
    const bool run = ok.has_value();
    started.set_value(std::move(ok));
    if (run) supervisor.run();
    *summary = supervisor.summary();
    supervisor.hand_over(*summary);
    pool->ended();
  });
  if (Result<void> ok = answer.get(); !ok) return std::unexpected(std::move(ok).error().with("starting the pool"));
  return StartedPool{std::move(impl), std::move(summary)};
}

Result<Pool> Pool::start(PoolOptions options) {
  const Nanos run = options.run;
  const Nanos deadline = run == kUnlimited ? kUnlimited : system_clock().boottime() + run;
  DROVER_TRY(StartedPool started, start_pool(std::move(options), nullptr, deadline));
  return Pool(std::move(started.pool));
}

Pool& Pool::operator=(Pool&& other) noexcept {
  if (this != &other) {
    if (impl_) (void)shutdown(Shutdown::cancel);
    impl_ = std::move(other.impl_);
  }
  return *this;
}

Pool::~Pool() {
  if (impl_) (void)shutdown(Shutdown::cancel);
}

Result<void> Pool::shutdown(Shutdown how, TimePoint deadline) {
  const TimePoint now = system_clock().now();
  const StopLadder& ladder = impl_->options().ladder;
  // The ladder ends every worker; what is left then is unkillable, and the loop gives it up too. A second on top for the loop.
  const Nanos bound = ladder.ask + ladder.term + ladder.reap + Seconds(6);
  impl_->request({how, deadline});
  const TimePoint last = how == Shutdown::drain ? (deadline == kNever ? kNever : after(deadline, bound)) : after(now, bound);
  if (impl_->wait_ended(last)) return {};
  impl_->request({Shutdown::kill, kNever});
  if (impl_->wait_ended(after(system_clock().now(), bound))) return {};
  return fail(ErrorCode::timed_out, "the supervisor's loop did not end in its bound", "its workers die with this process");
}

Result<std::uint32_t> Pool::broadcast(BytesView bytes) { return impl_->arena().broadcast(bytes); }
Result<std::uint32_t> Pool::edit_broadcast(const std::function<void(std::span<std::byte>)>& edit) { return impl_->arena().edit_broadcast(edit); }
std::span<std::byte> Pool::shared_segment() { return impl_->shared_bytes(); }
void Pool::cancel(TaskId task) { impl_->cancel(task); }
void Pool::set_workers(std::uint32_t workers) { impl_->set_workers(workers); }
PoolStatus Pool::status() const { return impl_->status(); }
std::uint32_t Pool::workers() const { return impl_->options().workers; }

std::uint32_t Pool::map_window(std::uint32_t asked) const {
  const PoolOptions& o = impl_->options();
  const std::uint32_t window = asked != 0 ? asked : o.workers * o.window * 2;
  return std::clamp(window, 1u, o.tasks_max);
}

}  // namespace drover
