#include "store/ledger_writer.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <limits>
#include <mutex>
#include <thread>
#include <utility>
#include <variant>

#include "base/assert.hpp"
#include "store/durable_file.hpp"
#include "store/hash.hpp"
#include "store/ledger_impl.hpp"
#include "store/range_set.hpp"
#include "store/sqlite.hpp"

namespace drover::store {
namespace {

constexpr std::uint64_t kReserveBytes = std::uint64_t{8} << 20;
/// A transaction takes queued batches until it holds this much: long enough to share the fsync, short enough that the first
/// record in it is acknowledged within tens of milliseconds.
constexpr std::size_t kGroupRecords = 16 * 1024;
constexpr std::size_t kGroupBytes = std::size_t{64} << 20;
/// The WAL is copied into the database after it has grown by this many 4 KiB pages; between commits, never inside one.
constexpr int kWalFramesMax = 4096;

/// Payload of a record inside its batch.
struct Payload {
  static constexpr std::uint32_t kInArena = std::numeric_limits<std::uint32_t>::max();
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  std::uint32_t large = kInArena;   // index into `large`, if not in the arena
};

/// TaskCompleted without its span.
struct Completion {
  TaskId task;
  std::uint64_t spec_hash;
  AttemptPlace place;
  Epoch epoch;
  std::uint32_t attempt;
  Payload result;
  bool keep_result;
};

struct Quarantined {
  TaskId task;
  Payload input;
};

using Other = std::variant<TaskFailed, AttemptEnded, AttemptOpened, IncarnationEvent, Quarantined, CheckpointRow, SinkConfirmed, RunBeat>;

std::size_t text_bytes(const Other& other) {
  return std::visit(Overloaded{[](const AttemptEnded& r) { return r.evidence.size(); }, [](const IncarnationEvent& r) { return r.cause.size(); },
                               [](const CheckpointRow& r) { return r.meta_json.size() + r.name.size(); }, [](const auto&) { return std::size_t{0}; }},
                    other);
}

}  // namespace

// ---- RecordBatch ------------------------------------------------------------------------------------------------------------

struct RecordBatch::Impl {
  Grain grain = Grain::rows;         // of the ledger it goes to; `rows` keeps everything, so it is right before that is known
  std::vector<FoldedRange> plain;    // under ranges: runs of plain completions
  std::vector<Completion> completions;
  std::vector<Other> others;
  std::vector<std::byte> arena;
  std::vector<std::vector<std::byte>> large;
  std::size_t large_used = 0;        // buffers are kept for the next batch
  std::size_t payload_bytes = 0;
  std::size_t records = 0;
  RecordNumber upto{};
  std::size_t next_run = 0;

  Payload keep(std::span<const std::byte> bytes) {
    payload_bytes += bytes.size();
    if (bytes.size() <= kInlineResultBytes) {
      const std::size_t offset = arena.size();
      arena.insert(arena.end(), bytes.begin(), bytes.end());
      return {.offset = offset, .size = bytes.size(), .large = Payload::kInArena};
    }
    if (large_used == large.size()) large.emplace_back();
    large[large_used].assign(bytes.begin(), bytes.end());
    return {.offset = 0, .size = bytes.size(), .large = static_cast<std::uint32_t>(large_used++)};
  }
  std::span<const std::byte> bytes_of(const Payload& payload) const {
    if (payload.large == Payload::kInArena) return std::span(arena).subspan(payload.offset, payload.size);
    return std::span(large[payload.large]).subspan(0, payload.size);
  }

  void number(RecordNumber n) {
    ++records;
    if (n.value == 0) return;
    DROVER_ASSERT(n > upto, n, upto);
    upto = n;
  }

  void add_plain(TaskId task, std::uint64_t fold) {
    // A few runs grow at once (one per worker's window); the newest ones are the likely ones.
    constexpr std::size_t kLook = 8;
    const std::size_t n = plain.size();
    for (std::size_t back = 1; back <= std::min(n, kLook); ++back) {
      FoldedRange& run = plain[n - back];
      if (run.last.value + 1 == task.value) {
        run.last = task;
        run.fold += fold;
        return;
      }
    }
    plain.push_back({task, task, fold});
  }

  std::size_t bytes() const {
    return payload_bytes + plain.size() * sizeof(FoldedRange) + completions.size() * sizeof(Completion) + others.size() * sizeof(Other);
  }

  void clear() {
    plain.clear();
    completions.clear();
    others.clear();
    arena.clear();
    // Big buffers are not hoarded: what a batch of large results needed once may never be needed again.
    std::size_t kept = 0;
    for (auto& buffer : large) {
      kept += buffer.capacity();
      if (kept > (std::size_t{1} << 20)) std::vector<std::byte>().swap(buffer);
    }
    large_used = 0;
    payload_bytes = 0;
    records = 0;
    upto = {};
  }
};

RecordBatch::RecordBatch() : impl_(std::make_unique<Impl>()) {}
RecordBatch::~RecordBatch() = default;
RecordBatch::RecordBatch(RecordBatch&&) noexcept = default;
RecordBatch& RecordBatch::operator=(RecordBatch&&) noexcept = default;

void RecordBatch::add(RecordNumber number, const TaskCompleted& record) {
  impl_->number(number);
  if (!record.keep_result && record.attempt == 1 && impl_->grain == Grain::ranges) {
    impl_->add_plain(record.task, fold_of(record.task, record.spec_hash));
    return;
  }
  const Payload payload = record.keep_result ? impl_->keep(record.result) : Payload{};
  impl_->completions.push_back({record.task, record.spec_hash, record.place, record.epoch, record.attempt, payload, record.keep_result});
}
void RecordBatch::add(RecordNumber number, TaskFailed record) {
  impl_->number(number);
  impl_->others.emplace_back(std::move(record));
}
void RecordBatch::add(AttemptEnded record) {
  impl_->number(RecordNumber{});
  impl_->others.emplace_back(std::move(record));
  impl_->payload_bytes += text_bytes(impl_->others.back());
}
void RecordBatch::add(RecordNumber number, AttemptOpened record) {
  impl_->number(number);
  impl_->others.emplace_back(std::move(record));
}
void RecordBatch::add(IncarnationEvent record) {
  impl_->number(RecordNumber{});
  impl_->others.emplace_back(std::move(record));
  impl_->payload_bytes += text_bytes(impl_->others.back());
}
void RecordBatch::add(const QuarantinedInput& record) {
  impl_->number(RecordNumber{});
  impl_->others.emplace_back(Quarantined{record.task, impl_->keep(record.input)});
}
void RecordBatch::add(RecordNumber number, CheckpointRow record) {
  impl_->number(number);
  impl_->others.emplace_back(std::move(record));
  impl_->payload_bytes += text_bytes(impl_->others.back());
}
void RecordBatch::add(SinkConfirmed record) {
  impl_->number(RecordNumber{});
  impl_->others.emplace_back(record);
}
void RecordBatch::add(RunBeat record) {
  impl_->number(RecordNumber{});
  impl_->others.emplace_back(record);
}
bool RecordBatch::empty() const { return impl_->records == 0; }
std::size_t RecordBatch::records() const { return impl_->records; }
std::size_t RecordBatch::bytes() const { return impl_->bytes(); }
RecordNumber RecordBatch::upto() const { return impl_->upto; }
void RecordBatch::clear() { impl_->clear(); }

struct RecordBatchAccess {
  static std::unique_ptr<RecordBatch::Impl>& of(RecordBatch& batch) { return batch.impl_; }
};

// ---- The durable writer -----------------------------------------------------------------------------------------------------

namespace {

std::chrono::steady_clock::time_point steady(TimePoint at) {  // libstdc++'s steady clock is CLOCK_MONOTONIC
  return std::chrono::steady_clock::time_point(at.time_since_epoch());
}

/// The statements and the state only the writer's thread touches.
class Recorder {
 public:
  Recorder(FileSystem& fs, Ledger ledger, std::uint32_t run, std::string results_dir) : fs_(fs), ledger_(std::move(ledger)), run_(run), results_(std::move(results_dir)) {}

  Result<> prepare() {
    Database& db = database();
    DROVER_TRY(fence_, db.prepare("SELECT fence FROM job"));
    // A row may replace one that a resume opened again, and no other: `changes() = 0` is a task recorded twice.
    DROVER_TRY(task_, db.prepare("INSERT INTO tasks VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18) ON CONFLICT(id) DO UPDATE SET "
                                 "spec_hash=excluded.spec_hash, epoch=excluded.epoch, attempts=excluded.attempts, outcome=excluded.outcome, final=excluded.final, "
                                 "slot=excluded.slot, incarnation=excluded.incarnation, pid=excluded.pid, start_ns=excluded.start_ns, end_ns=excluded.end_ns, "
                                 "run=excluded.run, has_result=excluded.has_result, result=excluded.result, result_file=excluded.result_file, "
                                 "result_bytes=excluded.result_bytes, result_hash=excluded.result_hash, check_hash=excluded.check_hash WHERE tasks.final = 0"));
    DROVER_TRY(attempt_, db.prepare("INSERT INTO attempts VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13) ON CONFLICT(task, epoch) DO UPDATE SET attempt=excluded.attempt, "
                                    "slot=excluded.slot, incarnation=excluded.incarnation, pid=excluded.pid, start_ns=excluded.start_ns, end_ns=excluded.end_ns, "
                                    "outcome=excluded.outcome, retry=excluded.retry, will_retry=excluded.will_retry, evidence=excluded.evidence, run=excluded.run"));
    DROVER_TRY(put_range_, db.prepare("INSERT INTO ranges VALUES(?1,?2,?3,?4) ON CONFLICT(first) DO UPDATE SET last=excluded.last, fold=excluded.fold, check_hash=excluded.check_hash"));
    DROVER_TRY(drop_range_, db.prepare("DELETE FROM ranges WHERE first = ?1"));
    DROVER_TRY(drop_open_task_, db.prepare("DELETE FROM tasks WHERE id = ?1 AND final = 0"));
    DROVER_TRY(incarnation_, db.prepare("INSERT INTO incarnations(run, slot, incarnation, kind, pid, at_ns, cause) VALUES(?1,?2,?3,?4,?5,?6,?7)"));
    DROVER_TRY(quarantine_, db.prepare("INSERT INTO quarantine VALUES(?1,?2) ON CONFLICT(task) DO UPDATE SET input_file=excluded.input_file"));
    DROVER_TRY(checkpoint_, db.prepare("INSERT INTO checkpoints VALUES(?1,?2,?3,?4,?5,?6,?7) ON CONFLICT(number) DO UPDATE SET state=excluded.state"));
    DROVER_TRY(sink_, db.prepare("INSERT INTO sinks VALUES(1,?1) ON CONFLICT(one) DO UPDATE SET upto=excluded.upto"));
    DROVER_TRY(beat_, db.prepare("UPDATE runs SET consumed_ns = ?1, last_beat_boottime_ns = ?2 WHERE number = ?3"));
    DROVER_TRY(end_, db.prepare("UPDATE runs SET consumed_ns=?1, last_beat_boottime_ns=?2, ending=?3, digest=?4, digest_note=?5, digest_tasks=?6 WHERE number=?7"));
    completed_ = json_of(Outcome(outcome::Completed{}));

    if (grain() == Grain::ranges) {
      DROVER_TRY(Statement range, db.prepare("SELECT first, last, fold FROM ranges ORDER BY first"));
      for (;;) {
        DROVER_TRY(const bool there, range.step());
        if (!there) break;
        if (!folded_.load(range.unsigned_integer(0), range.unsigned_integer(1), range.unsigned_integer(2)))
          return fail(ErrorCode::corrupt, "ranges overlap at task " + std::to_string(range.unsigned_integer(0)));
      }
      DROVER_TRY(const std::vector<RecordedRange> recorded, ledger_.recorded());
      for (const RecordedRange& one : recorded) recorded_.load(one.first.value, one.last.value, 0);
      DROVER_TRY(Statement open, db.prepare("SELECT id FROM tasks WHERE final = 0"));
      for (;;) {
        DROVER_TRY(const bool there, open.step());
        if (!there) break;
        open_again_.insert(open.unsigned_integer(0));
      }
    }
    return {};
  }

  Database& database() { return ledger_.impl().database; }
  Grain grain() const { return ledger_.grain(); }
  bool power() const { return ledger_.durability() == Durability::power; }

  /// One transaction over whole batches. On return everything in them is durable at the ledger's level.
  Result<> commit(std::span<const std::unique_ptr<RecordBatch::Impl>> batches, std::uint64_t& result_bytes) {
    DROVER_CHECK(store_files(batches, result_bytes));
    DROVER_TRY(Transaction transaction, Transaction::begin(database()));
    DROVER_CHECK(check_fence());
    for (const auto& batch : batches) DROVER_CHECK(record(*batch));
    if (grain() == Grain::ranges) DROVER_CHECK(write_ranges());
    DROVER_CHECK(transaction.commit());
    folded_.written();
    recorded_.written();
    return {};
  }

  Result<> commit_ending(const RunEnded& ending) {
    DROVER_TRY(Transaction transaction, Transaction::begin(database()));
    DROVER_CHECK(check_fence());
    const std::string json = json_of_ending(ending.ending);
    end_.bind(1, ending.consumed.count()).bind(2, ending.boottime.count()).bind(3, json).bind(4, ending.digest).bind(5, ending.digest_note);
    DROVER_CHECK(end_.bind(6, ending.digest_tasks).bind(7, run_).run());
    return transaction.commit();
  }

  /// After a failure the connection may be in any state: a fresh one, for the ending alone.
  Result<> reopen() {
    const std::string path = ledger_.path();
    const LedgerOptions options = ledger_.impl().options;
    close();
    DROVER_TRY(ledger_.impl().database, Database::open(path, DatabaseMode::read_write, options.vfs, 1000));
    DROVER_CHECK(database().execute("PRAGMA synchronous=FULL"));
    DROVER_TRY(fence_, database().prepare("SELECT fence FROM job"));
    DROVER_TRY(end_, database().prepare("UPDATE runs SET consumed_ns=?1, last_beat_boottime_ns=?2, ending=?3, digest=?4, digest_note=?5, digest_tasks=?6 WHERE number=?7"));
    return {};
  }

  /// The last connection to go copies the WAL into the database, fsync included: on this thread, never on the loop's.
  void close() {
    for (Statement* one : {&fence_, &task_, &attempt_, &put_range_, &drop_range_, &drop_open_task_, &incarnation_, &quarantine_, &checkpoint_, &sink_, &beat_, &end_})
      *one = Statement();
    database().close();
  }

 private:
  std::string result_name(TaskId task, std::uint64_t hash) const {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string name = "task-" + std::to_string(task.value) + "-";
    for (int shift = 60; shift >= 0; shift -= 4) name += kDigits[(hash >> shift) & 15];
    return name + ".bin";
  }

  Result<> check_fence() {
    DROVER_TRY(const bool there, fence_.step());
    const std::int64_t fence = there ? fence_.integer(0) : 0;
    fence_.reset();
    if (fence != run_) return fail(ErrorCode::busy, "run " + std::to_string(fence) + " of another supervisor has taken this job over; this is run " + std::to_string(run_));
    return {};
  }

  /// Files first: a row never names bytes that are not on disk. A file whose row does not follow is harmless: its name holds its
  /// hash, so the task's next attempt finds it equal or writes another.
  Result<> store_files(std::span<const std::unique_ptr<RecordBatch::Impl>> batches, std::uint64_t& result_bytes) {
    bool any = false;
    for (const auto& batch : batches) {
      for (const Completion& c : batch->completions) {
        if (!c.keep_result) continue;
        result_bytes += c.result.size;
        if (c.result.size <= kInlineResultBytes) continue;
        const auto bytes = batch->bytes_of(c.result);
        DROVER_CHECK(store_file(result_name(c.task, xxh3_64(bytes)), bytes));
        any = true;
      }
      for (const Other& other : batch->others) {
        if (const auto* input = std::get_if<Quarantined>(&other)) {
          DROVER_CHECK(store_file(input_name(input->task), batch->bytes_of(input->input)));
          any = true;
        }
      }
    }
    if (any && power()) DROVER_CHECK(fs_.sync_directory(results_));
    return {};
  }
  static std::string input_name(TaskId task) { return "task-" + std::to_string(task.value) + ".input"; }

  Result<> store_file(const std::string& name, std::span<const std::byte> bytes) {
    const std::string path = results_ + "/" + name;
    for (int round = 0;; ++round) {
      DROVER_TRY(StagedFile staged, StagedFile::open(fs_, results_, name));
      DROVER_CHECK(staged.file().write_at(0, bytes));
      if (power()) DROVER_CHECK(staged.sync());
      auto published = staged.publish();
      if (published) return {};
      if (published.error().code() != ErrorCode::exists || round > 0) return published;
      // Left by a run whose row was never committed. It may not be durable: replace it rather than believe it.
      DROVER_CHECK(fs_.unlink(path));
    }
  }

  Result<> record(RecordBatch::Impl& batch) {
    for (const Other& other : batch.others)
      DROVER_CHECK(std::visit([&](const auto& r) { return write(r, batch); }, other));
    for (const Completion& c : batch.completions) DROVER_CHECK(write(c, batch));
    for (const FoldedRange& run : batch.plain) DROVER_CHECK(write_plain(run));
    return {};
  }

  std::unexpected<Error> twice(TaskId task) const { return fail(ErrorCode::exists, "task " + std::to_string(task.value) + " is on record already: it may not end twice"); }

  Result<> write_plain(const FoldedRange& run) {
    if (!recorded_.insert(run.first.value, run.last.value, 0)) return twice(run.first);
    if (!folded_.insert(run.first.value, run.last.value, run.fold)) return twice(run.first);
    for (auto it = open_again_.lower_bound(run.first.value); it != open_again_.end() && *it <= run.last.value; it = open_again_.erase(it))
      DROVER_CHECK(drop_open_task_.bind(1, *it).run());
    return {};
  }

  Result<> write_ranges() {
    for (const std::uint64_t first : folded_.removed()) DROVER_CHECK(drop_range_.bind(1, first).run());
    for (const std::uint64_t first : folded_.changed()) {
      const auto run = folded_.runs().find(first);
      DROVER_ASSERT(run != folded_.runs().end(), first);
      put_range_.bind(1, first).bind(2, run->second.last).bind(3, run->second.fold);
      DROVER_CHECK(put_range_.bind(4, check_of_range(first, run->second.last, run->second.fold)).run());
    }
    return {};
  }

  void bind_place(Statement& statement, int index, const AttemptPlace& place) {
    statement.bind(index, place.slot.value).bind(index + 1, place.incarnation.value).bind(index + 2, place.host_pid);
    statement.bind(index + 3, place.start.time_since_epoch().count()).bind(index + 4, place.end.time_since_epoch().count());
  }

  Result<> put_task(TaskId task, std::uint64_t spec_hash, Epoch epoch, std::uint32_t attempts, std::string_view outcome, bool final, const AttemptPlace& place,
                    bool has_result, std::span<const std::byte> bytes) {
    DROVER_ASSERT(task.value <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()), task);
    const bool in_file = has_result && bytes.size() > kInlineResultBytes;
    const std::uint64_t hash = has_result ? xxh3_64(bytes) : 0;
    file_name_.clear();
    if (in_file) file_name_ = result_name(task, hash);
    task_.bind(1, task.value).bind(2, spec_hash).bind(3, epoch.value).bind(4, attempts).bind(5, outcome).bind(6, final ? 1 : 0);
    bind_place(task_, 7, place);
    task_.bind(12, run_).bind(13, has_result ? 1 : 0);
    if (has_result && !in_file) task_.bind_blob(14, bytes);
    else task_.bind_null(14);
    if (in_file) task_.bind(15, file_name_);
    else task_.bind_null(15);
    task_.bind(16, static_cast<std::uint64_t>(bytes.size())).bind(17, hash);
    task_.bind(18, check_of_task(task.value, spec_hash, epoch.value, attempts, outcome, final, has_result, file_name_, bytes.size(), hash));
    DROVER_CHECK(task_.run());
    if (database().changes() != 1) return twice(task);
    if (grain() == Grain::ranges) {
      if (!final) open_again_.insert(task.value);
      else {
        open_again_.erase(task.value);
        if (!recorded_.insert(task.value, task.value, 0)) return twice(task);
      }
    }
    return {};
  }

  Result<> write(const Completion& c, RecordBatch::Impl& batch) {
    if (grain() == Grain::ranges && !c.keep_result && c.attempt == 1)
      return write_plain({c.task, c.task, fold_of(c.task, c.spec_hash)});  // from a batch filled before its grain was known
    return put_task(c.task, c.spec_hash, c.epoch, c.attempt, completed_, true, c.place, c.keep_result, batch.bytes_of(c.result));
  }
  Result<> write(const TaskFailed& r, RecordBatch::Impl&) {
    outcome_ = json_of(r.outcome);
    return put_task(r.task, r.spec_hash, r.epoch, r.attempt, outcome_, !reopens_on_resume(r.outcome), r.place, false, {});
  }
  Result<> write(const AttemptEnded& r, RecordBatch::Impl&) {
    outcome_ = json_of(r.outcome);
    attempt_.bind(1, r.task.value).bind(2, r.epoch.value).bind(3, r.attempt);
    bind_place(attempt_, 4, r.place);
    attempt_.bind(9, outcome_).bind(10, drover::name_of(retry_of(r.outcome))).bind(11, r.will_retry ? 1 : 0).bind(12, r.evidence).bind(13, run_);
    return attempt_.run();
  }
  Result<> write(const AttemptOpened& r, RecordBatch::Impl&) {
    attempt_.bind(1, r.task.value).bind(2, r.epoch.value).bind(3, r.attempt);
    bind_place(attempt_, 4, r.place);
    attempt_.bind_null(9).bind(10, "").bind(11, 0).bind(12, "").bind(13, run_);
    return attempt_.run();
  }
  Result<> write(const IncarnationEvent& r, RecordBatch::Impl&) {
    incarnation_.bind(1, run_).bind(2, r.slot.value).bind(3, r.incarnation.value).bind(4, name_of(r.kind)).bind(5, r.host_pid);
    return incarnation_.bind(6, r.at.time_since_epoch().count()).bind(7, r.cause).run();
  }
  Result<> write(const Quarantined& r, RecordBatch::Impl&) {
    const std::string name = input_name(r.task);
    return quarantine_.bind(1, r.task.value).bind(2, name).run();
  }
  Result<> write(const CheckpointRow& r, RecordBatch::Impl&) {
    const std::string hash = hex_of(r.sha256);
    checkpoint_.bind(1, r.number).bind(2, r.name).bind(3, hash).bind(4, r.bytes).bind(5, r.meta_json).bind(6, r.tasks_upto);
    return checkpoint_.bind(7, name_of(r.state)).run();
  }
  Result<> write(const SinkConfirmed& r, RecordBatch::Impl&) { return sink_.bind(1, r.upto.value).run(); }
  Result<> write(const RunBeat& r, RecordBatch::Impl&) {
    return beat_.bind(1, r.consumed.count()).bind(2, r.boottime.count()).bind(3, run_).run();
  }

  FileSystem& fs_;
  Ledger ledger_;                    // before the statements: they go first
  std::uint32_t run_;
  std::string results_;
  Statement fence_, task_, attempt_, put_range_, drop_range_, drop_open_task_, incarnation_, quarantine_, checkpoint_, sink_, beat_, end_;
  std::string completed_, outcome_, file_name_;
  RangeSet folded_;                  // ranges: what the table `ranges` holds
  RangeSet recorded_;                // ranges: every id with a final record
  std::set<std::uint64_t> open_again_;
};

/// Shared by the front and the thread, so that whoever goes last frees it.
struct Core {
  Core(FileSystem& fs_in, Ledger ledger, std::uint32_t run, std::string results_dir, std::string reserve, LedgerWriterOptions options_in)
      : fs(fs_in), grain(ledger.grain()), recorder(fs_in, std::move(ledger), run, std::move(results_dir)), reserve_path(std::move(reserve)), options(std::move(options_in)) {}

  FileSystem& fs;
  const Grain grain;
  Recorder recorder;                                   // the thread's alone once it runs
  const std::string reserve_path;
  const LedgerWriterOptions options;

  std::atomic<std::uint64_t> committed{0};
  std::atomic<bool> failed{false};

  mutable std::mutex mutex;                            // held for pointer moves only, never over I/O
  std::condition_variable work, done;
  struct Queued {
    std::unique_ptr<RecordBatch::Impl> batch;
    std::size_t bytes;
    TimePoint since;
  };
  std::deque<Queued> queue;
  std::vector<std::unique_ptr<RecordBatch::Impl>> spare;
  std::size_t open_records = 0, open_bytes = 0;        // queued or being committed
  std::optional<TimePoint> committing_since;
  std::optional<Error> failure;
  std::optional<RunEnded> ending;
  bool ending_tried = false;
  bool ending_recorded = false;
  bool abandoned = false;
  bool exited = false;
  WriterStats stats;

  void wake() const {
    if (options.wake) options.wake();
  }

  void fail_with(Error error) {
    {
      const std::lock_guard lock(mutex);
      failure = std::move(error);
      queue.clear();
      open_records = open_bytes = 0;
      committing_since.reset();
    }
    failed.store(true, std::memory_order_release);
    wake();
  }

  void run() {
    std::vector<std::unique_ptr<RecordBatch::Impl>> group;
    for (;;) {
      std::size_t records = 0, bytes = 0;
      {
        std::unique_lock lock(mutex);
        // Parked without a deadline: whoever wants something rings.
        work.wait(lock, [&] { return !queue.empty() || ending || abandoned; });
        if (abandoned) break;
        if (!queue.empty()) {
          committing_since = queue.front().since;
          while (!queue.empty() && records < kGroupRecords && bytes < kGroupBytes) {
            records += queue.front().batch->records;
            bytes += queue.front().bytes;
            group.push_back(std::move(queue.front().batch));
            queue.pop_front();
          }
        } else {
          lock.unlock();
          record_ending();
          break;
        }
      }
      const auto start = std::chrono::steady_clock::now();
      std::uint64_t result_bytes = 0;
      auto committed_now = recorder.commit(group, result_bytes);
      const Nanos took = std::chrono::steady_clock::now() - start;
      if (!committed_now) {
        group.clear();
        fail_with(std::move(committed_now).error().with("recording"));
        continue;
      }
      std::uint64_t upto = committed.load(std::memory_order_relaxed);
      for (const auto& batch : group) upto = std::max(upto, batch->upto.value);
      for (const auto& batch : group) batch->clear();
      {
        const std::lock_guard lock(mutex);
        committed.store(upto, std::memory_order_release);
        open_records -= records;
        open_bytes -= bytes;
        committing_since.reset();
        ++stats.commits;
        stats.records += records;
        stats.results_bytes += result_bytes;
        stats.last_commit = took;
        stats.slowest_commit = std::max(stats.slowest_commit, took);
        for (auto& batch : group)
          if (spare.size() < 4) spare.push_back(std::move(batch));
      }
      group.clear();
      wake();
      // After the acknowledgement: nobody waits for this. An error here shows up again in the next commit if it matters.
      if (recorder.database().wal_frames() > kWalFramesMax) (void)recorder.database().checkpoint_wal();
    }
    recorder.close();
    const std::lock_guard lock(mutex);
    exited = true;
    done.notify_all();
  }

  void record_ending() {
    Result<> written = {};
    if (failed.load(std::memory_order_acquire)) {
      if (!reserve_path.empty()) (void)fs.unlink(reserve_path);  // room for this one record on a full disk
      if (written = recorder.reopen(); written) written = recorder.commit_ending(*ending);
    } else {
      written = recorder.commit_ending(*ending);
      if (!written) {
        if (!reserve_path.empty()) (void)fs.unlink(reserve_path);
        if (written = recorder.reopen(); written) written = recorder.commit_ending(*ending);
      }
    }
    const std::lock_guard lock(mutex);
    ending_tried = true;
    ending_recorded = written.has_value();
    if (!written && !failure) {
      failure = std::move(written).error().with("recording the run's ending");
      failed.store(true, std::memory_order_release);
    }
    done.notify_all();
  }
};

class DurableWriter final : public LedgerWriter {
 public:
  explicit DurableWriter(std::shared_ptr<Core> core) : core_(std::move(core)) {}
  ~DurableWriter() override {
    {
      const std::lock_guard lock(core_->mutex);
      core_->abandoned = true;
      core_->work.notify_all();
      if (!core_->exited) {
        if (thread_.joinable()) thread_.detach();
        return;
      }
    }
    if (thread_.joinable()) thread_.join();  // it has left its loop: returns at once
  }
  Result<> start() {
    try {
      thread_ = std::thread([core = core_] { core->run(); });
    } catch (const std::system_error& error) {
      return fail_errno(error.code().value(), "starting the ledger's thread");
    }
    return {};
  }

  std::expected<void, AppendRefused> append(RecordBatch& batch, TimePoint now) override {
    if (batch.empty()) return {};
    if (core_->failed.load(std::memory_order_acquire)) return std::unexpected(AppendRefused::failed);
    const std::size_t records = batch.records(), bytes = batch.bytes();
    {
      const std::lock_guard lock(core_->mutex);
      if (core_->failure) return std::unexpected(AppendRefused::failed);
      if (core_->ending || core_->abandoned) return std::unexpected(AppendRefused::stopped);
      // One batch always fits, or a result larger than the queue could never be recorded.
      if (core_->open_records > 0 && (core_->open_records + records > core_->options.queue_records_max || core_->open_bytes + bytes > core_->options.queue_bytes_max))
        return std::unexpected(AppendRefused::full);
      std::unique_ptr<RecordBatch::Impl> full;
      if (core_->spare.empty()) {
        full = std::make_unique<RecordBatch::Impl>();
      } else {
        full = std::move(core_->spare.back());
        core_->spare.pop_back();
      }
      full->grain = core_->grain;
      std::swap(full, RecordBatchAccess::of(batch));
      core_->queue.push_back({std::move(full), bytes, now});
      core_->open_records += records;
      core_->open_bytes += bytes;
    }
    core_->work.notify_one();
    return {};
  }

  RecordNumber committed() const override { return RecordNumber(core_->committed.load(std::memory_order_acquire)); }
  std::optional<Error> failure() const override {
    if (!core_->failed.load(std::memory_order_acquire)) return std::nullopt;
    const std::lock_guard lock(core_->mutex);
    return core_->failure;
  }
  Nanos oldest_uncommitted_age(TimePoint now) const override {
    const std::lock_guard lock(core_->mutex);
    const std::optional<TimePoint> since = core_->committing_since ? core_->committing_since : core_->queue.empty() ? std::nullopt : std::optional(core_->queue.front().since);
    return since && now > *since ? now - *since : Nanos(0);
  }
  WriterStats stats() const override {
    const std::lock_guard lock(core_->mutex);
    return core_->stats;
  }

  Result<> finish(const RunEnded& ending, TimePoint deadline) override {
    std::unique_lock lock(core_->mutex);
    if (!core_->ending) core_->ending = ending;
    core_->work.notify_all();
    const auto tried = [&] { return core_->ending_tried || core_->exited; };
    if (deadline == kNever) core_->done.wait(lock, tried);
    else core_->done.wait_until(lock, steady(deadline), tried);
    // The ending is durable; closing the database takes milliseconds, or for ever on a disk that hangs: that costs a second at most.
    if (tried()) core_->done.wait_until(lock, std::min(std::chrono::steady_clock::now() + std::chrono::seconds(1), steady(deadline)), [&] { return core_->exited; });
    if (!tried()) return fail(ErrorCode::timed_out, "the ledger's last commit did not return in time", "the disk hangs: what was not acknowledged is repeated by `drover resume`");
    if (core_->ending_recorded) return {};
    if (core_->failure) return std::unexpected(*core_->failure);
    return fail(ErrorCode::closed, "the ledger's writer stopped before the run's ending was recorded");
  }

 private:
  std::shared_ptr<Core> core_;
  std::thread thread_;
};

}  // namespace

Result<std::unique_ptr<LedgerWriter>> make_ledger_writer(FileSystem& fs, Ledger ledger, std::uint32_t run, const std::string& results_dir,
                                                         const std::string& reserve_path, const LedgerWriterOptions& options) {
  const std::string path = ledger.path();
  if (!reserve_path.empty()) {
    const auto make_reserve = [&]() -> Result<> {
      DROVER_TRY(const std::unique_ptr<File> reserve, fs.open(reserve_path, OpenMode::create_or_open));
      DROVER_TRY(const FileStat stat, reserve->stat());
      if (stat.size_bytes < kReserveBytes) DROVER_CHECK(reserve->allocate(kReserveBytes));
      return {};
    };
    if (auto made = make_reserve(); !made) {
      (void)fs.unlink(reserve_path);  // a part of it would only take room
      return std::unexpected(std::move(made).error().with("reserving 8 MiB for the job's ending").advise("free some space, or name a job directory on another disk with --job"));
    }
  }
  auto core = std::make_shared<Core>(fs, std::move(ledger), run, results_dir, reserve_path, options);
  if (auto ready = core->recorder.prepare(); !ready) return std::unexpected(std::move(ready).error().with("ledger '" + path + "'"));
  auto writer = std::make_unique<DurableWriter>(std::move(core));
  DROVER_CHECK(writer->start());
  return writer;
}

// ---- The ledger in memory ---------------------------------------------------------------------------------------------------

struct MemoryLedger::Impl {
  RangeSet recorded;
  RecordNumber committed{};
  std::optional<Error> failure;
  bool finished = false;
  WriterStats stats;

  bool insert(std::uint64_t first, std::uint64_t last) {
    const bool fresh = recorded.insert(first, last, 0);
    if (!fresh && !failure) failure = Error(ErrorCode::exists, "task " + std::to_string(first) + " is on record already: it may not end twice");
    recorded.written();
    return fresh;
  }
};

MemoryLedger::MemoryLedger() : impl_(std::make_unique<Impl>()) {}
MemoryLedger::~MemoryLedger() = default;

std::expected<void, AppendRefused> MemoryLedger::append(RecordBatch& batch, TimePoint) {
  if (impl_->failure) return std::unexpected(AppendRefused::failed);
  if (impl_->finished) return std::unexpected(AppendRefused::stopped);
  RecordBatch::Impl& records = batch.impl();
  for (const FoldedRange& run : records.plain)
    if (!impl_->insert(run.first.value, run.last.value)) return std::unexpected(AppendRefused::failed);
  for (const Completion& c : records.completions)
    if (!impl_->insert(c.task.value, c.task.value)) return std::unexpected(AppendRefused::failed);
  for (const Other& other : records.others)
    if (const auto* failed = std::get_if<TaskFailed>(&other); failed != nullptr && !impl_->insert(failed->task.value, failed->task.value))
      return std::unexpected(AppendRefused::failed);
  if (records.upto > impl_->committed) impl_->committed = records.upto;
  ++impl_->stats.commits;
  impl_->stats.records += records.records;
  records.clear();
  records.grain = Grain::ranges;
  return {};
}
RecordNumber MemoryLedger::committed() const { return impl_->committed; }
std::optional<Error> MemoryLedger::failure() const { return impl_->failure; }
Nanos MemoryLedger::oldest_uncommitted_age(TimePoint) const { return Nanos(0); }
WriterStats MemoryLedger::stats() const { return impl_->stats; }
Result<> MemoryLedger::finish(const RunEnded&, TimePoint) {
  impl_->finished = true;
  if (impl_->failure) return std::unexpected(*impl_->failure);
  return {};
}
bool MemoryLedger::is_recorded(TaskId task) const { return impl_->recorded.contains(task.value); }
std::vector<RecordedRange> MemoryLedger::recorded() const { return impl_->recorded.recorded(); }

}  // namespace drover::store
