// Goal: the limits hold on this host, not in theory, and whoever writes past drover is named. Method: the self-test in full; foreign holders and a writer that is gone in an instant.

#include <fstream>

#include "cli/program.hpp"

namespace drover::test::cli {
namespace {

bool contained_here(const Scratch& scratch) { return run(scratch, {"doctor", "--json"}).last_json()["layers"]["containment"] != "absent"; }

TEST(Selftest, EveryEnforcerHoldsOnThisHost) {
  const Scratch scratch;
  if (!contained_here(scratch)) GTEST_SKIP() << "this host contains nothing";
  const Ended ended = run(scratch, {"selftest", "--json"});
  const json result = ended.last_json();
  EXPECT_EQ(ended.status, 0) << ended.all();
  EXPECT_EQ(result["failed"], 0) << result.dump(1);
  EXPECT_GE(result["cases"].size(), 13u);
  EXPECT_FALSE(fs::exists(scratch / "drover-jobs")) << "it leaves nothing here";
}

TEST(Audit, NamesWhoHoldsAndWhoWritesHoweverShortly) {
  const Scratch scratch;
  fs::create_directory(scratch / "store");
  const Ended nobody = run(scratch, {"audit", "store"});
  EXPECT_TRUE(nobody.status == 0 || nobody.status == 1) << nobody.all();
  {
    std::ofstream held(scratch / "store/held");
    const Ended found = run(scratch, {"audit", "store", "--json"});
    EXPECT_EQ(found.status, 4) << found.all();
    ASSERT_EQ(found.last_json()["foreign"].size(), 1u);
    EXPECT_EQ(found.last_json()["foreign"][0]["pid"], ::getpid());
    EXPECT_EQ(found.last_json()["foreign"][0]["writes"], true);
  }
  if (::geteuid() != 0) GTEST_SKIP() << "watching for writers needs root";
  Started watching(scratch, drover({"audit", "store", "--watch", "1500ms", "--json"}));
  int round = 0;
  EXPECT_TRUE(eventually([&] {
    std::ofstream(scratch / "store/short") << round++;  // open, write, close: between two looks at /proc
    return watching.has_ended();
  }));
  const Ended found = watching.wait();
  if (found.err.find("fanotify") != std::string::npos) GTEST_SKIP() << found.err;
  EXPECT_EQ(found.status, 4) << found.all();
  EXPECT_NE(found.out.find("store/short"), std::string::npos) << found.all();
}

}  // namespace
}  // namespace drover::test::cli
