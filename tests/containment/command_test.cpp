// Goal: a foreign command can be run, watched and ended, and nothing of it is ever left. Method: real commands and the evil
// family of tests/evil, whose members hold a pipe as long as they live; every wait is bounded.

#include <gtest/gtest.h>

#include <csignal>
#include <fstream>

#include "drover/command.hpp"
#include "keeper/support.hpp"

namespace drover::test {
namespace {

std::vector<std::string> path_only() { return {"PATH=/usr/bin:/bin"}; }

Result<Command> start(std::vector<std::string> argv, CommandSpec spec = {}) {
  spec.argv = std::move(argv);
  if (spec.env.empty()) spec.env = path_only();
  return Command::start(spec, in(Seconds(10)));
}

struct Story {
  std::string output;
  std::vector<std::pair<std::string, std::string>> notices;
  std::optional<command::Ended> ended;
};

/// Everything until its end, or ten seconds.
Story story_of(Command& command) {
  Story story;
  const TimePoint deadline = in(Seconds(10));
  while (!story.ended) {
    auto event = command.next(deadline);
    if (!event) break;
    if (auto* output = std::get_if<command::Output>(&*event)) story.output += output->bytes;
    if (auto* notice = std::get_if<command::Notice>(&*event)) story.notices.emplace_back(notice->name, notice->value);
    if (auto* end = std::get_if<command::Ended>(&*event)) story.ended = *end;
  }
  return story;
}

TEST(Command, ItsOutputComesBeforeItsEnd) {
  auto command = start({"sh", "-c", "echo one; echo two >&2; exit 7"});
  ASSERT_TRUE(command) << command.error().what();
  const Story story = story_of(*command);
  EXPECT_EQ(story.output, "one\ntwo\n");
  ASSERT_TRUE(story.ended);
  EXPECT_FALSE(story.ended->signalled);
  EXPECT_EQ(story.ended->code_or_signal, 7);
  EXPECT_TRUE(command->end(in(Seconds(5))));
}

TEST(Command, ItIsNotPidOneAndDiesOfItsOwnSignals) {
  auto command = start({"sh", "-c", "[ $$ -ne 1 ] || exit 9; kill -TERM $$"});
  ASSERT_TRUE(command) << command.error().what();
  const Story story = story_of(*command);
  ASSERT_TRUE(story.ended);
  EXPECT_TRUE(story.ended->signalled);
  EXPECT_EQ(story.ended->code_or_signal, SIGTERM);
}

TEST(Command, AScriptRunsWithTheArgumentsTheKernelWouldGive) {
  const std::string script = testing::TempDir() + "/drover-script-" + std::to_string(::getpid());
  std::ofstream(script) << "#!/bin/sh -e\necho \"$1/$2\"\nfalse\necho not reached\n";
  ASSERT_EQ(::chmod(script.c_str(), 0755), 0);
  auto command = start({script, "a b", "c"});
  ASSERT_TRUE(command) << command.error().what();
  const Story story = story_of(*command);
  EXPECT_EQ(story.output, "a b/c\n");
  ASSERT_TRUE(story.ended);
  EXPECT_EQ(story.ended->code_or_signal, 1);
  ::unlink(script.c_str());
}

TEST(Command, WhatCannotBeExecutedIsSaidInOneLine) {
  EXPECT_EQ(start({"no-such-program"}).error().what(), "cannot execute 'no-such-program': no such program in PATH");
  EXPECT_EQ(start({"/nowhere/at-all"}).error().code(), ErrorCode::not_found);
  EXPECT_EQ(start({"/etc/passwd"}).error().code(), ErrorCode::refused);
  EXPECT_EQ(start({"/tmp"}).error().code(), ErrorCode::refused);
  EXPECT_EQ(start({}).error().code(), ErrorCode::refused);
}

TEST(Command, NothingIsLeftOfAFamilyThatTriesToStay) {
  for (const bool by_end : {true, false}) {
    Pipe pipe;
    {
      // Descriptor 3 of the family is the pipe: a shell hands it down under that number.
      const std::string held = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(pipe.write_end.get());
      auto command = start({"sh", "-c", "exec 3>" + held + "; exec " + evil_path("tree")});
      ASSERT_TRUE(command) << command.error().what();
      ASSERT_TRUE(pipe.wait_bytes(8, in(Seconds(10))));
      EXPECT_GE(command->usage().processes, 8u);
      if (by_end) {
        EXPECT_TRUE(command->end(in(Seconds(5))));
      }
    }
    EXPECT_TRUE(pipe.wait_end(in(Seconds(5)))) << (by_end ? "end()" : "the destructor") << " left somebody";
  }
}

TEST(Command, ADaemonThatEndsOfItselfLeavesTheOthersAlone) {
  // Two daemons; one ends after 0.1 s, the other and the command live on. An init that swept at every death would kill the second.
  Pipe pipe;
  const std::string held = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(pipe.write_end.get());
  auto command = start({"sh", "-c", "(setsid sh -c 'echo x >" + held + "; exec sleep 1000' &); (setsid sleep 0.1 &); exec sleep 1000"});
  ASSERT_TRUE(command) << command.error().what();
  ASSERT_TRUE(pipe.wait_bytes(1, in(Seconds(10))));
  const auto second_lives = [&] { return command->usage().processes >= 2; };
  EXPECT_TRUE(second_lives());
  EXPECT_FALSE(command->next(in(Millis(200)))) << "nothing happened, and nothing is told";  // sleep: the absence of an event
  EXPECT_TRUE(second_lives());
  EXPECT_TRUE(command->end(in(Seconds(5))));
}

TEST(Command, CpuTimeOfTheWholeTreeIsCounted) {
  auto command = start({"sh", "-c", "(while :; do :; done) & (while :; do :; done) & wait"});
  ASSERT_TRUE(command) << command.error().what();
  const TimePoint deadline = in(Seconds(20));
  while (command->usage().cpu < Millis(300) && system_clock().now() < deadline) (void)command->next(in(Millis(20)));
  EXPECT_GE(command->usage().cpu, Millis(300));
  EXPECT_TRUE(command->end(in(Seconds(5))));
}

TEST(Command, NoticesOfSdNotifyArriveOneByOne) {
  CommandSpec spec;
  spec.notify_directory = testing::TempDir();
  auto command = start({"python3", "-c",
                        "import os,socket\n"
                        "s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\n"
                        "s.sendto(b'READY=1\\nSTATUS=epoch 3',os.environ['NOTIFY_SOCKET'])\n"},
                       std::move(spec));
  if (!command && command.error().code() == ErrorCode::not_found) GTEST_SKIP() << "python3 is not installed";
  ASSERT_TRUE(command) << command.error().what();
  Story story = story_of(*command);
  // A datagram sent just before the exit may be read after it.
  while (auto event = command->next(in(Millis(50))))
    if (auto* notice = std::get_if<command::Notice>(&*event)) story.notices.emplace_back(notice->name, notice->value);
  ASSERT_EQ(story.notices.size(), 2u) << story.output;
  EXPECT_EQ(story.notices[0], (std::pair<std::string, std::string>("READY", "1")));
  EXPECT_EQ(story.notices[1], (std::pair<std::string, std::string>("STATUS", "epoch 3")));
}

TEST(Command, AnInitThatIsKilledTakesTheCommandWithItAndIsTold) {
  Pipe pipe;
  const std::string held = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(pipe.write_end.get());
  auto command = start({"sh", "-c", "exec 3>" + held + "; exec " + evil_path("tree")});
  ASSERT_TRUE(command) << command.error().what();
  if (command->containment() == LimitLayer::absent) GTEST_SKIP() << "no PID namespace here";
  ASSERT_TRUE(pipe.wait_bytes(8, in(Seconds(10))));
  // Its init is the parent of the command: field 4 of stat.
  std::ifstream stat("/proc/" + std::to_string(command->host_pid()) + "/stat");
  std::string pid, name, state;
  int init = 0;
  stat >> pid >> name >> state >> init;
  ASSERT_GT(init, 1);
  ASSERT_EQ(::kill(init, SIGKILL), 0);
  const Story story = story_of(*command);
  ASSERT_TRUE(story.ended);
  EXPECT_EQ(story.ended->code_or_signal, SIGKILL);
  EXPECT_TRUE(pipe.wait_end(in(Seconds(5))));
}

}  // namespace
}  // namespace drover::test
