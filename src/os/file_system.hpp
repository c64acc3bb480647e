#pragma once
/// The one door to files: everything that must survive goes through `FileSystem` and `File`, so that a fault-injecting twin
/// (sim/) can fail, tear or forget any single step. Who opens, owns the File; closing is its destructor and never fails.
///
/// Paths are absolute or relative to the working directory. Every open is close-on-exec. Errors carry the path and errno:
/// `open 'a.toml': No such file or directory`. Nothing here retries: an fsync that failed once has lost the pages, and the
/// caller must abandon the file (never fsync again and believe it).

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "drover/types/error.hpp"

namespace drover {

Result<bool> is_network_filesystem(const std::string& path);  // os/host.hpp

enum class OpenMode : std::uint8_t {
  read,            ///< must exist
  read_write,      ///< must exist
  create_new,      ///< read and write; ErrorCode::exists if the name is taken
  create_or_open,  ///< read and write; made empty if missing, kept as it is otherwise
  append,          ///< write only, created if missing; every write goes to the end whatever offset it names
};

enum class FileKind : std::uint8_t { regular, directory, symlink, other };

struct FileStat {
  FileKind kind = FileKind::other;
  std::uint64_t size_bytes = 0;
  std::uint64_t inode = 0;
  std::int64_t modified_unix_ns = 0;  ///< wall clock, for people only
};

struct SpaceStat {
  std::uint64_t total_bytes = 0;
  std::uint64_t available_bytes = 0;  ///< to this user
};

class File {
 public:
  virtual ~File() = default;

  /// Fills `into` from `offset`; fewer bytes only at the end of the file (0 = at or behind it).
  virtual Result<std::size_t> read_at(std::uint64_t offset, std::span<std::byte> into) = 0;
  /// Writes all of `bytes` or fails; after a failure any part may have been written.
  virtual Result<void> write_at(std::uint64_t offset, std::span<const std::byte> bytes) = 0;
  /// On return data and size are on disk (not the name: that is `sync_directory`).
  virtual Result<void> sync() = 0;
  virtual Result<void> truncate(std::uint64_t size_bytes) = 0;
  /// Takes disk blocks for [0, size_bytes) now, so that later writes there cannot meet a full disk.
  virtual Result<void> allocate(std::uint64_t size_bytes) = 0;
  virtual Result<FileStat> stat() = 0;
  /// Exclusive advisory lock on the open file (flock), dropped when the File goes or the process dies, however it dies.
  /// ErrorCode::busy if somebody else holds it. Never waits.
  virtual Result<void> try_lock_exclusive() = 0;
  /// The descriptor, for mmap or for handing to a child; -1 in a simulation.
  virtual int descriptor() const = 0;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;

  virtual Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode, std::uint32_t permissions = 0644) = 0;

  /// A file without a name in `directory` (O_TMPFILE); vanishes with its File unless linked.
  /// ErrorCode::unavailable where the file system has none: use `create_new` under a temporary name and `rename`.
  virtual Result<std::unique_ptr<File>> open_unnamed(const std::string& directory, std::uint32_t permissions = 0644) = 0;
  /// Gives an unnamed file its name. ErrorCode::exists if the name is taken: nothing is ever replaced. The name is durable
  /// after `sync_directory`.
  virtual Result<void> link_unnamed(File& file, const std::string& path) = 0;

  /// Atomic; replaces `to`. Durable after `sync_directory` of both directories.
  virtual Result<void> rename(const std::string& from, const std::string& to) = 0;
  /// Atomic; ErrorCode::exists if `to` is taken.
  virtual Result<void> rename_no_replace(const std::string& from, const std::string& to) = 0;
  virtual Result<void> unlink(const std::string& path) = 0;                                            ///< ErrorCode::not_found if missing
  virtual Result<void> make_directory(const std::string& path, std::uint32_t permissions = 0755) = 0;  ///< one level; exists
  virtual Result<void> remove_directory(const std::string& path) = 0;                                  ///< must be empty
  /// On return every name made, renamed or removed in `directory` before the call is on disk.
  virtual Result<void> sync_directory(const std::string& directory) = 0;
  /// Names in `directory`, sorted, without "." and "..".
  virtual Result<std::vector<std::string>> list(const std::string& directory) = 0;
  virtual Result<FileStat> stat(const std::string& path) = 0;  ///< follows links; not_found if missing
  virtual Result<SpaceStat> space(const std::string& path) = 0;
  /// Where locks, mapped pages and fsync do not mean what the ledger needs (os/host.hpp); a twin may claim it.
  virtual Result<bool> is_network(const std::string& path) { return is_network_filesystem(path); }

  // Built from the above, the same for every implementation.
  Result<bool> exists(const std::string& path);
  /// The whole file; ErrorCode::no_space if it is larger than `bytes_max`.
  Result<std::string> read_file(const std::string& path, std::uint64_t bytes_max = 64u << 20);
  /// `path` and every missing parent.
  Result<void> make_directories(const std::string& path, std::uint32_t permissions = 0755);
  /// Readers see the old or the new bytes, never a mixture, after a power loss too: temporary name beside `path`, write,
  /// sync, rename, sync of the directory. One writer per path.
  Result<void> replace_file(const std::string& path, std::string_view bytes, std::uint32_t permissions = 0644);
};

/// The real one. Stateless; lives for ever.
FileSystem& posix_file_system();

}  // namespace drover
