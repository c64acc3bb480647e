#include "judge/service.hpp"

#include <algorithm>
#include <cmath>
#include <deque>
#include <list>
#include <nlohmann/json.hpp>
#include <thread>
#include <unordered_map>

#include "drover/clock.hpp"
#include "drover/pool.hpp"

namespace drover::judge {
namespace {

constexpr Nanos kAsk = Millis(50), kEndPatience = Seconds(7), kSandboxStart = Seconds(40), kCompile = Seconds(120);
constexpr std::uint32_t kAttempts = 3;  ///< the first, one after a death it is blamed for, one after a death nobody is

/// One run, with what it waits for a core given back, repeated once where a limit asks for it, on two sandboxes in turn.
Nanos runs_bound(Nanos wall, std::size_t runs) { return 2 * (static_cast<std::int64_t>(runs) * 2 * (2 * wall + kEndPatience) + kSandboxStart); }

Nanos wall_of(const Limits& limits) { return limits.wall != Nanos(0) ? limits.wall : limits.cpu * 4 + Seconds(5); }

Bytes bytes_of(const std::string& text) {
  const BytesView bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

/// Verdicts by content, the ones used last; bounded in bytes.
class VerdictCache {
 public:
  explicit VerdictCache(std::uint64_t bytes_max) : bytes_max_(bytes_max) {}
  const std::string* find(const std::string& key) {
    const auto found = by_key_.find(key);
    if (found == by_key_.end()) return nullptr;
    order_.splice(order_.begin(), order_, found->second);
    return &found->second->second;
  }
  void put(const std::string& key, std::string verdict) {
    if (verdict.size() + key.size() > bytes_max_ || by_key_.contains(key)) return;
    bytes_ += verdict.size() + key.size();
    order_.emplace_front(key, std::move(verdict));
    by_key_.emplace(key, order_.begin());
    while (bytes_ > bytes_max_) {
      bytes_ -= order_.back().first.size() + order_.back().second.size();
      by_key_.erase(order_.back().first);
      order_.pop_back();
    }
  }

 private:
  std::uint64_t bytes_max_, bytes_ = 0;
  std::list<std::pair<std::string, std::string>> order_;
  std::unordered_map<std::string, std::list<std::pair<std::string, std::string>>::iterator> by_key_;
};

/// A verdict that another machine, or this one at another hour, might not give is not remembered.
bool lasts(const Verdict& verdict) {
  return verdict.outcome != SubmissionOutcome::not_judged && !verdict.suspect && !verdict.measured.near_limit &&
         std::ranges::none_of(verdict.tests, [](const TestVerdict& one) { return one.run == RunOutcome::wall_limit || one.run == RunOutcome::judge_error || one.run == RunOutcome::cancelled; });
}

}  // namespace

Nanos bound_of(const Submission& submission, std::size_t tests) {
  const Limits& limits = submission.limits;
  const bool run_each = submission.mode != Mode::split && submission.mode != Mode::inproc;
  const Nanos wall = wall_of(limits) + (submission.mode == Mode::split ? limits.cpu * 2 + Seconds(2) : Nanos(0));
  const Nanos compiling = submission.language == "python" || submission.language == "bash" ? Nanos(0) : 2 * (kCompile + kEndPatience) * static_cast<std::int64_t>(submission.mode == Mode::exit ? std::max<std::size_t>(tests, 1) : 1);
  return kAttempts * (runs_bound(wall, run_each ? std::max<std::size_t>(tests, 1) : 1) + compiling);
}
Nanos bound_of(const Execution& execution) { return kAttempts * (runs_bound(execution.limits.wall, 1) + (execution.language.empty() ? Nanos(0) : kCompile + kEndPatience)); }

struct Service::Impl {
  struct Work {
    std::string input;
    Nanos bound{};
    std::function<bool()> cancelled;
    std::function<void(Result<std::string>)> done;
  };
  ServiceOptions options;
  std::string profile;
  std::optional<Pool> pool;
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::deque<Work> queue;
  bool closing = false;
  Nanos queued_bound{};              ///< of all that is open
  ServiceStatus counts;
  double seconds_each = 0.02;        ///< of a submission, as it went lately
  VerdictCache cache{0};
  TestSets sets;
  std::vector<std::jthread> feeders;

  /// Keeps two tasks a worker in the pool; the rest waits here, where it can be cancelled and counted.
  void feed() {
    for (;;) {
      Work work;
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return closing || !queue.empty(); });
        if (queue.empty()) return;
        work = std::move(queue.front());
        queue.pop_front();
        ++counts.running;
      }
      const TimePoint begin = now();
      Result<std::string> answer = run(work);
      {
        const std::lock_guard lock(mutex);
        --counts.running;
        --counts.open;
        ++counts.answered;
        counts.open_bytes -= work.input.size();
        queued_bound -= work.bound;
        seconds_each = seconds_each * 0.95 + 0.05 * static_cast<double>((now() - begin).count()) * 1e-9;
      }
      work.done(std::move(answer));
    }
  }

  Result<std::string> run(const Work& work) {
    const auto cancelled = [&] {
      if (work.cancelled()) return true;
      const std::lock_guard lock(mutex);
      return closing;
    };
    if (cancelled()) return fail(ErrorCode::closed, "cancelled");
    TaskLimits limits{.attempt_wall = work.bound / kAttempts};
    DROVER_TRY(auto future, pool->submit(judge_task, work.input, {.effect = EffectClass::pure, .limits = limits, .deadline = now() + Seconds(5)}));
    bool told = false;
    for (;;) {
      auto result = future.get(now() + (told ? Nanos(Seconds(5)) : kAsk));
      if (result) {
        if (*result) return std::move(**result);
        if (cancelled()) return fail(ErrorCode::closed, "cancelled");
        return fail(ErrorCode::unavailable, result->error().text());
      }
      if (told) return fail(ErrorCode::closed, "cancelled");
      if (cancelled()) {
        pool->cancel(future.task());
        told = true;
      }
    }
  }

  Result<Nanos> enqueue(std::string input, Nanos own, std::function<bool()> cancelled, std::function<void(Result<std::string>)> done) {
    const std::lock_guard lock(mutex);
    if (closing) return fail(ErrorCode::closed, "the service is shutting down");
    if (counts.open >= options.open_max || counts.open_bytes + input.size() > options.bytes_max) {
      ++counts.refused;
      return fail(ErrorCode::busy, "the queue is full", "submit again later");
    }
    ++counts.open;
    ++counts.submitted;
    counts.open_bytes += input.size();
    // All before it, spread over the workers, and itself.
    const Nanos bound = own + queued_bound / std::max<std::uint32_t>(counts.workers, 1);
    queued_bound += own;
    queue.push_back({std::move(input), own, std::move(cancelled), std::move(done)});
    changed.notify_one();
    return bound;
  }
};

Service::Service(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Service::~Service() { shutdown(); }
const std::string& Service::profile() const { return impl_->profile; }

Result<std::unique_ptr<Service>> Service::start(const ServiceOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  impl->options.slot.stop_cancels = true;
  impl->cache = VerdictCache(options.cache_bytes);
  {
    DROVER_TRY(const Sandbox tried, make_sandbox(impl->options.slot));
    impl->profile = name_of(tried.profile());
  }
  PoolOptions pool{.workers = options.workers, .window = 1, .setup = bytes_of(json_of(impl->options.slot)), .warm_up = judge_task.function};
  pool.limits.stall = kSandboxStart + Seconds(20);
  pool.retry = {.blamed_max = 1, .free_max = 1};
  pool.start_grace = Seconds(60);
  DROVER_TRY(impl->pool, Pool::start(std::move(pool)));
  impl->counts.workers = impl->pool->workers();
  auto service = std::unique_ptr<Service>(new Service(std::move(impl)));
  for (std::uint32_t i = 0; i < 2 * service->impl_->counts.workers; ++i) service->impl_->feeders.emplace_back([self = service->impl_.get()] { self->feed(); });
  return service;
}

Result<std::shared_ptr<Ticket<Verdict>>> Service::submit(Submission submission, std::function<void(const Verdict&)> done) {
  Impl& i = *impl_;
  std::size_t tests = submission.tests.size();
  if (!submission.test_set.empty()) {
    const std::lock_guard lock(i.mutex);
    const TestSet* const set = i.sets.find(submission.test_set);
    if (set == nullptr) return fail(ErrorCode::not_found, "test_set '" + submission.test_set + "' is not registered", "POST it to /v1/test_sets first");
    submission.mode = submission.mode_for(set->io, set->named);
    if (set->io != (*submission.mode == Mode::stdio) || (submission.checker && !set->io)) return fail(ErrorCode::usage, "test_set '" + submission.test_set + "': its tests are not for mode " + std::string(name_of(*submission.mode)), "docs/judge_api.md has the modes");
    tests = set->tests;
  } else {
    submission.mode = submission.mode_chosen();
  }
  const std::string id = std::exchange(submission.id, {});
  const std::string key = content_key(submission);
  const RewardRule rule = i.options.reward;
  if (i.options.cache_bytes != 0) {
    std::unique_lock lock(i.mutex);
    if (const std::string* const known = i.cache.find(key)) {
      auto verdict = parse_verdict(*known);
      if (verdict) {
        ++i.counts.submitted, ++i.counts.answered, ++i.counts.cached;
        ++i.counts.outcomes[static_cast<std::size_t>(verdict->outcome)];
        lock.unlock();
        verdict->id = id;
        verdict->measured.cached = true;
        auto ticket = std::make_shared<Ticket<Verdict>>();
        ticket->answer(*verdict);
        if (done) done(*verdict);
        return ticket;
      }
    }
  }
  const Nanos own = bound_of(submission, tests);
  const Mode mode = *submission.mode;
  auto ticket = std::make_shared<Ticket<Verdict>>();
  DROVER_TRY(ticket->bound_, i.enqueue(json_of(submission).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), own, [ticket] { return ticket->cancelled(); },
                                       [&i, ticket, id, key, mode, rule, done](Result<std::string> answer) {
    Verdict verdict;
    auto parsed = answer ? parse_verdict(*answer) : Result<Verdict>(std::unexpected(std::move(answer).error()));
    if (parsed) {
      verdict = std::move(*parsed);
    } else {
      verdict.mode = mode;
      verdict.reason = parsed.error().code() == ErrorCode::closed ? "cancelled" : "judge_error: " + parsed.error().what();
    }
    conclude(verdict, rule);
    {
      const std::lock_guard lock(i.mutex);
      ++i.counts.outcomes[static_cast<std::size_t>(verdict.outcome)];
      if (verdict.outcome == SubmissionOutcome::not_judged) ++(verdict.reason == "cancelled" ? i.counts.cancelled : i.counts.not_judged);
      i.counts.cpu_seconds += static_cast<double>((verdict.measured.cpu + verdict.measured.compile_cpu).count()) * 1e-9;
      if (i.options.cache_bytes != 0 && lasts(verdict)) i.cache.put(key, json_of(verdict));
    }
    verdict.id = id;
    ticket->answer(verdict);
    if (done) done(verdict);
  }));
  return ticket;
}

Result<std::shared_ptr<Ticket<Executed>>> Service::execute(const Execution& execution, std::function<void(const Executed&)> done) {
  auto ticket = std::make_shared<Ticket<Executed>>();
  DROVER_TRY(ticket->bound_, impl_->enqueue(json_of(execution), bound_of(execution), [ticket] { return ticket->cancelled(); }, [ticket, done](Result<std::string> answer) {
    auto parsed = answer ? parse_executed(*answer) : Result<Executed>(std::unexpected(std::move(answer).error()));
    Executed executed = parsed ? std::move(*parsed) : Executed{.error = parsed.error().code() == ErrorCode::closed ? "cancelled" : "judge_error: " + parsed.error().what()};
    ticket->answer(executed);
    if (done) done(executed);
  }));
  return ticket;
}

Result<std::string> Service::add_test_set(std::string_view json) {
  const std::lock_guard lock(impl_->mutex);
  if (impl_->sets.bytes() + json.size() > impl_->options.test_sets_bytes) return fail(ErrorCode::busy, "the registry of test sets is full", "restart the server with a larger --test-sets");
  const std::size_t before = impl_->sets.size();
  DROVER_TRY(std::string sha, impl_->sets.add(json));
  if (impl_->sets.size() != before) DROVER_CHECK(impl_->pool->broadcast(impl_->sets.image()));
  return sha;
}

bool Service::has_test_set(std::string_view sha256) const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->sets.find(sha256) != nullptr;
}

Nanos Service::retry_after() const {
  const std::lock_guard lock(impl_->mutex);
  const double seconds = impl_->counts.open * impl_->seconds_each / std::max<std::uint32_t>(2 * impl_->counts.workers, 1);
  return Seconds(static_cast<std::int64_t>(std::clamp(std::ceil(seconds), 1.0, 60.0)));
}

void Service::shutdown() {
  {
    const std::lock_guard lock(impl_->mutex);
    if (std::exchange(impl_->closing, true)) return;
  }
  impl_->changed.notify_all();
  if (impl_->pool) (void)impl_->pool->shutdown(Shutdown::kill, now() + Seconds(2));  // the sandboxes die with their workers
  impl_->feeders.clear();  // each ends when its task has ended and the queue is empty
}

ServiceStatus Service::status() const {
  ServiceStatus status;
  {
    const std::lock_guard lock(impl_->mutex);
    status = impl_->counts;
    status.test_sets = impl_->sets.size();
    status.test_set_bytes = impl_->sets.bytes();
  }
  status.workers_lost = impl_->pool->status().deaths;
  return status;
}

}  // namespace drover::judge
