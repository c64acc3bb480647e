#include "store/durable_file.hpp"

namespace drover::store {

Result<StagedFile> StagedFile::open(FileSystem& fs, const std::string& directory, const std::string& name) {
  auto unnamed = fs.open_unnamed(directory);
  if (unnamed) return StagedFile(fs, std::move(*unnamed), directory + "/" + name, {});
  if (unnamed.error().code() != ErrorCode::unavailable) return std::unexpected(std::move(unnamed).error());
  const std::string temporary = directory + "/" + name + ".tmp";
  auto named = fs.open(temporary, OpenMode::create_new);
  if (!named && named.error().code() == ErrorCode::exists) {  // left by a crash; there is one writer, so nobody is at it
    DROVER_CHECK(fs.unlink(temporary));
    named = fs.open(temporary, OpenMode::create_new);
  }
  if (!named) return std::unexpected(std::move(named).error());
  return StagedFile(fs, std::move(*named), directory + "/" + name, temporary);
}

StagedFile::~StagedFile() {
  if (file_ != nullptr && !temporary_.empty()) (void)fs_->unlink(temporary_);
}

Result<> StagedFile::publish_as(const std::string& path) {
  if (temporary_.empty()) return fs_->link_unnamed(*file_, path);
  DROVER_CHECK(fs_->rename_no_replace(temporary_, path));
  temporary_.clear();
  return {};
}

}  // namespace drover::store
