// Goal: clocks, bells, pollers, shared memory, process handles and host facts do what their headers say.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "os/clock.hpp"
#include "os/event_fd.hpp"
#include "os/helper_image.hpp"
#include "os/host.hpp"
#include "os/memfd.hpp"
#include "os/message_socket.hpp"
#include "os/pidfd.hpp"
#include "os/poller.hpp"
#include "os/process_stats.hpp"

namespace drover::test {
namespace {

TimePoint in(Nanos timeout) { return after(system_clock().now(), timeout); }

TEST(Clock, MonotonicAndBoottimeGoForward) {
  const TimePoint now = system_clock().now();
  const Nanos boot = system_clock().boottime();
  EXPECT_GE(system_clock().now(), now);
  EXPECT_GE(system_clock().boottime(), boot);
  EXPECT_GE(boot + Millis(1), now.time_since_epoch());  // it never stands still while the other runs
}

TEST(EventFd, RingsMeltIntoOneAndNothingBlocks) {
  auto bell = EventFd::create();
  ASSERT_TRUE(bell);
  EXPECT_EQ(bell->drain(), 0u);
  for (int i = 0; i < 5; ++i) bell->ring();
  EXPECT_EQ(bell->drain(), 5u);
  EXPECT_EQ(bell->drain(), 0u);
  const std::uint64_t nearly_full = ~0ull - 1;
  ASSERT_EQ(::write(bell->fd(), &nearly_full, sizeof nearly_full), 8);
  bell->ring();  // full: must return
  EXPECT_EQ(bell->drain(), nearly_full);
}

TEST(Poller, TellsWhoIsReadyAndForgetsTheRemoved) {
  auto poller = Poller::create();
  auto a = EventFd::create();
  auto b = EventFd::create();
  ASSERT_TRUE(poller && a && b);
  ASSERT_TRUE(poller->add(a->fd(), 11));
  ASSERT_TRUE(poller->add(b->fd(), 22));
  EXPECT_FALSE(poller->add(b->fd(), 23)) << "twice";
  std::vector<std::uint64_t> ready{99};
  ASSERT_TRUE(poller->wait(TimePoint{}, ready));
  EXPECT_TRUE(ready.empty());
  b->ring();
  ASSERT_TRUE(poller->wait(kNever, ready));
  EXPECT_EQ(ready, std::vector<std::uint64_t>{22});
  ASSERT_TRUE(poller->wait(kNever, ready)) << "level triggered";
  EXPECT_EQ(ready, std::vector<std::uint64_t>{22});
  ASSERT_TRUE(poller->remove(b->fd()));
  ASSERT_TRUE(poller->wait(in(Millis(1)), ready));
  EXPECT_TRUE(ready.empty());
  ASSERT_TRUE(poller->modify(a->fd(), 12, Interest::writable));
  ASSERT_TRUE(poller->wait(kNever, ready));
  EXPECT_EQ(ready, std::vector<std::uint64_t>{12});
}

TEST(Poller, NeverReturnsBeforeItsDeadlineAndIsPreciseBelowAMillisecond) {
  auto poller = Poller::create();
  ASSERT_TRUE(poller);
  std::vector<std::uint64_t> ready;
  Nanos best = Seconds(1);
  for (int i = 0; i < 30; ++i) {
    const TimePoint deadline = in(Nanos(300'000));
    ASSERT_TRUE(poller->wait(deadline, ready));
    const Nanos late = system_clock().now() - deadline;
    EXPECT_GE(late, Nanos(0));
    best = std::min(best, late);
  }
  EXPECT_LT(best, Nanos(600'000)) << "rounded to milliseconds?";
}

void ignore_signal(int) {}

TEST(Poller, ASignalDoesNotEndTheWait) {
  struct sigaction action{};
  struct sigaction before{};
  action.sa_handler = ignore_signal;  // no SA_RESTART: epoll_wait gets EINTR
  ::sigaction(SIGALRM, &action, &before);
  itimerval often{.it_interval = {.tv_sec = 0, .tv_usec = 5000}, .it_value = {.tv_sec = 0, .tv_usec = 5000}};
  ::setitimer(ITIMER_REAL, &often, nullptr);
  auto poller = Poller::create();
  std::vector<std::uint64_t> ready;
  const TimePoint deadline = in(Millis(60));
  EXPECT_TRUE(poller->wait(deadline, ready));
  EXPECT_GE(system_clock().now(), deadline);
  often = {};
  ::setitimer(ITIMER_REAL, &often, nullptr);
  ::sigaction(SIGALRM, &before, nullptr);
}

TEST(Memfd, SizeIsSealedAndBothSidesSeeEachOther) {
  auto memory = Memfd::create("test", 8192);
  ASSERT_TRUE(memory);
  EXPECT_EQ(::ftruncate(memory->fd(), 4096), -1) << "a mapping could fault";
  EXPECT_EQ(::ftruncate(memory->fd(), 16384), -1);
  EXPECT_EQ(::fcntl(memory->fd(), F_ADD_SEALS, F_SEAL_WRITE), -1) << "a worker could seal us out";
  auto ours = memory->map_writable();
  auto copy = Memfd::adopt(UniqueFd(::fcntl(memory->fd(), F_DUPFD_CLOEXEC, 0)));
  ASSERT_TRUE(ours && copy);
  EXPECT_EQ(copy->size(), 8192u);
  auto theirs = copy->map_read_only();
  ASSERT_TRUE(theirs);
  EXPECT_EQ(theirs->data()[5000], std::byte{0});
  ours->data()[5000] = std::byte{7};
  EXPECT_EQ(theirs->data()[5000], std::byte{7});
  ASSERT_TRUE(memory->punch_hole(4096, 4096));
  EXPECT_EQ(theirs->data()[5000], std::byte{0});
  EXPECT_EXIT(*const_cast<volatile std::byte*>(theirs->data()) = std::byte{1}, ::testing::KilledBySignal(SIGSEGV), "");
}

TEST(Memfd, PublishedMemoryCannotBeWrittenByThoseWhoReceiveIt) {
  auto memory = Memfd::create("weights", 4096, MemfdUse::published);
  ASSERT_TRUE(memory);
  auto ours = memory->map_writable();
  ASSERT_TRUE(ours && memory->seal_writes());
  ours->data()[0] = std::byte{9};
  EXPECT_FALSE(memory->map_writable());
  EXPECT_EQ(::write(memory->fd(), "x", 1), -1);
  auto theirs = memory->map_read_only();
  ASSERT_TRUE(theirs);
  EXPECT_EQ(theirs->data()[0], std::byte{9});
  EXPECT_EQ(::mprotect(theirs->data(), 4096, PROT_READ | PROT_WRITE), -1);
}

TEST(Memfd, ADescriptorThatCouldShrinkIsRefused) {
  const int plain = ::memfd_create("plain", MFD_CLOEXEC);
  EXPECT_EQ(Memfd::adopt(UniqueFd(plain)).error().code(), ErrorCode::refused);
  EXPECT_EQ(Memfd::adopt(UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC))).error().code(), ErrorCode::refused);
}

TEST(PidFd, NamesOneProcessUntilItsEndAndBeyond) {
  const pid_t child = ::fork();
  if (child == 0)
    for (;;) ::pause();
  auto process = PidFd::open(child);
  ASSERT_TRUE(process);
  EXPECT_EQ(process->host_pid().value_or(0), child);
  EXPECT_FALSE(process->is_dead());
  EXPECT_FALSE(process->wait_dead(in(Millis(5))));
  EXPECT_TRUE(process->send(0).value_or(false));
  EXPECT_TRUE(process->send(SIGKILL).value_or(false));
  EXPECT_TRUE(process->wait_dead(in(Seconds(5))));
  EXPECT_TRUE(process->is_dead());
  ::waitpid(child, nullptr, 0);
  auto late = process->send(SIGKILL);
  ASSERT_TRUE(late) << "a process already gone is no error";
  EXPECT_FALSE(*late);
  EXPECT_EQ(process->host_pid().error().code(), ErrorCode::not_found);
  EXPECT_EQ(PidFd::open(child).error().code(), ErrorCode::not_found);
}

TEST(ProcessStats, SpinningAndSleepingAreToldApart) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_NAME, "odd ) name R");
    for (;;) ::pause();
  }
  const TimePoint deadline = in(Seconds(5));
  while (state_of(child).value_or('?') != 'S' && system_clock().now() < deadline) std::this_thread::yield();
  EXPECT_EQ(state_of(child).value_or('?'), 'S');
  const Nanos before = cpu_time(child).value();
  EXPECT_LT(before, Seconds(1));
  EXPECT_GT(rss_bytes(child).value(), 100'000u);
  EXPECT_GT(start_time_ticks(child).value(), 0u);
  const std::uint64_t switches = voluntary_switches(child).value();
  ::kill(child, SIGSTOP);
  ::waitpid(child, nullptr, WUNTRACED);
  EXPECT_EQ(state_of(child).value_or('?'), 'T');
  EXPECT_EQ(cpu_time(child).value() / Millis(20), before / Millis(20));
  (void)switches;
  EXPECT_EQ(stall_evidence(child).state, 'T');
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_FALSE(cpu_time(child));
  EXPECT_FALSE(rss_bytes(child));
  EXPECT_FALSE(state_of(child));
  const Nanos mine = cpu_time(::getpid()).value();
  while (cpu_time(::getpid()).value() < mine + Millis(5)) {
  }
}

TEST(Host, FactsAreSane) {
  EXPECT_GE(usable_cores(), 1u);
  EXPECT_LE(usable_cores(), static_cast<std::uint32_t>(::sysconf(_SC_NPROCESSORS_CONF)));
  const HostMemory memory = host_memory();
  EXPECT_GT(memory.total_bytes, 64u << 20);
  EXPECT_GT(memory.available_bytes, 0u);
  EXPECT_LE(memory.available_bytes, memory.total_bytes);
  EXPECT_EQ(boot_id().size(), 36u);
  EXPECT_FALSE(host_name().empty());
  EXPECT_FALSE(kernel_release().empty());
  EXPECT_NE(executable_path().find("os_test"), std::string::npos);
  EXPECT_FALSE(is_network_filesystem("/proc").value_or(true));
  EXPECT_EQ(is_network_filesystem("/no/such/place").error().code(), ErrorCode::not_found);
  EXPECT_FALSE(filesystem_name("/tmp").value_or("").empty());
}

TEST(Host, AffinityBoundsTheCores) {
  cpu_set_t before;
  ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &before)) {
      CPU_SET(cpu, &one);
      break;
    }
  ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(usable_cores(), 1u);
  ::sched_setaffinity(0, sizeof before, &before);
}

TEST(HelperImage, CanBeExecutedAndNotChanged) {
  const UniqueFd source(::open("/bin/true", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(source);
  std::vector<std::byte> bytes(1 << 20);
  bytes.resize(static_cast<std::size_t>(::read(source.get(), bytes.data(), bytes.size())));
  auto image = make_executable_image("true", bytes);
  ASSERT_TRUE(image) << image.error().what();
  EXPECT_EQ(::write(image->get(), "x", 1), -1);
  const pid_t child = ::fork();
  if (child == 0) {
    char* const argv[] = {const_cast<char*>("true"), nullptr};
    ::fexecve(image->get(), argv, environ);
    ::_exit(99);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(MessageSocket, MessagesAndDescriptorsArriveWholeOrNotAtAll) {
  auto pair = make_message_sockets();
  ASSERT_TRUE(pair);
  char buffer[8];
  const auto into = std::as_writable_bytes(std::span(buffer));
  EXPECT_EQ(receive_message(pair->second.get(), into).error().code(), ErrorCode::busy);
  const int fds[] = {0, 1};
  const auto text = std::as_bytes(std::span("12345678", 8));
  ASSERT_TRUE(send_message(pair->first.get(), text, fds));
  auto message = receive_message(pair->second.get(), into, 2);
  ASSERT_TRUE(message);
  EXPECT_EQ(message->size, 8u);
  ASSERT_EQ(message->fds.size(), 2u);
  EXPECT_NE(::fcntl(message->fds[1].get(), F_GETFD) & FD_CLOEXEC, 0);
  // More than asked for: dropped whole, no descriptor leaks, the next one is fine.
  ASSERT_TRUE(send_message(pair->first.get(), text, fds));
  ASSERT_TRUE(send_message(pair->first.get(), std::as_bytes(std::span("123456789", 9))));
  ASSERT_TRUE(send_message(pair->first.get(), text.first(3)));
  const int next_free = ::dup(0);
  ::close(next_free);
  EXPECT_EQ(receive_message(pair->second.get(), into, 1).error().code(), ErrorCode::corrupt);
  EXPECT_EQ(receive_message(pair->second.get(), into, 1).error().code(), ErrorCode::corrupt);
  EXPECT_EQ(receive_message(pair->second.get(), into, 1)->size, 3u);
  const int still_free = ::dup(0);
  ::close(still_free);
  EXPECT_EQ(next_free, still_free) << "a descriptor leaked";
  // A full queue is busy, a closed peer closed.
  Result<void> sent;
  for (int i = 0; i < 100'000 && sent; ++i) sent = send_message(pair->first.get(), text);
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code(), ErrorCode::busy);
  pair->second.reset();
  EXPECT_EQ(send_message(pair->first.get(), text).error().code(), ErrorCode::closed);
  EXPECT_EQ(receive_message(pair->first.get(), into).error().code(), ErrorCode::closed);
}

}  // namespace
}  // namespace drover::test
