// Goal: what watches a job may be late or missing, never torn or unbounded, and never in the loop's way. Method: a live page written and
// read at full speed, hostile pages, logs on failing disks, text parsed by an independent parser.

#include <sys/mman.h>
#include <sys/wait.h>

#include <atomic>
#include <cerrno>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>
#include <thread>

#include "os/process_stats.hpp"
#include "sim/fault_file_system.hpp"
#include "store/events_log.hpp"
#include "store/live_page.hpp"
#include "store/metrics.hpp"
#include "store/support.hpp"

namespace drover::store::test {
namespace {

FileSystem& fs() { return posix_file_system(); }

LiveJob job_with(std::uint64_t n) {
  LiveJob job;
  job.supervisor = {.host_pid = ::getpid(), .start_ticks = *start_time_ticks(::getpid())};
  job.state = LiveJobState::running;
  job.submitted = job.completed = job.delivered = job.attempts = job.leased = n;  // equal in every honest copy
  job.rate = static_cast<double>(n);
  set_text(job.workload, "echo");
  return job;
}

TEST(LivePage, IsReadBackAsPublished) {
  TempDir dir;
  auto page = LivePageWriter::create(fs(), dir / "live", 4);
  ASSERT_OK(page);
  EXPECT_EQ(read_live_page(fs(), dir / "live").error().code(), ErrorCode::busy);  // nothing published yet
  std::vector<LiveSlot> slots(3);
  for (std::uint32_t i = 0; i < 3; ++i) {
    slots[i].slot = i;
    slots[i].incarnation = 7 + i;
    slots[i].state = LiveSlotState::busy;
    set_text(slots[i].last_fault, std::string(100, 'f'));
  }
  page->publish(job_with(5), slots);
  const auto snapshot = read_live_page(fs(), dir / "live");
  ASSERT_OK(snapshot);
  EXPECT_EQ(snapshot->job.completed, 5u);
  EXPECT_EQ(text_in(snapshot->job.workload), "echo");
  ASSERT_EQ(snapshot->slots.size(), 3u);
  EXPECT_EQ(snapshot->slots[2].incarnation, 9u);
  EXPECT_EQ(text_in(snapshot->slots[1].last_fault), std::string(47, 'f'));
  EXPECT_FALSE(snapshot->stale);
  EXPECT_EQ(read_live_page(fs(), dir / "none").error().code(), ErrorCode::not_found);
}

TEST(LivePage, SaysStaleWhenItsSupervisorIsGone) {
  TempDir dir;
  const pid_t child = ::fork();
  if (child == 0) {
    auto page = LivePageWriter::create(fs(), dir / "live", 1);
    if (page) page->publish(job_with(3), {});
    ::_exit(page ? 0 : 1);
  }
  int status = 0;
  // Gone but not reaped yet is gone too.
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
  EXPECT_TRUE(read_live_page(fs(), dir / "live")->stale);
  ::waitpid(child, &status, 0);
  ASSERT_EQ(status, 0);
  const auto snapshot = read_live_page(fs(), dir / "live");
  ASSERT_OK(snapshot);
  EXPECT_TRUE(snapshot->stale);
  EXPECT_EQ(snapshot->job.completed, 3u);
}

TEST(LivePage, IsNeverReadTorn) {
  TempDir dir;
  auto page = LivePageWriter::create(fs(), dir / "live", kLiveSlotsMax);  // a long copy is a wide target
  ASSERT_OK(page);
  page->publish(job_with(1), {});
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    std::vector<LiveSlot> slots(kLiveSlotsMax);
    for (std::uint64_t n = 2; !stop.load(std::memory_order_relaxed); ++n) {
      const auto rows = static_cast<std::size_t>(n % (kLiveSlotsMax + 1));
      for (std::size_t i = 0; i < rows; ++i) {
        slots[i].task = slots[i].progress = slots[i].completed = n;
        slots[i].slot = static_cast<std::uint32_t>(i);
      }
      LiveJob job = job_with(n);
      page->publish(job, std::span(slots).first(rows));
    }
  });
  std::uint64_t reads = 0, changes = 0, last = 0, busy = 0, torn = 0;
  const std::uint64_t wanted = scaled<std::uint64_t>(300, 20'000);
  const auto deadline = now() + kBound;
  const auto is_whole = [](const LiveSnapshot& snapshot) {
    const LiveJob& job = snapshot.job;
    const std::uint64_t n = job.submitted;
    bool whole = job.completed == n && job.delivered == n && job.attempts == n && job.leased == n && job.rate == static_cast<double>(n) && (n == 1 || job.slots == n % (kLiveSlotsMax + 1));
    for (const LiveSlot& slot : snapshot.slots) whole = whole && slot.task == n && slot.progress == n && slot.completed == n;
    return whole;
  };
  while ((reads < wanted || changes < 50) && now() < deadline) {  // on a busy machine the writer needs its turns too
    // Without the sequence's check copies are torn now and then: that this is seen shows that the test could see it.
    if (const auto unchecked = read_live_page_torn(fs(), dir / "live"); unchecked && !is_whole(*unchecked)) ++torn;
    const auto snapshot = read_live_page(fs(), dir / "live");
    if (!snapshot) {
      EXPECT_EQ(snapshot.error().code(), ErrorCode::busy) << snapshot.error().what();
      ++busy;
      continue;
    }
    ++reads;
    const std::uint64_t n = snapshot->job.submitted;
    ASSERT_TRUE(is_whole(*snapshot)) << "torn at " << n;
    ASSERT_GE(n, last) << "time went backwards";
    if (n != last) ++changes;
    last = n;
  }
  stop = true;
  writer.join();
  std::printf("%llu whole reads of %llu different pages, %llu found it busy; %llu unchecked copies were torn\n", static_cast<unsigned long long>(reads), static_cast<unsigned long long>(changes), static_cast<unsigned long long>(busy),
              static_cast<unsigned long long>(torn));
  EXPECT_GE(reads, wanted);
  EXPECT_GE(changes, 50u);
}

TEST(LivePage, AWriterKilledHalfWayIsReportedAndStillNamesItsProcesses) {
  TempDir dir;
  auto page = LivePageWriter::create(fs(), dir / "live", 2);
  ASSERT_OK(page);
  page->publish(job_with(4), {});
  std::fstream file(dir / "live", std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(24);
  const std::uint64_t odd = 99;
  file.write(reinterpret_cast<const char*>(&odd), 8);
  file.close();
  EXPECT_EQ(read_live_page(fs(), dir / "live").error().code(), ErrorCode::busy);
  const auto torn = read_live_page_torn(fs(), dir / "live");
  ASSERT_OK(torn);
  EXPECT_EQ(torn->job.supervisor.host_pid, ::getpid());
}

TEST(LivePage, AHostilePageIsRefusedOrBoundedNeverTrusted) {
  const std::uint64_t seed = seed_of("HostilePage");
  Random random(seed);
  TempDir dir;
  auto page = LivePageWriter::create(fs(), dir / "live", 8);
  ASSERT_OK(page);
  std::vector<LiveSlot> slots(8);
  page->publish(job_with(4), slots);
  const std::string good = *fs().read_file(dir / "live");
  for (int round = 0; round < scaled(500, 20'000); ++round) {
    std::string bad = good;
    for (std::uint64_t i = 0, n = 1 + random.below(6); i < n; ++i) bad[random.below(bad.size())] = static_cast<char>(random.next());
    if (random.below(3) == 0) bad.resize(random.below(bad.size() + 100));
    std::ofstream(dir / "bad", std::ios::binary) << bad;
    for (const bool torn : {false, true}) {
      const auto snapshot = torn ? read_live_page_torn(fs(), dir / "bad") : (bad.size() > 24 && (bad[24] & 1) != 0 ? fail(ErrorCode::busy, "skipped: 50 ms each") : read_live_page(fs(), dir / "bad"));
      if (!snapshot) continue;
      EXPECT_LE(snapshot->slots.size(), 8u);
      EXPECT_LT(text_in(snapshot->job.last_fault).size(), snapshot->job.last_fault.size());
      (void)name_of(snapshot->job.state);
      for (const LiveSlot& slot : snapshot->slots) (void)name_of(slot.state);
    }
  }
}

// ---- events.jsonl -----------------------------------------------------------------------------------------------------------

std::vector<nlohmann::json> lines_in(const std::string& path) {
  std::ifstream file(path);
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(file, line);)
    if (auto object = nlohmann::json::parse(line, nullptr, false); object.is_object()) lines.push_back(std::move(object));
  return lines;
}

TEST(EventsLog, OneObjectALineWhateverTheCauseSays) {
  TempDir dir;
  {
    auto log = EventsLog::open(fs(), dir / "events.jsonl", {.run = 3});
    ASSERT_OK(log);
    log->add({.at = TimePoint(Nanos(42)), .kind = "worker_died", .cause = "crashed(SIGSEGV)", .slot = SlotId(1), .incarnation = Incarnation(2), .task = TaskId(3), .epoch = Epoch(4)});
    static constexpr char kOdd[] = "quote\" back\\ line\n tab\t nul\0 bad \xff\xc0\x80\xed\xa0\x80 good \xc3\xa9\xe2\x82\xac\xf0\x9f\x90\x8e";
    log->add({.kind = "odd", .cause = std::string_view(kOdd, sizeof kOdd - 1)});
    log->flush();
    EXPECT_EQ(log->written(), 2u);
  }
  const auto lines = lines_in(dir / "events.jsonl");
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0]["mono_ns"], 42);
  EXPECT_EQ(lines[0]["seq"], 1);
  EXPECT_EQ(lines[0]["run"], 3);
  EXPECT_EQ(lines[0]["slot"], 1);
  EXPECT_EQ(lines[0]["incarnation"], 2);
  EXPECT_EQ(lines[0]["task"], 3);
  EXPECT_EQ(lines[0]["epoch"], 4);
  EXPECT_EQ(lines[0]["cause"], "crashed(SIGSEGV)");
  EXPECT_TRUE(std::regex_match(lines[0]["wall"].get<std::string>(), std::regex(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)")));
  EXPECT_NE(lines[1]["cause"].get<std::string>().find("good \xc3\xa9\xe2\x82\xac\xf0\x9f\x90\x8e"), std::string::npos);
}

TEST(EventsLog, StaysWithinItsBoundAndLosesTheOldestOnly) {
  TempDir dir;
  std::uint64_t written = 0;
  for (std::uint32_t run = 1; run <= 3; ++run) {  // across resumes
    auto log = EventsLog::open(fs(), dir / "events.jsonl", {.bytes_max = 20'000, .files_max = 3, .run = run});
    ASSERT_OK(log);
    for (int i = 0; i < 2000; ++i) {
      log->add({.kind = "tick", .task = TaskId(written++)});
      if (i % 10 == 0) log->flush();
    }
  }
  std::uint64_t bytes = 0, next = 0;
  for (const char* name : {"events.2.jsonl", "events.1.jsonl", "events.jsonl"}) {
    const auto stat = fs().stat(dir / name);
    ASSERT_OK(stat);
    EXPECT_LE(stat->size_bytes, 20'000u);
    bytes += stat->size_bytes;
    for (const auto& line : lines_in(dir / name)) {
      if (next != 0) {
        EXPECT_EQ(line["task"].get<std::uint64_t>(), next);
      }
      next = line["task"].get<std::uint64_t>() + 1;
    }
  }
  EXPECT_EQ(next, written) << "the newest line is there";
  EXPECT_LE(bytes, 60'000u);
  EXPECT_EQ(fs().list(dir.path())->size(), 3u);
}

TEST(EventsLog, DropsAndCountsOnAFullDiskAndGoesOnAfterwards) {
  for (const bool half : {false, true}) {
    TempDir dir;
    sim::FaultFileSystem faulty(fs());
    auto log = EventsLog::open(faulty, dir / "events.jsonl", {});
    ASSERT_OK(log);
    log->add({.kind = "before"});
    log->flush();
    faulty.arm({.at_call = 1, .errno_value = ENOSPC, .calls = 3, .half_write = half, .writes_only = true});
    for (int i = 0; i < 3; ++i) {
      log->add({.kind = "lost"});
      log->flush();
    }
    faulty.arm({});
    log->add({.kind = "after"});
    log->flush();
    EXPECT_EQ(log->dropped(), 3u);
    EXPECT_EQ(log->written(), 2u);
    const auto lines = lines_in(dir / "events.jsonl");
    ASSERT_EQ(lines.size(), 2u) << "a torn line must not take its neighbour along";
    EXPECT_EQ(lines[0]["kind"], "before");
    EXPECT_EQ(lines[1]["kind"], "after");
    EXPECT_EQ(lines[1]["seq"], 5) << "the gap tells that something is missing";
  }
}

// ---- metrics.prom -----------------------------------------------------------------------------------------------------------

TEST(Metrics, TextIsWhatPrometheusReads) {
  Metrics metrics("ec\"ho");
  metrics.counter("tasks_completed", 12);
  metrics.counter("tasks_completed", 13);
  metrics.gauge("workers", 2);
  for (int i = 1; i <= 1000; ++i) metrics.add(Latency::run, std::chrono::microseconds(i));
  metrics.add(Latency::run, Nanos(-5));
  const std::string text = metrics.text();
  // Exposition format 0.0.4: every sample line is `name{labels} value`, buckets are cumulative and end in +Inf = count.
  static const std::regex sample(R"re(^([a-z_]+)\{workload="ec\\"ho"(?:,le="([^"]+)")?\} ([0-9.e+-]+)$)re");
  std::istringstream in(text);
  double previous = 0, inf = -1, count = -1, sum = -1;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("# HELP ") || line.starts_with("# TYPE ")) continue;
    std::smatch match;
    ASSERT_TRUE(std::regex_match(line, match, sample)) << line;
    const double value = std::stod(match[3]);
    if (match[1] == "drover_run_seconds_bucket") {
      EXPECT_GE(value, previous);
      previous = value;
      if (match[2] == "+Inf") inf = value;
      else if (const double bound = std::stod(match[2]); bound > 0.0001 && bound < 0.001) {
        // 1..1000 us evenly: the bucket may round up by its own width only.
        EXPECT_NEAR(value, bound * 1e6, bound * 1e6 / 16 + 2);
      }
    }
    if (match[1] == "drover_run_seconds_count") count = value;
    if (match[1] == "drover_run_seconds_sum") sum = value;
    if (match[1] == "drover_tasks_completed_total") {
      EXPECT_EQ(value, 13);
    }
  }
  EXPECT_EQ(count, 1001);
  EXPECT_EQ(inf, count);
  EXPECT_NEAR(sum, 0.5005, 1e-6);
}

TEST(Metrics, TheFileIsReplacedWholeOrNotAtAll) {
  TempDir dir;
  Metrics metrics("echo");
  metrics.counter("tasks_completed", 1);
  ASSERT_OK(metrics.write(fs(), dir / "metrics.prom"));
  const std::string old = *fs().read_file(dir / "metrics.prom");
  metrics.counter("tasks_completed", 2);
  for (std::uint64_t k = 1;; ++k) {
    sim::FaultFileSystem faulty(fs());
    faulty.arm({.at_call = k, .errno_value = ENOSPC, .half_write = true});
    const auto written = metrics.write(faulty, dir / "metrics.prom");
    if (written) break;
    EXPECT_EQ(*fs().read_file(dir / "metrics.prom"), old);
    EXPECT_EQ(fs().list(dir.path())->size(), 1u) << "litter";
    ASSERT_LT(k, 20u);
  }
  EXPECT_NE(fs().read_file(dir / "metrics.prom")->find("drover_tasks_completed_total{workload=\"echo\"} 2"), std::string::npos);
}

}  // namespace
}  // namespace drover::store::test
