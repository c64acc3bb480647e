#include "sim/fault_file_system.hpp"

#include <utility>

namespace drover::sim {

class FaultFile final : public File {
 public:
  FaultFile(FaultFileSystem& fs, std::unique_ptr<File> below, std::string path) : fs_(fs), below_(std::move(below)), path_(std::move(path)) {}
  Result<std::size_t> read_at(std::uint64_t offset, std::span<std::byte> into) override {
    DROVER_CHECK(fs_.step("read", path_, false));
    return below_->read_at(offset, into);
  }
  Result<void> write_at(std::uint64_t offset, std::span<const std::byte> bytes) override {
    auto turn = fs_.step("write", path_, true);
    if (turn) return below_->write_at(offset, bytes);
    if (fs_.fault_.flips_a_bit && !bytes.empty()) {
      std::vector<std::byte> wrong(bytes.begin(), bytes.end());
      wrong[wrong.size() / 2] ^= std::byte{4};
      return below_->write_at(offset, wrong);
    }
    if (fs_.fault_.half_write) (void)below_->write_at(offset, bytes.first(bytes.size() / 2));
    return turn;
  }
  Result<void> sync() override {
    DROVER_CHECK(fs_.step("sync", path_, true));
    return below_->sync();
  }
  Result<void> truncate(std::uint64_t size_bytes) override {
    DROVER_CHECK(fs_.step("truncate", path_, true));
    return below_->truncate(size_bytes);
  }
  Result<void> allocate(std::uint64_t size_bytes) override {
    DROVER_CHECK(fs_.step("allocate", path_, true));
    return below_->allocate(size_bytes);
  }
  Result<FileStat> stat() override {
    DROVER_CHECK(fs_.step("stat", path_, false));
    return below_->stat();
  }
  Result<void> try_lock_exclusive() override {
    DROVER_CHECK(fs_.step("lock", path_, false));
    return below_->try_lock_exclusive();
  }
  int descriptor() const override { return below_->descriptor(); }
  File& below() { return *below_; }

 private:
  FaultFileSystem& fs_;
  std::unique_ptr<File> below_;
  std::string path_;
};

Result<void> FaultFileSystem::step(const char* verb, const std::string& path, bool writes) {
  if (fault_.writes_only && !writes) return {};
  ++calls_;
  std::string name = std::string(verb) + " '" + path + "'";
  names_.push_back(name);
  if (fault_.at_call == 0 || calls_ < fault_.at_call || calls_ - fault_.at_call >= fault_.calls) return {};
  hit_ = true;
  if (fault_.instead) {
    fault_.instead();
    return {};
  }
  return fail_errno(fault_.errno_value, name);
}

Result<std::unique_ptr<File>> FaultFileSystem::open(const std::string& path, OpenMode mode, std::uint32_t permissions) {
  DROVER_CHECK(step("open", path, mode != OpenMode::read));
  DROVER_TRY(std::unique_ptr<File> file, below_.open(path, mode, permissions));
  return std::make_unique<FaultFile>(*this, std::move(file), path);
}
Result<std::unique_ptr<File>> FaultFileSystem::open_unnamed(const std::string& directory, std::uint32_t permissions) {
  DROVER_CHECK(step("create an unnamed file in", directory, true));
  DROVER_TRY(std::unique_ptr<File> file, below_.open_unnamed(directory, permissions));
  return std::make_unique<FaultFile>(*this, std::move(file), directory + "/(unnamed)");
}
Result<void> FaultFileSystem::link_unnamed(File& file, const std::string& path) {
  DROVER_CHECK(step("name", path, true));
  return below_.link_unnamed(dynamic_cast<FaultFile&>(file).below(), path);
}
Result<void> FaultFileSystem::rename(const std::string& from, const std::string& to) {
  DROVER_CHECK(step("rename", from, true));
  return below_.rename(from, to);
}
Result<void> FaultFileSystem::rename_no_replace(const std::string& from, const std::string& to) {
  DROVER_CHECK(step("rename", from, true));
  return below_.rename_no_replace(from, to);
}
Result<void> FaultFileSystem::unlink(const std::string& path) {
  DROVER_CHECK(step("remove", path, true));
  return below_.unlink(path);
}
Result<void> FaultFileSystem::make_directory(const std::string& path, std::uint32_t permissions) {
  DROVER_CHECK(step("create directory", path, true));
  return below_.make_directory(path, permissions);
}
Result<void> FaultFileSystem::remove_directory(const std::string& path) {
  DROVER_CHECK(step("remove directory", path, true));
  return below_.remove_directory(path);
}
Result<void> FaultFileSystem::sync_directory(const std::string& directory) {
  DROVER_CHECK(step("sync directory", directory, true));
  return below_.sync_directory(directory);
}
Result<std::vector<std::string>> FaultFileSystem::list(const std::string& directory) {
  DROVER_CHECK(step("list", directory, false));
  return below_.list(directory);
}
Result<FileStat> FaultFileSystem::stat(const std::string& path) {
  DROVER_CHECK(step("stat", path, false));
  return below_.stat(path);
}
Result<SpaceStat> FaultFileSystem::space(const std::string& path) {
  DROVER_CHECK(step("space", path, false));
  return below_.space(path);
}

}  // namespace drover::sim
