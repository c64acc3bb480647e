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
#include "judge/intake.hpp"

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

std::string text_of(const Submission& submission) { return json_of(submission).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace); }

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
    std::string input{};
    Nanos bound{};
    std::function<bool()> cancelled{};
    std::function<void(Result<std::string>, std::optional<TaskId>)> done{};
    std::function<void(Result<void>)> taken{};       ///< over a job: nothing can lose it any more, or it could not be taken
    std::optional<Future<std::string>> future{};     ///< given to the pool already: an earlier run took it
  };
  /// Who waits for one submission's verdict.
  struct Waiter {
    std::string id;
    std::shared_ptr<Ticket<Verdict>> ticket;
    std::function<void(const Verdict&)> done;
  };
  /// What a job knows of a submission.
  struct Known {
    std::optional<TaskId> task{};   ///< that has its verdict
    bool lasts = false;             ///< and is the answer to an equal one
    bool pending = false, safe = false;  ///< safe: where no crash can lose it
    Nanos bound{};
    std::vector<Waiter> waiters{};
    std::vector<std::function<void(Result<std::string>)>> takers{};  ///< told when it is safe
  };
  ServiceOptions options;
  std::string profile;
  std::optional<Pool> own_pool;
  Pool* pool = nullptr;              ///< it, or the job's
  Job* job = nullptr;
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::deque<Work> queue;
  bool closing = false;
  Nanos queued_bound{};              ///< of all that is open
  ServiceStatus counts;
  double seconds_each = 0.02;        ///< of a submission, as it went lately
  VerdictCache cache{0};
  TestSets sets;
  std::mutex order;                  ///< the pool is given tasks in the journal's order
  std::optional<Intake> intake;
  bool syncs = false;                ///< what is in the journal waits for the disk; set before there are threads
  std::deque<Work> arrived;          ///< in the journal, and not yet on the disk
  std::condition_variable arrival;
  std::unordered_map<std::string, Known> known;  ///< by key
  std::jthread syncer;
  std::vector<std::jthread> feeders;

  /// Keeps two tasks a worker in the pool; the rest waits here, where it can be cancelled and counted.
  void feed() {
    for (;;) {
      Work work;
      Result<Future<std::string>> future = fail(ErrorCode::closed, "cancelled");
      {
        std::unique_lock in_order(order, std::defer_lock);
        for (;;) {  // to the front of the queue, and with it into the pool
          in_order.lock();
          std::unique_lock lock(mutex);
          if (!queue.empty()) break;
          if (closing) return;
          in_order.unlock();
          changed.wait(lock, [&] { return closing || !queue.empty(); });
        }
        {
          const std::lock_guard lock(mutex);
          work = std::move(queue.front());
          queue.pop_front();
          ++counts.running;
        }
        if (work.future) future = std::move(*work.future);
        else if (!is_cancelled(work)) future = submit(work);
      }
      const TimePoint begin = now();
      const std::optional<TaskId> task = future ? std::optional(future->task()) : std::nullopt;
      Result<std::string> answer = future ? await(*future, work) : Result<std::string>(std::unexpected(std::move(future).error()));
      {
        const std::lock_guard lock(mutex);
        --counts.running;
        seconds_each = seconds_each * 0.95 + 0.05 * static_cast<double>((now() - begin).count()) * 1e-9;
      }
      end(work, std::move(answer), task);
    }
  }

  /// What is in the journal is on the disk before it goes on: many at once, with one sync.
  void sync() {
    for (;;) {
      std::deque<Work> taken;
      {
        std::unique_lock lock(mutex);
        arrival.wait(lock, [&] { return closing || !arrived.empty(); });
        if (arrived.empty()) return;
        taken.swap(arrived);
      }
      const Result<void> synced = intake->sync();
      for (Work& work : taken) {
        if (work.taken) work.taken(synced);
        if (!synced) end(work, fail(ErrorCode::unavailable, synced.error().what()), std::nullopt);
      }
      if (!synced) continue;
      const std::lock_guard lock(mutex);
      for (Work& work : taken) queue.push_back(std::move(work));
      changed.notify_all();
    }
  }

  void end(const Work& work, Result<std::string> answer, std::optional<TaskId> task) {
    {
      const std::lock_guard lock(mutex);
      --counts.open;
      ++counts.answered;
      counts.open_bytes -= work.input.size();
      queued_bound -= work.bound;
    }
    work.done(std::move(answer), task);
  }

  bool is_cancelled(const Work& work) const {
    if (work.cancelled && work.cancelled()) return true;
    const std::lock_guard lock(mutex);
    return closing;
  }

  Result<Future<std::string>> submit(const Work& work) const {
    const TaskLimits limits{.attempt_wall = work.bound / kAttempts};
    // A task that was taken must not be passed over: those behind it would have its number.
    return pool->submit(judge_task, work.input, {.effect = EffectClass::pure, .limits = limits, .deadline = job != nullptr ? kNever : now() + Seconds(5)});
  }

  Result<std::string> await(Future<std::string>& future, const Work& work) {
    bool told = false;
    for (;;) {
      auto result = future.get(now() + (told ? Nanos(Seconds(5)) : kAsk));
      const bool ending = is_cancelled(work) || (job != nullptr && job->should_stop());
      if (result) {
        if (*result) return std::move(**result);
        if (ending) return fail(ErrorCode::closed, "cancelled");
        return fail(ErrorCode::unavailable, result->error().text());
      }
      if (job != nullptr) continue;  // it ends: by itself, or with the job
      if (told) return fail(ErrorCode::closed, "cancelled");
      if (ending) {
        pool->cancel(future.task());
        told = true;
      }
    }
  }

  /// Under the lock.
  void count_open(const Work& work) {
    ++counts.open;
    ++counts.submitted;
    counts.open_bytes += work.input.size();
    queued_bound += work.bound;
  }

  /// Under the lock.
  Result<Nanos> enqueue(Work work, const IntakeRecord& record) {
    if (closing) return fail(ErrorCode::closed, "the service is shutting down");
    if (counts.open >= options.open_max || counts.open_bytes + work.input.size() > options.bytes_max) {
      ++counts.refused;
      return fail(ErrorCode::busy, "the queue is full", "submit again later");
    }
    // Who has its place in the journal gets its number from the pool, whatever happens.
    if (work.input.size() > kPayloadBytesMax) return fail(ErrorCode::usage, "a submission of " + std::to_string(work.input.size()) + " bytes is too large");
    if (intake) DROVER_CHECK(intake->append(record));
    // All before it, spread over the workers, and itself.
    const Nanos bound = work.bound + queued_bound / std::max<std::uint32_t>(counts.workers, 1);
    count_open(work);
    if (syncs) {
      arrived.push_back(std::move(work));
      arrival.notify_one();
    } else {
      queue.push_back(std::move(work));
      changed.notify_one();
    }
    return bound;
  }

  /// Its mode, and how many tests it has. Errors: not_found, usage.
  Result<std::size_t> settled(Submission& submission) const {
    if (submission.test_set.empty()) {
      submission.mode = submission.mode_chosen();
      return submission.tests.size();
    }
    const std::lock_guard lock(mutex);
    const TestSet* const set = sets.find(submission.test_set);
    if (set == nullptr) return fail(ErrorCode::not_found, "test_set '" + submission.test_set + "' is not registered", "POST it to /v1/test_sets first");
    submission.mode = submission.mode_for(set->io, set->named);
    if (set->io != (*submission.mode == Mode::stdio) || (submission.checker && !set->io)) return fail(ErrorCode::usage, "test_set '" + submission.test_set + "': its tests are not for mode " + std::string(name_of(*submission.mode)), "docs/judge_api.md has the modes");
    return set->tests;
  }

  /// Of a task's answer.
  Verdict verdict_of(Result<std::string> answer, Mode mode) const {
    auto parsed = answer ? parse_verdict(*answer) : Result<Verdict>(std::unexpected(std::move(answer).error()));
    Verdict verdict;
    if (parsed) {
      verdict = std::move(*parsed);
    } else {
      verdict.mode = mode;
      verdict.reason = parsed.error().code() != ErrorCode::closed ? "judge_error: " + parsed.error().what() : job != nullptr ? "cancelled: the server is stopping; it is judged when its job is resumed" : "cancelled";
    }
    conclude(verdict, options.reward);
    return verdict;
  }
  /// Under the lock.
  void count(const Verdict& verdict) {
    ++counts.outcomes[static_cast<std::size_t>(verdict.outcome)];
    if (verdict.outcome == SubmissionOutcome::not_judged) ++(was_cancelled(verdict) ? counts.cancelled : counts.not_judged);
    counts.cpu_seconds += static_cast<double>((verdict.measured.cpu + verdict.measured.compile_cpu).count()) * 1e-9;
  }

  /// Over a job: takes a submission. Under the lock.
  Result<Known*> enqueue_known(const std::string& key, const std::string& text, Mode mode, Nanos own) {
    Work work{.input = text, .bound = own};
    work.done = [this, key, mode](Result<std::string> answer, std::optional<TaskId> task) { conclude_known(key, mode, std::move(answer), task); };
    work.taken = [this, key](const Result<void>& taken) { tell_takers(key, taken); };
    DROVER_TRY(const Nanos bound, enqueue(std::move(work), {IntakeKind::submission, key, text}));
    Known& one = known[key];
    one = Known{.pending = true, .safe = !syncs, .bound = bound};
    return &one;
  }

  void tell_takers(const std::string& key, const Result<void>& taken) {
    std::vector<std::function<void(Result<std::string>)>> takers;
    {
      const std::lock_guard lock(mutex);
      Known& one = known[key];
      one.safe = taken.has_value();
      takers = std::exchange(one.takers, {});
    }
    for (const auto& told : takers) told(taken ? Result<std::string>(key) : Result<std::string>(std::unexpected(taken.error())));
  }

  /// Over a job: the answer of a submission's task, for all who wait for it.
  void conclude_known(const std::string& key, Mode mode, Result<std::string> answer, std::optional<TaskId> task) {
    const bool ended = answer.has_value() || answer.error().code() != ErrorCode::closed;  // else it is judged by the next run
    const bool kept = answer.has_value();
    const Verdict verdict = verdict_of(std::move(answer), mode);
    std::vector<Waiter> waiters;
    {
      const std::lock_guard lock(mutex);
      Known& one = known[key];
      waiters = std::exchange(one.waiters, {});
      if (ended) {
        one.pending = false;
        one.task = kept ? task : std::nullopt;
        one.lasts = one.task && judge::lasts(verdict);
        if (one.lasts && options.cache_bytes != 0) cache.put(key, json_of(verdict));
      }
      count(verdict);
    }
    for (Waiter& waiter : waiters) {
      Verdict its = verdict;
      its.id = waiter.id;
      waiter.ticket->answer(its);
      if (waiter.done) waiter.done(its);
    }
  }

  /// The kept verdict of a task.
  std::optional<Verdict> verdict_of_task(const std::string& key, TaskId task) {
    {
      const std::lock_guard lock(mutex);
      if (const std::string* const text = cache.find(key))
        if (auto verdict = parse_verdict(*text)) return std::move(*verdict);
    }
    const auto bytes = job->result(task);
    if (!bytes || !*bytes) return std::nullopt;
    auto verdict = parse_verdict({reinterpret_cast<const char*>((*bytes)->data()), (*bytes)->size()});
    if (!verdict) return std::nullopt;
    conclude(*verdict, options.reward);
    return std::move(*verdict);
  }

  /// What earlier runs of the job took: given to the pool in the same order; most of it is answered from the ledger at once.
  Result<void> recover() {
    const std::string path = (job->directory() / "intake.journal").string();
    {  // the tests first: all of them travel in one block
      DROVER_TRY(const Intake read, Intake::open(path, [&](const IntakeRecord& record) -> Result<void> {
        if (record.kind == IntakeKind::test_set) DROVER_CHECK(sets.add(record.text));
        return {};
      }));
    }
    if (sets.size() != 0) DROVER_CHECK(pool->broadcast(sets.image()));
    DROVER_TRY(intake, Intake::open(path, [&](const IntakeRecord& record) -> Result<void> {
      if (record.kind == IntakeKind::test_set) return {};
      const bool execution = record.kind == IntakeKind::execution;
      Work work{.input = std::string(record.text)};
      if (execution) {
        DROVER_TRY(const Execution parsed, parse_execution(work.input));
        work.bound = bound_of(parsed);
        work.done = [](const Result<std::string>&, std::optional<TaskId>) {};
      } else {
        DROVER_TRY(const Submission parsed, parse_submission(work.input));
        const TestSet* const set = parsed.test_set.empty() ? nullptr : sets.find(parsed.test_set);
        work.bound = bound_of(parsed, set != nullptr ? set->tests : parsed.tests.size());
        work.done = [this, key = std::string(record.key), mode = parsed.mode.value_or(Mode::split)](Result<std::string> answer, std::optional<TaskId> task) { conclude_known(key, mode, std::move(answer), task); };
      }
      DROVER_TRY(work.future, submit(work));
      const TaskId task = work.future->task();
      if (auto ended = work.future->get(now())) {
        ++counts.replayed;
        if (execution) return {};
        Known& one = known[std::string(record.key)];
        one = Known{.safe = true};
        if (!*ended) return {};
        DROVER_TRY(Verdict verdict, parse_verdict(**ended));
        conclude(verdict, {});
        one.task = task;
        one.lasts = judge::lasts(verdict);
        return {};
      }
      if (!execution) known[std::string(record.key)] = Known{.pending = true, .safe = true, .bound = work.bound};
      count_open(work);
      queue.push_back(std::move(work));
      return {};
    }));
    return {};
  }
};

Service::Service(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Service::~Service() { shutdown(); }
const std::string& Service::profile() const { return impl_->profile; }

PoolOptions Service::pool_options(const ServiceOptions& options) {
  PoolOptions pool{.workers = options.workers, .window = 1, .setup = bytes_of(json_of(options.slot)), .warm_up = judge_task.function};
  pool.limits.stall = kSandboxStart + Seconds(20);
  pool.retry = {.blamed_max = 1, .free_max = 1};
  pool.start_grace = Seconds(60);
  return pool;
}

Result<std::unique_ptr<Service>> Service::start(const ServiceOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  impl->options.slot.stop_cancels = true;
  impl->cache = VerdictCache(options.cache_bytes);
  {
    DROVER_TRY(const Sandbox tried, make_sandbox(impl->options.slot));
    impl->profile = name_of(tried.profile());
  }
  DROVER_TRY(impl->own_pool, Pool::start(pool_options(impl->options)));
  impl->pool = &*impl->own_pool;
  auto service = std::unique_ptr<Service>(new Service(std::move(impl)));
  service->begin();
  return service;
}

Result<std::unique_ptr<Service>> Service::start(const ServiceOptions& options, Job& job) {
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  impl->cache = VerdictCache(options.cache_bytes);
  impl->profile = options.slot.profile;
  impl->job = &job;
  impl->pool = &job.pool();
  impl->syncs = job.durability() == Durability::power;
  DROVER_CHECK(impl->recover());
  auto service = std::unique_ptr<Service>(new Service(std::move(impl)));
  if (service->impl_->syncs) service->impl_->syncer = std::jthread([self = service->impl_.get()] { self->sync(); });
  service->begin();
  return service;
}

void Service::begin() {
  impl_->counts.workers = impl_->pool->workers();
  for (std::uint32_t i = 0; i < 2 * impl_->counts.workers; ++i) impl_->feeders.emplace_back([self = impl_.get()] { self->feed(); });
}

Result<std::shared_ptr<Ticket<Verdict>>> Service::submit(Submission submission, std::function<void(const Verdict&)> done) {
  Impl& i = *impl_;
  DROVER_TRY(const std::size_t tests, i.settled(submission));
  const std::string id = std::exchange(submission.id, {});
  const std::string key = content_key(submission);
  const std::string text = text_of(submission);
  std::unique_lock lock(i.mutex);
  if (i.closing) return fail(ErrorCode::closed, "the service is shutting down");
  auto ticket = std::make_shared<Ticket<Verdict>>();
  std::optional<Verdict> known;
  if (const std::string* const cached = i.options.cache_bytes != 0 ? i.cache.find(key) : nullptr)
    if (auto verdict = parse_verdict(*cached)) known = std::move(*verdict);
  if (i.job != nullptr && !known) {
    const auto found = i.known.find(key);
    if (found != i.known.end() && found->second.lasts) {
      const TaskId task = *found->second.task;
      lock.unlock();
      known = i.verdict_of_task(key, task);
      lock.lock();
      if (i.closing) return fail(ErrorCode::closed, "the service is shutting down");
    }
  }
  if (known) {
    ++i.counts.submitted, ++i.counts.answered, ++i.counts.cached;
    ++i.counts.outcomes[static_cast<std::size_t>(known->outcome)];
    lock.unlock();
    known->id = id;
    known->measured.cached = true;
    ticket->answer(*known);
    if (done) done(*known);
    return ticket;
  }
  if (i.job != nullptr) {
    const auto found = i.known.find(key);
    Impl::Known* one = found != i.known.end() && found->second.pending ? &found->second : nullptr;
    if (one == nullptr) {
      DROVER_TRY(one, i.enqueue_known(key, text, *submission.mode, bound_of(submission, tests)));
    }
    ticket->bound_ = one->bound;
    one->waiters.push_back({id, ticket, std::move(done)});
    return ticket;
  }
  Impl::Work work{.input = text, .bound = bound_of(submission, tests)};
  work.cancelled = [ticket] { return ticket->cancelled(); };
  work.done = [&i, ticket, id, key, mode = *submission.mode, done](Result<std::string> answer, std::optional<TaskId>) {
    Verdict verdict = i.verdict_of(std::move(answer), mode);
    {
      const std::lock_guard guard(i.mutex);
      i.count(verdict);
      if (i.options.cache_bytes != 0 && lasts(verdict)) i.cache.put(key, json_of(verdict));
    }
    verdict.id = id;
    ticket->answer(verdict);
    if (done) done(verdict);
  };
  DROVER_TRY(ticket->bound_, i.enqueue(std::move(work), {}));
  return ticket;
}

Result<void> Service::take(Submission submission, std::function<void(Result<std::string>)> taken) {
  Impl& i = *impl_;
  if (i.job == nullptr) return fail(ErrorCode::unavailable, "nothing is kept here: the server was started without --durable");
  DROVER_TRY(const std::size_t tests, i.settled(submission));
  submission.id.clear();
  const std::string key = content_key(submission);
  const std::string text = text_of(submission);
  std::unique_lock lock(i.mutex);
  if (i.closing) return fail(ErrorCode::closed, "the service is shutting down");
  const auto found = i.known.find(key);
  Impl::Known* one = found != i.known.end() && (found->second.pending || found->second.lasts) ? &found->second : nullptr;
  if (one == nullptr) {
    DROVER_TRY(one, i.enqueue_known(key, text, *submission.mode, bound_of(submission, tests)));
  }
  if (!one->safe) {
    one->takers.push_back(std::move(taken));
    return {};
  }
  lock.unlock();
  taken(key);
  return {};
}

Result<Service::Kept> Service::kept(std::string_view key) const {
  Impl& i = *impl_;
  if (i.job == nullptr) return fail(ErrorCode::unavailable, "nothing is kept here: the server was started without --durable");
  std::optional<TaskId> task;
  {
    const std::lock_guard lock(i.mutex);
    const auto found = i.known.find(std::string(key));
    if (found == i.known.end()) return fail(ErrorCode::not_found, "no submission has the key '" + std::string(key.substr(0, 64)) + "'");
    if (found->second.pending) return Kept{.pending = true};
    task = found->second.task;
  }
  return Kept{.verdict = task ? i.verdict_of_task(std::string(key), *task) : std::nullopt};
}

Result<std::shared_ptr<Ticket<Executed>>> Service::execute(const Execution& execution, std::function<void(const Executed&)> done) {
  auto ticket = std::make_shared<Ticket<Executed>>();
  const std::string text = json_of(execution);
  Impl::Work work{.input = text, .bound = bound_of(execution)};
  work.done = [ticket, done](Result<std::string> answer, std::optional<TaskId>) {
    auto parsed = answer ? parse_executed(*answer) : Result<Executed>(std::unexpected(std::move(answer).error()));
    Executed executed = parsed ? std::move(*parsed) : Executed{.error = parsed.error().code() == ErrorCode::closed ? "cancelled" : "judge_error: " + parsed.error().what()};
    ticket->answer(executed);
    if (done) done(executed);
  };
  if (impl_->job == nullptr) work.cancelled = [ticket] { return ticket->cancelled(); };
  const std::lock_guard lock(impl_->mutex);
  DROVER_TRY(ticket->bound_, impl_->enqueue(std::move(work), {IntakeKind::execution, {}, text}));
  return ticket;
}

Result<std::string> Service::add_test_set(std::string_view json) {
  const std::lock_guard lock(impl_->mutex);
  if (impl_->sets.bytes() + json.size() > impl_->options.test_sets_bytes) return fail(ErrorCode::busy, "the registry of test sets is full", "restart the server with a larger --test-sets");
  const std::size_t before = impl_->sets.size();
  DROVER_TRY(std::string sha, impl_->sets.add(json));
  if (impl_->sets.size() != before) {
    if (impl_->intake) DROVER_CHECK(impl_->intake->append({IntakeKind::test_set, {}, json}));
    if (impl_->syncs) DROVER_CHECK(impl_->intake->sync());
    DROVER_CHECK(impl_->pool->broadcast(impl_->sets.image()));
  }
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
  impl_->arrival.notify_all();
  if (impl_->own_pool) (void)impl_->own_pool->shutdown(Shutdown::kill, now() + Seconds(2));  // the sandboxes die with their workers
  else if (impl_->job != nullptr && !impl_->job->should_stop()) (void)impl_->pool->shutdown(Shutdown::cancel, now() + Seconds(10));  // else it is on its way
  if (impl_->syncer.joinable()) impl_->syncer.join();
  impl_->feeders.clear();  // each ends when its task has ended and the queue is empty
  for (auto& work : std::exchange(impl_->queue, {})) impl_->end(work, fail(ErrorCode::closed, "cancelled"), std::nullopt);  // synced since
}

ServiceStatus Service::status() const {
  ServiceStatus status;
  {
    const std::lock_guard lock(impl_->mutex);
    status = impl_->counts;
    status.test_sets = impl_->sets.size();
    status.test_set_bytes = impl_->sets.bytes();
    if (impl_->intake) status.journal = impl_->intake->records();
  }
  status.workers_lost = impl_->pool->status().deaths;
  return status;
}

}  // namespace drover::judge
