#pragma once
/// One way to give bytes a new name so that they are there, whole, after a power loss - or not at all. Private to store.

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "drover/types/error.hpp"
#include "os/file_system.hpp"

namespace drover::store {

/// A file being written without a final name: O_TMPFILE where there is one, `<name>.tmp` in the same directory otherwise.
/// Gone without publish() it leaves nothing (a crash leaves the .tmp at most).
class StagedFile {
 public:
  static Result<StagedFile> open(FileSystem& fs, const std::string& directory, const std::string& name);
  StagedFile(StagedFile&&) noexcept = default;
  StagedFile& operator=(StagedFile&&) = delete;
  ~StagedFile();

  File& file() { return *file_; }
  /// After this the bytes are on disk; not yet the name. An error means the file must be abandoned.
  Result<> sync() { return file_->sync(); }
  /// Gives the file its name; ErrorCode::exists if taken. The name is durable after sync_directory.
  Result<> publish() { return publish_as(path_); }
  /// The same under another name in the same directory, for names that depend on the bytes.
  Result<> publish_as(const std::string& path);

 private:
  StagedFile(FileSystem& fs, std::unique_ptr<File> file, std::string path, std::string temporary)
      : fs_(&fs), file_(std::move(file)), path_(std::move(path)), temporary_(std::move(temporary)) {}
  FileSystem* fs_;
  std::unique_ptr<File> file_;
  std::string path_;
  std::string temporary_;   // empty: unnamed
};

}  // namespace drover::store
