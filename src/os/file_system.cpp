/// FileSystem's shared helpers and its posix implementation.

#include "os/file_system.hpp"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "base/assert.hpp"
#include "os/unique_fd.hpp"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

namespace drover {
namespace {

std::string quoted(std::string_view verb, const std::string& path) { return std::string(verb) + " '" + path + "'"; }

FileStat stat_of(const struct stat& facts) {
  FileStat result;
  result.kind = S_ISREG(facts.st_mode)   ? FileKind::regular
                : S_ISDIR(facts.st_mode) ? FileKind::directory
                : S_ISLNK(facts.st_mode) ? FileKind::symlink
                                         : FileKind::other;
  result.size_bytes = static_cast<std::uint64_t>(facts.st_size);
  result.inode = facts.st_ino;
  result.modified_unix_ns = std::int64_t{facts.st_mtim.tv_sec} * 1'000'000'000 + facts.st_mtim.tv_nsec;
  return result;
}

class PosixFile final : public File {
 public:
  PosixFile(UniqueFd fd, std::string path, bool append) : fd_(std::move(fd)), path_(std::move(path)), append_(append) {}

  Result<std::size_t> read_at(std::uint64_t offset, std::span<std::byte> into) override {
    std::size_t have = 0;
    while (have < into.size()) {
      const ssize_t got = ::pread(fd_.get(), into.data() + have, into.size() - have, static_cast<off_t>(offset + have));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return fail_errno(errno, quoted("read", path_));
      if (got == 0) break;
      have += static_cast<std::size_t>(got);
    }
    return have;
  }

  Result<void> write_at(std::uint64_t offset, std::span<const std::byte> bytes) override {
    std::size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t sent = append_ ? ::write(fd_.get(), bytes.data() + done, bytes.size() - done)
                                   : ::pwrite(fd_.get(), bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
      if (sent < 0 && errno == EINTR) continue;
      if (sent <= 0) return fail_errno(sent < 0 ? errno : EIO, quoted("write", path_));
      done += static_cast<std::size_t>(sent);
    }
    return {};
  }

  Result<void> sync() override {
    if (::fsync(fd_.get()) != 0) return fail_errno(errno, quoted("sync", path_));
    return {};
  }

  Result<void> truncate(std::uint64_t size_bytes) override {
    if (::ftruncate(fd_.get(), static_cast<off_t>(size_bytes)) != 0) return fail_errno(errno, quoted("truncate", path_));
    return {};
  }

  Result<void> allocate(std::uint64_t size_bytes) override {
    if (size_bytes == 0) return {};
    if (const int error = ::posix_fallocate(fd_.get(), 0, static_cast<off_t>(size_bytes)); error != 0)
      return fail_errno(error, quoted("reserve space for", path_));
    return {};
  }

  Result<FileStat> stat() override {
    struct stat facts{};
    if (::fstat(fd_.get(), &facts) != 0) return fail_errno(errno, quoted("stat", path_));
    return stat_of(facts);
  }

  Result<void> try_lock_exclusive() override {
    int result = 0;
    do result = ::flock(fd_.get(), LOCK_EX | LOCK_NB);
    while (result != 0 && errno == EINTR);
    if (result == 0) return {};
    if (errno == EWOULDBLOCK) return fail(ErrorCode::busy, quoted("lock", path_) + ": somebody else holds it");
    return fail_errno(errno, quoted("lock", path_));
  }

  int descriptor() const override { return fd_.get(); }

 private:
  UniqueFd fd_;
  std::string path_;
  bool append_;
};

class PosixFileSystem final : public FileSystem {
 public:
  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode, std::uint32_t permissions) override {
    int flags = O_CLOEXEC | O_NOCTTY;
    switch (mode) {
      case OpenMode::read: flags |= O_RDONLY; break;
      case OpenMode::read_write: flags |= O_RDWR; break;
      case OpenMode::create_new: flags |= O_RDWR | O_CREAT | O_EXCL; break;
      case OpenMode::create_or_open: flags |= O_RDWR | O_CREAT; break;
      case OpenMode::append: flags |= O_WRONLY | O_CREAT | O_APPEND; break;
    }
    UniqueFd fd(::open(path.c_str(), flags, permissions));
    if (!fd) return fail_errno(errno, quoted("open", path));
    return std::make_unique<PosixFile>(std::move(fd), path, mode == OpenMode::append);
  }

  Result<std::unique_ptr<File>> open_unnamed(const std::string& directory, std::uint32_t permissions) override {
    UniqueFd fd(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, permissions));
    if (!fd) {
      // EISDIR: a kernel that knows directories only. EOPNOTSUPP: a file system without unnamed files.
      if (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)
        return fail(ErrorCode::unavailable, quoted("create an unnamed file in", directory) + ": this file system has none");
      return fail_errno(errno, quoted("create an unnamed file in", directory));
    }
    return std::make_unique<PosixFile>(std::move(fd), directory + "/(unnamed)", false);
  }

  Result<void> link_unnamed(File& file, const std::string& path) override {
    // AT_EMPTY_PATH on the descriptor itself needs CAP_DAC_READ_SEARCH; through /proc anyone may.
    const std::string from = "/proc/self/fd/" + std::to_string(file.descriptor());
    if (::linkat(AT_FDCWD, from.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) != 0) return fail_errno(errno, quoted("name", path));
    return {};
  }

  Result<void> rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) return fail_errno(errno, quoted("rename", from) + " to '" + to + "'");
    return {};
  }

  Result<void> rename_no_replace(const std::string& from, const std::string& to) override {
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return {};
    if (errno != EINVAL && errno != ENOSYS) return fail_errno(errno, quoted("rename", from) + " to '" + to + "'");
    // A file system without the flag: link refuses to replace, then the old name goes. Both names exist for a moment.
    if (::link(from.c_str(), to.c_str()) != 0) return fail_errno(errno, quoted("rename", from) + " to '" + to + "'");
    return unlink(from);
  }

  Result<void> unlink(const std::string& path) override {
    if (::unlink(path.c_str()) != 0) return fail_errno(errno, quoted("remove", path));
    return {};
  }

  Result<void> make_directory(const std::string& path, std::uint32_t permissions) override {
    if (::mkdir(path.c_str(), permissions) != 0) return fail_errno(errno, quoted("create directory", path));
    return {};
  }

  Result<void> remove_directory(const std::string& path) override {
    if (::rmdir(path.c_str()) != 0) return fail_errno(errno, quoted("remove directory", path));
    return {};
  }

  Result<void> sync_directory(const std::string& directory) override {
    const UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd) return fail_errno(errno, quoted("open directory", directory));
    if (::fsync(fd.get()) != 0) return fail_errno(errno, quoted("sync directory", directory));
    return {};
  }

  Result<std::vector<std::string>> list(const std::string& directory) override {
    DIR* stream = ::opendir(directory.c_str());
    if (stream == nullptr) return fail_errno(errno, quoted("list", directory));
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(stream)) {
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
      errno = 0;
    }
    const int error = errno;
    ::closedir(stream);
    if (error != 0) return fail_errno(error, quoted("list", directory));
    std::ranges::sort(names);
    return names;
  }

  Result<FileStat> stat(const std::string& path) override {
    struct stat facts{};
    if (::stat(path.c_str(), &facts) != 0) return fail_errno(errno, quoted("stat", path));
    return stat_of(facts);
  }

  Result<SpaceStat> space(const std::string& path) override {
    struct statvfs facts{};
    if (::statvfs(path.c_str(), &facts) != 0) return fail_errno(errno, quoted("read the free space of", path));
    return SpaceStat{.total_bytes = static_cast<std::uint64_t>(facts.f_blocks) * facts.f_frsize,
                     .available_bytes = static_cast<std::uint64_t>(facts.f_bavail) * facts.f_frsize};
  }
};

std::string parent_of(const std::string& path) {
  const auto slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

Result<bool> FileSystem::exists(const std::string& path) {
  auto facts = stat(path);
  if (facts) return true;
  if (facts.error().code() == ErrorCode::not_found) return false;
  return std::unexpected(std::move(facts).error());
}

Result<std::string> FileSystem::read_file(const std::string& path, std::uint64_t bytes_max) {
  DROVER_TRY(const std::unique_ptr<File> file, open(path, OpenMode::read));
  std::string text;
  for (;;) {  // until the end, not until the size of a moment ago: the file may grow, and /proc files have no size
    constexpr std::size_t kPart = 64 * 1024;
    const std::size_t have = text.size();
    text.resize(have + kPart);
    DROVER_TRY(const std::size_t got, file->read_at(have, std::as_writable_bytes(std::span(text.data() + have, kPart))));
    text.resize(have + got);
    if (text.size() > bytes_max)
      return fail(ErrorCode::no_space, "read '" + path + "': larger than " + std::to_string(bytes_max) + " bytes");
    if (got < kPart) return text;
  }
}

Result<void> FileSystem::make_directories(const std::string& path, std::uint32_t permissions) {
  DROVER_TRY(const bool there, exists(path));
  if (there) return {};
  if (const std::string parent = parent_of(path); parent != path) DROVER_CHECK(make_directories(parent, permissions));
  auto made = make_directory(path, permissions);
  if (!made && made.error().code() == ErrorCode::exists) return {};  // somebody else was faster
  return made;
}

Result<void> FileSystem::replace_file(const std::string& path, std::string_view bytes, std::uint32_t permissions) {
  const std::string temporary = path + ".new";
  if (auto gone = unlink(temporary); !gone && gone.error().code() != ErrorCode::not_found) return gone;  // left by a crash
  DROVER_TRY(const std::unique_ptr<File> file, open(temporary, OpenMode::create_new, permissions));
  auto written = file->write_at(0, std::as_bytes(std::span(bytes.data(), bytes.size())));
  if (written) written = file->sync();
  if (written) written = rename(temporary, path);
  if (!written) {
    (void)unlink(temporary);
    return written;
  }
  return sync_directory(parent_of(path));
}

FileSystem& posix_file_system() {
  static PosixFileSystem file_system;
  return file_system;
}

}  // namespace drover
