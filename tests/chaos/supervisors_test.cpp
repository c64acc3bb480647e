// Goal: no process of a run outlives its supervisor, whatever moment it is killed at. Method: a program with a pool whose workers
// spin, sleep deaf to SIGTERM, and leave daemonised grandchildren behind is SIGKILLed after a random time, its launch included.
// Every worker and everything it starts holds the program's stdout: end-of-file proves that they are gone, whatever we think of
// them. Keeper and watchdog would become children of this test, a subreaper: having none proves that they are gone too.

#include "chaos/seed.hpp"
#include "pool/support.hpp"

namespace drover::test {
namespace {

void kill_supervisors(int rounds, Nanos latest) {
  become_subreaper();
  Rng rng(chaos_seed());
  Nanos slowest{};
  for (int round = 0; round < rounds; ++round) {
    Host host({"busy"}, true);
    ASSERT_GT(host.pid(), 0);
    const Nanos moment(static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(latest.count()))));
    pass(moment);
    const TimePoint killed = system_clock().now();
    host.kill();
    ASSERT_TRUE(Pipe::wait_end(host.out.read_end.get(), in(kPatience))) << "round " << round << ", killed after " << moment.count() << " ns: a worker or its grandchild lives on";
    ASSERT_TRUE(wait_no_children()) << "round " << round << ", killed after " << moment.count() << " ns: a helper lives on";
    slowest = std::max(slowest, system_clock().now() - killed);
  }
  std::printf("%d supervisors killed, nobody survived; all gone after at most %lld ms\n", rounds, static_cast<long long>(slowest.count() / 1'000'000));
}

TEST(Chaos, NobodyOutlivesASupervisorKilledDuringItsLaunch) { kill_supervisors(scaled(25, 500), 40ms); }
TEST(Chaos, NobodyOutlivesASupervisorKilledAtWork) { kill_supervisors(scaled(25, 500), 500ms); }

}  // namespace
}  // namespace drover::test
