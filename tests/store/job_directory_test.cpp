// Goal: one job, one directory, one supervisor; whatever is wrong with the place is said in words that help. Method: real directories,
// and a file system whose k-th call fails.

#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "os/host.hpp"
#include "os/process_stats.hpp"
#include "sim/fault_file_system.hpp"
#include "store/checkpoint_file.hpp"
#include "store/events_log.hpp"
#include "store/job_directory.hpp"
#include "store/support.hpp"

namespace drover::store::test {
namespace {

Holder self() { return *self_as_holder(); }
FileSystem& fs() { return posix_file_system(); }

TEST(JobDirectory, ReadsWithLsAndTakesItsLock) {
  TempDir dir;
  auto job = JobDirectory::create(fs(), {.workload = "echo", .path = dir / "job", .job_toml = "a = 1\n"}, self());
  ASSERT_OK(job);
  EXPECT_EQ(*fs().list(dir / "job"), (std::vector<std::string>{"checkpoints", "job.toml", "lock", "results", "workers"}));
  EXPECT_EQ(*fs().read_file(job->file("job.toml")), "a = 1\n");
  EXPECT_EQ(job->worker_log(3), dir / "job/workers/3.log");
  const auto holder = holder_of(fs(), dir / "job");
  ASSERT_OK(holder);
  ASSERT_TRUE(holder->has_value());
  EXPECT_EQ((*holder)->pid, ::getpid());
}

TEST(JobDirectory, ASecondOpenerIsToldWhoHoldsIt) {
  TempDir dir;
  auto job = JobDirectory::create(fs(), {.workload = "echo", .path = dir / "job"}, self());
  ASSERT_OK(job);
  std::ofstream(job->ledger()) << "x";
  const auto second = JobDirectory::open(fs(), dir / "job", self());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::busy);
  for (const std::string& word : {std::to_string(::getpid()), host_name(), self().started.substr(0, 10)})
    EXPECT_NE(second.error().what().find(word), std::string::npos) << second.error().what();
  EXPECT_NE(second.error().advice().find("drover status"), std::string::npos);
  EXPECT_EQ(JobDirectory::create(fs(), {.workload = "echo", .path = dir / "job"}, self()).error().code(), ErrorCode::exists);
  { const JobDirectory gone = std::move(*job); }
  EXPECT_OK(JobDirectory::open(fs(), dir / "job", self()));
}

TEST(JobDirectory, TheLockDiesWithItsHolderAndIsNotInheritedByAProgramItStarts) {
  TempDir dir;
  {
    auto made = JobDirectory::create(fs(), {.workload = "echo", .path = dir / "job"}, self());
    ASSERT_OK(made);
    std::ofstream(made->ledger()) << "x";
  }
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t holder = ::fork();
  if (holder == 0) {
    auto job = JobDirectory::open(posix_file_system(), dir / "job", self());
    if (!job) ::_exit(1);
    // A program started by the holder outlives it; its pid comes back through the pipe.
    const pid_t survivor = ::fork();
    if (survivor == 0) {
      ::dup2(ready[1], 1);
      ::execl("/bin/sh", "sh", "-c", "printf x; exec sleep 100", nullptr);
      ::_exit(1);
    }
    if (::write(ready[1], &survivor, sizeof survivor) != ssize_t{sizeof survivor}) ::_exit(1);
    ::pause();
  }
  pid_t survivor = -1;
  char x = 0, rest[sizeof survivor + 1];
  std::size_t have = 0;
  while (have < sizeof rest) {  // the pid and the x, in any order
    const ssize_t got = ::read(ready[0], rest + have, sizeof rest - have);
    ASSERT_GT(got, 0);
    have += static_cast<std::size_t>(got);
  }
  if (rest[0] == 'x') std::memcpy(&survivor, rest + 1, sizeof survivor);
  else std::memcpy(&survivor, rest, sizeof survivor);
  x = 'x';
  EXPECT_EQ(x, 'x');
  EXPECT_EQ(JobDirectory::open(fs(), dir / "job", self()).error().code(), ErrorCode::busy);
  ::kill(holder, SIGKILL);
  int status = 0;
  ::waitpid(holder, &status, 0);
  EXPECT_OK(JobDirectory::open(fs(), dir / "job", self()));
  EXPECT_FALSE(holder_of(fs(), dir / "job")->has_value() && (*holder_of(fs(), dir / "job"))->pid == holder);
  ::kill(survivor, SIGKILL);
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST(JobDirectory, DefaultNamesCountUp) {
  TempDir dir;
  const auto make = [&] { return JobDirectory::create(fs(), {.workload = "solve", .base = dir.path(), .date = "20240501"}, self()); };
  EXPECT_EQ(make()->path(), dir / "drover-jobs/solve-20240501-1");
  EXPECT_EQ(make()->path(), dir / "drover-jobs/solve-20240501-2");
}

TEST(JobDirectory, WhatCannotBeOneIsRefusedInWords) {
  TempDir dir;
  std::ofstream(dir / "file") << "x";
  std::filesystem::create_directory(dir / "full");
  std::ofstream(dir / "full/thesis.tex") << "x";
  const auto create = [&](const std::string& path) { return JobDirectory::create(fs(), {.workload = "echo", .path = path}, self()).error(); };
  EXPECT_EQ(create(dir / "file").code(), ErrorCode::refused);
  EXPECT_NE(create(dir / "full").what().find("thesis.tex"), std::string::npos);
  EXPECT_NE(create(dir / "file/below").what().find("Not a directory"), std::string::npos) << create(dir / "file/below").what();
  EXPECT_NE(create("/proc/job").advice().find("--job"), std::string::npos);
  EXPECT_EQ(JobDirectory::open(fs(), dir / "nowhere", self()).error().code(), ErrorCode::not_found);
  EXPECT_EQ(JobDirectory::open(fs(), dir / "full", self()).error().code(), ErrorCode::not_found);
  EXPECT_EQ(JobDirectory::open(fs(), dir / "file", self()).error().code(), ErrorCode::refused);
  sim::FaultFileSystem network(fs());
  network.pretend_network(true);
  EXPECT_EQ(JobDirectory::create(network, {.workload = "echo", .path = dir / "net"}, self()).error().code(), ErrorCode::refused);
}

TEST(JobDirectory, AnInterruptedCreationCanBeRepeatedAtEveryCall) {
  for (const int error : {EIO, ENOSPC, EACCES, EMFILE}) {
    for (std::uint64_t k = 1;; ++k) {
      TempDir dir;
      sim::FaultFileSystem faulty(fs());
      faulty.arm({.at_call = k, .errno_value = error, .half_write = true});
      const auto first = JobDirectory::create(faulty, {.workload = "echo", .path = dir / "a/job", .job_toml = "x = 1"}, self());
      if (!faulty.hit()) {
        ASSERT_OK(first);
        break;
      }
      if (first) continue;  // a call whose failure does not matter
      EXPECT_FALSE(first.error().what().empty());
      EXPECT_OK(JobDirectory::create(fs(), {.workload = "echo", .path = dir / "a/job", .job_toml = "x = 1"}, self()));
      ASSERT_LT(k, 100u);
    }
  }
}

TEST(JobDirectory, TheControlSocketWorksHoweverLongThePathIs) {
  TempDir dir;
  for (const std::size_t pad : {std::size_t{0}, std::size_t{200}}) {
    const std::string path = dir / ("j" + std::string(pad, 'p'));
    auto job = JobDirectory::create(fs(), {.workload = "echo", .path = path}, self());
    ASSERT_OK(job);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string name = job->control_socket_address();
    ASSERT_LT(name.size(), sizeof address.sun_path);
    std::memcpy(address.sun_path, name.data(), name.size());
    const int server = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT_EQ(::bind(server, reinterpret_cast<sockaddr*>(&address), sizeof address), 0) << name << ": " << std::strerror(errno);
    ASSERT_EQ(::listen(server, 1), 0);
    EXPECT_TRUE(*fs().exists(path + "/control.sock"));
    const auto client_side = control_socket_of(fs(), path);
    ASSERT_OK(client_side);
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    ASSERT_LT(client_side->path.size(), sizeof to.sun_path);
    std::memcpy(to.sun_path, client_side->path.data(), client_side->path.size());
    const int client = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::connect(client, reinterpret_cast<sockaddr*>(&to), sizeof to), 0) << client_side->path << ": " << std::strerror(errno);
    ::close(client);
    ::close(server);
  }
}

TEST(Registry, ListsRunningJobsAndForgetsStaleOnes) {
  TempDir dir;
  const std::string registry = registry_directory(dir.path(), "/nowhere");
  EXPECT_EQ(registry, dir / "drover/jobs");
  EXPECT_EQ(registry_directory("", "/home-of-someone"), "/home-of-someone/.local/state/drover/jobs");
  EXPECT_EQ(registry_directory("", ""), "");
  EXPECT_FALSE(register_job(fs(), "", {}).has_value());
  EXPECT_TRUE(list_jobs(fs(), registry)->empty());
  for (const char* name : {"running", "dead", "gone"}) std::filesystem::create_directory(dir / name);
  ASSERT_OK(register_job(fs(), registry, {.job_path = dir / "running", .workload = "echo", .holder = self()}));
  Holder dead = self();
  dead.start_ticks += 1;  // the same pid, another process
  ASSERT_OK(register_job(fs(), registry, {.job_path = dir / "dead", .workload = "solve", .holder = dead}));
  ASSERT_OK(register_job(fs(), registry, {.job_path = dir / "gone", .workload = "echo", .holder = self()}));
  std::filesystem::remove(dir / "gone");
  std::ofstream(registry + "/garbage.json") << "{not json";
  auto jobs = list_jobs(fs(), registry);
  ASSERT_OK(jobs);
  ASSERT_EQ(jobs->size(), 2u);
  for (const RegistryEntry& entry : *jobs) EXPECT_EQ(entry.alive, entry.job_path == dir / "running");
  jobs = list_jobs(fs(), registry);
  ASSERT_EQ(jobs->size(), 1u);
  EXPECT_EQ((*jobs)[0].workload, "echo");
  EXPECT_EQ(fs().list(registry)->size(), 1u);
  ASSERT_OK(unregister_job(fs(), registry, dir / "running"));
  ASSERT_OK(unregister_job(fs(), registry, dir / "running"));
  EXPECT_TRUE(list_jobs(fs(), registry)->empty());
}

// ---- A disk that is really full ---------------------------------------------------------------------------------------------

class SmallDisk {
 public:
  explicit SmallDisk(const char* size) {
    mounted_ = ::mount("drover-test", dir_.path().c_str(), "tmpfs", 0, (std::string("size=") + size).c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(dir_.path().c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  const std::string& path() const { return dir_.path(); }

 private:
  TempDir dir_;
  bool mounted_ = false;
};

TEST(FullDisk, TheJobEndsAsAHostFaultNothingAcknowledgedIsLostAndTheEndingIsRecorded) {
  SmallDisk disk("24m");
  if (!disk.mounted()) GTEST_SKIP() << "mounting a small tmpfs needs root";
  auto directory = JobDirectory::create(fs(), {.workload = "echo", .path = disk.path() + "/job"}, self());
  ASSERT_OK(directory);
  auto events = EventsLog::open(fs(), directory->events(), {});
  ASSERT_OK(events);
  Job job(directory->path());
  ASSERT_OK(job.start({.grain = Grain::rows}, {}, true));
  EXPECT_EQ(fs().stat(directory->reserve())->size_bytes, std::uint64_t{8} << 20);
  const std::string result(3000, 'r');
  std::uint64_t task = 0, acknowledged = 0;
  while (task < 100'000) {
    for (int i = 0; i < 200; ++i) job.complete(task++, result, true);
    if (!job.settle()) break;
    acknowledged = task;
  }
  ASSERT_TRUE(job.writer->failure().has_value()) << "24 MB took " << task << " results of 3,000 bytes";
  EXPECT_EQ(job.writer->failure()->code(), ErrorCode::no_space) << job.writer->failure()->what();
  EXPECT_EQ(job.writer->append(job.batch, now()).has_value(), job.batch.empty());
  for (int i = 0; i < 3000; ++i) events->add({.at = now(), .kind = "job_state", .cause = "filling what is left of the disk"});
  events->flush();
  EXPECT_GT(events->dropped() + events->written(), 2999u);
  ASSERT_OK(job.finish(ending::HostFault{"ledger: no space left"}));
  auto ledger = job.read();
  ASSERT_OK(ledger);
  EXPECT_EQ((*ledger->runs("boot-1", nullptr)).back().ending_name, "host_fault");
  const auto recorded = ledger->recorded();
  ASSERT_OK(recorded);
  ASSERT_FALSE(recorded->empty());
  EXPECT_GE((*recorded)[0].last.value + 1, acknowledged);
  EXPECT_EQ(recorded->size(), 1u);
}

/// Takes every free block.
void fill_up(const std::string& path) {
  auto ballast = fs().open(path, OpenMode::create_new);
  ASSERT_OK(ballast);
  const std::vector<std::byte> block(4096);
  std::uint64_t at = 0;
  while ((*ballast)->write_at(at, block)) at += block.size();
}

TEST(FullDisk, WhenSomebodyElseFillsItTheReserveKeepsRoomForTheEnding) {
  SmallDisk disk("24m");
  if (!disk.mounted()) GTEST_SKIP() << "mounting a small tmpfs needs root";
  Job job(disk.path());
  ASSERT_OK(job.start({.grain = Grain::rows}, {}, true));
  job.complete(0);
  ASSERT_TRUE(job.settle());
  ASSERT_NO_FATAL_FAILURE(fill_up(disk.path() + "/ballast"));
  for (std::uint64_t task = 1; task < 2000; ++task) job.complete(task, std::string(2000, 'r'), true);
  EXPECT_FALSE(job.settle());
  ASSERT_TRUE(job.writer->failure().has_value());
  EXPECT_EQ(job.writer->failure()->code(), ErrorCode::no_space) << job.writer->failure()->what();
  EXPECT_TRUE(*fs().exists(disk.path() + "/ledger.reserve")) << "given back too early: somebody else would take it";
  ASSERT_OK(job.finish(ending::HostFault{"ledger: no space left"}));
  EXPECT_FALSE(*fs().exists(disk.path() + "/ledger.reserve"));
  auto ledger = job.read();
  ASSERT_OK(ledger);
  EXPECT_EQ((*ledger->runs("boot-1", nullptr)).back().ending_name, "host_fault");
  EXPECT_EQ(*ledger->recorded(), (std::vector<RecordedRange>{{TaskId(0), TaskId(0)}}));
}

TEST(FullDisk, StartingOnOneIsRefusedWithoutLeftovers) {
  SmallDisk disk("4m");
  if (!disk.mounted()) GTEST_SKIP() << "mounting a small tmpfs needs root";
  auto directory = JobDirectory::create(fs(), {.workload = "echo", .path = disk.path() + "/job"}, self());
  ASSERT_OK(directory);
  Job job(directory->path());
  const auto started = job.start({}, {}, true);
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code(), ErrorCode::no_space) << started.error().what();
  EXPECT_FALSE(started.error().advice().empty());
  EXPECT_FALSE(*fs().exists(directory->reserve()));
}

TEST(FullDisk, ACheckpointThatDoesNotFitIsAnErrorAndTheOldOneStays) {
  SmallDisk disk("4m");
  if (!disk.mounted()) GTEST_SKIP() << "mounting a small tmpfs needs root";
  const std::vector<std::byte> small(1 << 20, std::byte{1}), large(8 << 20, std::byte{2});
  const auto good = commit_checkpoint(fs(), disk.path(), small, {.number = 1});
  ASSERT_OK(good);
  const auto bad = commit_checkpoint(fs(), disk.path(), large, {.number = 2});
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code(), ErrorCode::no_space) << bad.error().what();
  EXPECT_OK(verify_checkpoint(fs(), disk.path(), *good));
  EXPECT_OK(commit_checkpoint(fs(), disk.path(), small, {.number = 2}));  // the space came back
}

}  // namespace
}  // namespace drover::store::test
