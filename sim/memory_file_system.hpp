#pragma once
/// A file system in memory that knows what a power loss would leave: every write and every change of a name is pending until its
/// file or directory is synced, and `power_loss` keeps any subset of what is pending (the ALICE model: Pillai et al., OSDI 2014).
/// A failed sync loses its pages for good, as Linux does ("fsyncgate"). One thread.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "os/file_system.hpp"

namespace drover::sim {

struct MemoryFileSystemOptions {
  bool ignore_file_sync = false;       ///< negative control: File::sync says yes and does nothing
  bool ignore_directory_sync = false;  ///< negative control: the same for sync_directory
  bool has_unnamed = true;             ///< O_TMPFILE
  bool network = false;
  bool tear_writes = true;             ///< a write may survive by halves, cut at a 512-byte sector if it is longer than one
  std::uint64_t capacity_bytes = ~std::uint64_t{0};  ///< no_space beyond
};

class MemoryFileSystem final : public FileSystem {
 public:
  explicit MemoryFileSystem(MemoryFileSystemOptions options = {});
  ~MemoryFileSystem() override;

  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode, std::uint32_t permissions) override;
  Result<std::unique_ptr<File>> open_unnamed(const std::string& directory, std::uint32_t permissions) override;
  Result<void> link_unnamed(File& file, const std::string& path) override;
  Result<void> rename(const std::string& from, const std::string& to) override;
  Result<void> rename_no_replace(const std::string& from, const std::string& to) override;
  Result<void> unlink(const std::string& path) override;
  Result<void> make_directory(const std::string& path, std::uint32_t permissions) override;
  Result<void> remove_directory(const std::string& path) override;
  Result<void> sync_directory(const std::string& directory) override;
  Result<std::vector<std::string>> list(const std::string& directory) override;
  Result<FileStat> stat(const std::string& path) override;
  Result<SpaceStat> space(const std::string& path) override;
  Result<bool> is_network(const std::string&) override { return options_.network; }

  // ---- What only a simulation can do ----
  /// From here on every call fails and changes nothing: the machine has stopped. Until power_loss().
  void stop() { stopped_ = true; }
  /// How many things are not on disk yet.
  std::size_t pending() const;
  /// The machine comes back with what was synced and those pending things, by index, that `survives` names; in their order.
  void power_loss(const std::function<bool(std::size_t)>& survives);
  /// The next sync of a file fails and forgets its pending pages.
  void lose_next_sync() { lose_next_sync_ = true; }
  /// Flips one bit behind everybody's back.
  Result<void> flip_bit(const std::string& path, std::uint64_t bit);
  std::uint64_t used_bytes() const;

 private:
  friend class MemoryFile;
  struct Inode;
  struct NameChange;
  using Names = std::map<std::string, std::shared_ptr<Inode>>;
  Result<void> change(NameChange change);
  static void apply(Names& names, const NameChange& change);
  Result<void> ready(const char* what, const std::string& path) const;

  MemoryFileSystemOptions options_;
  Names names_, durable_names_;
  std::vector<NameChange> pending_names_;
  std::vector<std::weak_ptr<Inode>> inodes_;
  std::uint64_t next_inode_ = 2;
  bool stopped_ = false;
  bool lose_next_sync_ = false;
};

}  // namespace drover::sim
