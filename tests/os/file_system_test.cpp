// Goal: the posix FileSystem does what its header promises, errors included. Method: a fresh directory per test.

#include "os/file_system.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

namespace drover::test {
namespace {

class FileSystemTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/drover-fs-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
  }
  void TearDown() override { remove_all(directory_); }
  void remove_all(const std::string& path) {
    for (const std::string& name : fs_.list(path).value_or(std::vector<std::string>{})) {
      const std::string inner = path + "/" + name;
      if (!fs_.unlink(inner)) remove_all(inner);
    }
    (void)fs_.remove_directory(path);
  }
  std::string in(const std::string& name) { return directory_ + "/" + name; }
  static std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

  FileSystem& fs_ = posix_file_system();
  std::string directory_;
};

TEST_F(FileSystemTest, CreateNewRefusesATakenNameAndOthersKeepWhatIsThere) {
  auto file = fs_.open(in("a"), OpenMode::create_new);
  ASSERT_TRUE(file);
  ASSERT_TRUE((*file)->write_at(0, bytes("hello")));
  EXPECT_EQ(fs_.open(in("a"), OpenMode::create_new).error().code(), ErrorCode::exists);
  ASSERT_TRUE(fs_.open(in("a"), OpenMode::create_or_open));
  EXPECT_EQ(fs_.read_file(in("a")).value(), "hello");
  EXPECT_EQ(fs_.open(in("b"), OpenMode::read).error().code(), ErrorCode::not_found);
  EXPECT_EQ(fs_.open(in("b"), OpenMode::read_write).error().code(), ErrorCode::not_found);
  EXPECT_EQ(fs_.open(in("b"), OpenMode::read).error().what(), "open '" + in("b") + "': No such file or directory");
  auto log = fs_.open(in("a"), OpenMode::append);
  ASSERT_TRUE(log);
  ASSERT_TRUE((*log)->write_at(0, bytes(" again")));
  EXPECT_EQ(fs_.read_file(in("a")).value(), "hello again");
}

TEST_F(FileSystemTest, EveryDescriptorIsCloseOnExec) {
  for (const OpenMode mode : {OpenMode::create_new, OpenMode::read, OpenMode::read_write, OpenMode::create_or_open, OpenMode::append}) {
    auto file = fs_.open(in("a"), mode);
    ASSERT_TRUE(file);
    EXPECT_NE(::fcntl((*file)->descriptor(), F_GETFD) & FD_CLOEXEC, 0);
  }
}

TEST_F(FileSystemTest, ReadsAreShortOnlyAtTheEnd) {
  auto file = fs_.open(in("a"), OpenMode::create_new);
  ASSERT_TRUE(file && (*file)->write_at(3, bytes("xyz")));
  char buffer[10] = {};
  EXPECT_EQ((*file)->read_at(1, std::as_writable_bytes(std::span(buffer))).value(), 5u);
  EXPECT_EQ(std::string_view(buffer, 5), std::string_view("\0\0xyz", 5));
  EXPECT_EQ((*file)->read_at(6, std::as_writable_bytes(std::span(buffer))).value(), 0u);
  EXPECT_EQ((*file)->stat()->size_bytes, 6u);
  ASSERT_TRUE((*file)->truncate(2));
  EXPECT_EQ((*file)->stat()->size_bytes, 2u);
  ASSERT_TRUE((*file)->allocate(1 << 20));
  EXPECT_EQ((*file)->stat()->size_bytes, 1u << 20);
  EXPECT_TRUE((*file)->sync());
}

TEST_F(FileSystemTest, AnUnnamedFileIsNamedOnceAndNeverReplaces) {
  auto file = fs_.open_unnamed(directory_);
  if (!file && file.error().code() == ErrorCode::unavailable) GTEST_SKIP() << file.error().what();
  ASSERT_TRUE(file) << file.error().what();
  ASSERT_TRUE((*file)->write_at(0, bytes("checkpoint")));
  EXPECT_TRUE(fs_.list(directory_)->empty());
  ASSERT_TRUE(fs_.link_unnamed(**file, in("1")));
  EXPECT_EQ(fs_.read_file(in("1")).value(), "checkpoint");
  auto second = fs_.open_unnamed(directory_);
  ASSERT_TRUE(second);
  EXPECT_EQ(fs_.link_unnamed(**second, in("1")).error().code(), ErrorCode::exists);
  EXPECT_EQ(fs_.read_file(in("1")).value(), "checkpoint");
  EXPECT_TRUE(fs_.sync_directory(directory_));
}

TEST_F(FileSystemTest, RenameReplacesAndRenameNoReplaceDoesNot) {
  ASSERT_TRUE(fs_.replace_file(in("a"), "A"));
  ASSERT_TRUE(fs_.replace_file(in("b"), "B"));
  EXPECT_EQ(fs_.rename_no_replace(in("a"), in("b")).error().code(), ErrorCode::exists);
  EXPECT_EQ(fs_.read_file(in("b")).value(), "B");
  ASSERT_TRUE(fs_.rename(in("a"), in("b")));
  EXPECT_EQ(fs_.read_file(in("b")).value(), "A");
  ASSERT_TRUE(fs_.rename_no_replace(in("b"), in("c")));
  EXPECT_EQ(fs_.list(directory_).value(), std::vector<std::string>{"c"});
  EXPECT_EQ(fs_.unlink(in("b")).error().code(), ErrorCode::not_found);
}

TEST_F(FileSystemTest, ReplaceFileLeavesNoTemporaryAndTakesALeftOverOneAway) {
  ASSERT_TRUE(fs_.replace_file(in("a.new"), "left over by a crash"));
  ASSERT_TRUE(fs_.replace_file(in("a"), "one"));
  ASSERT_TRUE(fs_.replace_file(in("a"), "two"));
  EXPECT_EQ(fs_.read_file(in("a")).value(), "two");
  EXPECT_EQ(fs_.list(directory_).value(), std::vector<std::string>{"a"});
}

TEST_F(FileSystemTest, ALockIsHeldByOneAndGoesWithItsProcess) {
  auto mine = fs_.open(in("lock"), OpenMode::create_or_open);
  auto other = fs_.open(in("lock"), OpenMode::create_or_open);
  ASSERT_TRUE(mine && other);
  ASSERT_TRUE((*mine)->try_lock_exclusive());
  EXPECT_EQ((*other)->try_lock_exclusive().error().code(), ErrorCode::busy);
  mine->reset();
  EXPECT_TRUE((*other)->try_lock_exclusive());
  other->reset();
  const pid_t child = ::fork();
  if (child == 0) {
    auto held = fs_.open(in("lock"), OpenMode::create_or_open);
    if (!held || !(*held)->try_lock_exclusive()) ::_exit(1);
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status));
  auto again = fs_.open(in("lock"), OpenMode::create_or_open);
  EXPECT_TRUE((*again)->try_lock_exclusive());
}

TEST_F(FileSystemTest, DirectoriesAreMadeWithTheirParentsAndListedSorted) {
  ASSERT_TRUE(fs_.make_directories(in("x/y/z")));
  ASSERT_TRUE(fs_.make_directories(in("x/y/z")));
  EXPECT_EQ(fs_.make_directory(in("x")).error().code(), ErrorCode::exists);
  for (const char* name : {"b", "a", "c"}) ASSERT_TRUE(fs_.replace_file(in(std::string("x/") + name), ""));
  EXPECT_EQ(fs_.list(in("x")).value(), (std::vector<std::string>{"a", "b", "c", "y"}));
  EXPECT_EQ(fs_.stat(in("x"))->kind, FileKind::directory);
  EXPECT_EQ(fs_.stat(in("x/a"))->kind, FileKind::regular);
  EXPECT_TRUE(fs_.exists(in("x/y")).value());
  EXPECT_FALSE(fs_.exists(in("nothing")).value());
  EXPECT_EQ(fs_.list(in("nothing")).error().code(), ErrorCode::not_found);
  EXPECT_GT(fs_.space(directory_)->total_bytes, 0u);
}

TEST_F(FileSystemTest, ReadFileRefusesWhatIsLargerThanAskedFor) {
  ASSERT_TRUE(fs_.replace_file(in("big"), std::string(200'000, 'x')));
  EXPECT_EQ(fs_.read_file(in("big"))->size(), 200'000u);
  EXPECT_EQ(fs_.read_file(in("big"), 199'999).error().code(), ErrorCode::no_space);
}

TEST_F(FileSystemTest, AFullDeviceIsAnErrorOfItsOwnKind) {
  auto full = fs_.open("/dev/full", OpenMode::read_write);
  ASSERT_TRUE(full);
  EXPECT_EQ((*full)->write_at(0, bytes("x")).error().code(), ErrorCode::no_space);
}

}  // namespace
}  // namespace drover::test
