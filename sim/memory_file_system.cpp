#include "sim/memory_file_system.hpp"

#include <algorithm>
#include <cerrno>
#include <optional>

namespace drover::sim {
namespace {

std::string parent_of(const std::string& path) {
  const auto slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}
std::string quoted(const char* verb, const std::string& path) { return std::string(verb) + " '" + path + "'"; }

struct Change {                       // of a file's bytes
  bool truncates = false;
  std::uint64_t offset = 0;           // or the new size
  std::vector<std::byte> bytes{};
};
void apply_to(std::vector<std::byte>& data, const Change& change) {
  if (change.truncates) {
    data.resize(change.offset);
    return;
  }
  if (data.size() < change.offset + change.bytes.size()) data.resize(change.offset + change.bytes.size());
  std::ranges::copy(change.bytes, data.begin() + static_cast<std::ptrdiff_t>(change.offset));
}

}  // namespace

struct MemoryFileSystem::Inode {
  FileKind kind = FileKind::regular;
  std::uint64_t number = 0;
  std::vector<std::byte> data, durable;
  std::vector<Change> pending;
  const void* lock_owner = nullptr;
};

struct MemoryFileSystem::NameChange {
  std::string removed;                // path that goes, or empty
  std::string added;                  // path that comes, or empty
  std::shared_ptr<Inode> inode;
};

class MemoryFile final : public File {
 public:
  MemoryFile(MemoryFileSystem& fs, std::shared_ptr<MemoryFileSystem::Inode> inode, std::string path, bool append)
      : fs_(fs), inode_(std::move(inode)), path_(std::move(path)), append_(append) {}
  ~MemoryFile() override {
    if (inode_->lock_owner == this) inode_->lock_owner = nullptr;
  }

  Result<std::size_t> read_at(std::uint64_t offset, std::span<std::byte> into) override {
    DROVER_CHECK(fs_.ready("read", path_));
    const auto& data = inode_->data;
    if (offset >= data.size()) return std::size_t{0};
    const std::size_t n = std::min<std::size_t>(into.size(), data.size() - offset);
    std::copy_n(data.begin() + static_cast<std::ptrdiff_t>(offset), n, into.begin());
    return n;
  }
  Result<void> write_at(std::uint64_t offset, std::span<const std::byte> bytes) override {
    DROVER_CHECK(fs_.ready("write", path_));
    if (append_) offset = inode_->data.size();
    const std::uint64_t end = offset + bytes.size();
    const std::uint64_t grows = end > inode_->data.size() ? end - inode_->data.size() : 0;
    if (fs_.used_bytes() + grows > fs_.options_.capacity_bytes) return fail_errno(ENOSPC, quoted("write", path_));
    std::size_t half = bytes.size();
    if (fs_.options_.tear_writes && bytes.size() > 1) half = bytes.size() > 1024 ? bytes.size() / 2 / 512 * 512 : bytes.size() / 2;
    for (std::size_t at = 0; at < bytes.size(); at += half, half = bytes.size() - at) {
      Change change{.truncates = false, .offset = offset + at, .bytes = {bytes.begin() + static_cast<std::ptrdiff_t>(at), bytes.begin() + static_cast<std::ptrdiff_t>(at + half)}};
      apply_to(inode_->data, change);
      inode_->pending.push_back(std::move(change));
    }
    return {};
  }
  Result<void> sync() override {
    DROVER_CHECK(fs_.ready("sync", path_));
    if (fs_.lose_next_sync_) {
      fs_.lose_next_sync_ = false;
      inode_->pending.clear();        // marked clean: a later sync says yes and writes nothing of it
      return fail_errno(EIO, quoted("sync", path_));
    }
    if (fs_.options_.ignore_file_sync) return {};
    for (const Change& change : inode_->pending) apply_to(inode_->durable, change);
    inode_->pending.clear();
    return {};
  }
  Result<void> truncate(std::uint64_t size_bytes) override {
    DROVER_CHECK(fs_.ready("truncate", path_));
    Change change{.truncates = true, .offset = size_bytes};
    apply_to(inode_->data, change);
    inode_->pending.push_back(std::move(change));
    return {};
  }
  Result<void> allocate(std::uint64_t size_bytes) override {
    const std::uint64_t have = inode_->data.size();
    if (size_bytes > have && fs_.used_bytes() + (size_bytes - have) > fs_.options_.capacity_bytes) return fail_errno(ENOSPC, quoted("reserve space for", path_));
    return size_bytes > have ? truncate(size_bytes) : Result<void>{};
  }
  Result<FileStat> stat() override {
    DROVER_CHECK(fs_.ready("stat", path_));
    return FileStat{.kind = inode_->kind, .size_bytes = inode_->data.size(), .inode = inode_->number, .modified_unix_ns = 0};
  }
  Result<void> try_lock_exclusive() override {
    DROVER_CHECK(fs_.ready("lock", path_));
    if (inode_->lock_owner != nullptr && inode_->lock_owner != this) return fail(ErrorCode::busy, quoted("lock", path_) + ": somebody else holds it");
    inode_->lock_owner = this;
    return {};
  }
  int descriptor() const override { return -1; }

  const std::shared_ptr<MemoryFileSystem::Inode>& inode() const { return inode_; }

 private:
  MemoryFileSystem& fs_;
  std::shared_ptr<MemoryFileSystem::Inode> inode_;
  std::string path_;
  bool append_;
};

MemoryFileSystem::MemoryFileSystem(MemoryFileSystemOptions options) : options_(options) {
  auto root = std::make_shared<Inode>();
  root->kind = FileKind::directory;
  root->number = 1;
  names_["/"] = durable_names_["/"] = root;
}
MemoryFileSystem::~MemoryFileSystem() = default;

Result<void> MemoryFileSystem::ready(const char* what, const std::string& path) const {
  if (stopped_) return fail(ErrorCode::closed, quoted(what, path) + ": the machine has stopped");
  return {};
}

void MemoryFileSystem::apply(Names& names, const NameChange& change) {
  if (!change.removed.empty()) names.erase(change.removed);
  if (!change.added.empty()) names[change.added] = change.inode;
}

Result<void> MemoryFileSystem::change(NameChange change) {
  apply(names_, change);
  pending_names_.push_back(std::move(change));
  return {};
}

Result<std::unique_ptr<File>> MemoryFileSystem::open(const std::string& path, OpenMode mode, std::uint32_t) {
  DROVER_CHECK(ready("open", path));
  auto at = names_.find(path);
  const bool creates = mode != OpenMode::read && mode != OpenMode::read_write;
  if (at != names_.end() && mode == OpenMode::create_new) return fail_errno(EEXIST, quoted("open", path));
  if (at == names_.end()) {
    if (!creates || !names_.contains(parent_of(path))) return fail_errno(ENOENT, quoted("open", path));
    auto inode = std::make_shared<Inode>();
    inode->number = next_inode_++;
    inodes_.push_back(inode);
    DROVER_CHECK(change({.removed = {}, .added = path, .inode = inode}));
    at = names_.find(path);
  }
  return std::make_unique<MemoryFile>(*this, at->second, path, mode == OpenMode::append);
}

Result<std::unique_ptr<File>> MemoryFileSystem::open_unnamed(const std::string& directory, std::uint32_t) {
  DROVER_CHECK(ready("create an unnamed file in", directory));
  if (!options_.has_unnamed) return fail(ErrorCode::unavailable, quoted("create an unnamed file in", directory));
  if (!names_.contains(directory)) return fail_errno(ENOENT, quoted("create an unnamed file in", directory));
  auto inode = std::make_shared<Inode>();
  inode->number = next_inode_++;
  inodes_.push_back(inode);
  return std::make_unique<MemoryFile>(*this, std::move(inode), directory + "/(unnamed)", false);
}

Result<void> MemoryFileSystem::link_unnamed(File& file, const std::string& path) {
  DROVER_CHECK(ready("name", path));
  if (names_.contains(path)) return fail_errno(EEXIST, quoted("name", path));
  return change({.removed = {}, .added = path, .inode = dynamic_cast<MemoryFile&>(file).inode()});
}

Result<void> MemoryFileSystem::rename(const std::string& from, const std::string& to) {
  DROVER_CHECK(ready("rename", from));
  const auto at = names_.find(from);
  if (at == names_.end() || !names_.contains(parent_of(to))) return fail_errno(ENOENT, quoted("rename", from));
  return change({.removed = from, .added = to, .inode = at->second});
}
Result<void> MemoryFileSystem::rename_no_replace(const std::string& from, const std::string& to) {
  DROVER_CHECK(ready("rename", from));
  if (names_.contains(to)) return fail_errno(EEXIST, quoted("rename", from));
  return rename(from, to);
}
Result<void> MemoryFileSystem::unlink(const std::string& path) {
  DROVER_CHECK(ready("remove", path));
  const auto at = names_.find(path);
  if (at == names_.end()) return fail_errno(ENOENT, quoted("remove", path));
  if (at->second->kind == FileKind::directory) return fail_errno(EISDIR, quoted("remove", path));
  return change({.removed = path, .added = {}, .inode = nullptr});
}
Result<void> MemoryFileSystem::make_directory(const std::string& path, std::uint32_t) {
  DROVER_CHECK(ready("create directory", path));
  if (names_.contains(path)) return fail_errno(EEXIST, quoted("create directory", path));
  if (!names_.contains(parent_of(path))) return fail_errno(ENOENT, quoted("create directory", path));
  auto inode = std::make_shared<Inode>();
  inode->kind = FileKind::directory;
  inode->number = next_inode_++;
  return change({.removed = {}, .added = path, .inode = std::move(inode)});
}
Result<void> MemoryFileSystem::remove_directory(const std::string& path) {
  DROVER_CHECK(ready("remove directory", path));
  DROVER_TRY(const auto names, list(path));
  if (!names.empty()) return fail_errno(ENOTEMPTY, quoted("remove directory", path));
  return change({.removed = path, .added = {}, .inode = nullptr});
}

Result<void> MemoryFileSystem::sync_directory(const std::string& directory) {
  DROVER_CHECK(ready("sync directory", directory));
  if (!names_.contains(directory)) return fail_errno(ENOENT, quoted("sync directory", directory));
  if (options_.ignore_directory_sync) return {};
  std::erase_if(pending_names_, [&](const NameChange& c) {
    const bool here = (!c.removed.empty() && parent_of(c.removed) == directory) || (!c.added.empty() && parent_of(c.added) == directory);
    if (here) apply(durable_names_, c);
    return here;
  });
  return {};
}

Result<std::vector<std::string>> MemoryFileSystem::list(const std::string& directory) {
  DROVER_CHECK(ready("list", directory));
  if (!names_.contains(directory)) return fail_errno(ENOENT, quoted("list", directory));
  std::vector<std::string> names;
  for (const auto& [path, inode] : names_)
    if (path != "/" && parent_of(path) == directory) names.push_back(path.substr(path.find_last_of('/') + 1));
  return names;
}
Result<FileStat> MemoryFileSystem::stat(const std::string& path) {
  DROVER_CHECK(ready("stat", path));
  const auto at = names_.find(path);
  if (at == names_.end()) return fail_errno(ENOENT, quoted("stat", path));
  return FileStat{.kind = at->second->kind, .size_bytes = at->second->data.size(), .inode = at->second->number, .modified_unix_ns = 0};
}
Result<SpaceStat> MemoryFileSystem::space(const std::string& path) {
  DROVER_CHECK(ready("read the free space of", path));
  return SpaceStat{.total_bytes = options_.capacity_bytes, .available_bytes = options_.capacity_bytes - used_bytes()};
}

std::uint64_t MemoryFileSystem::used_bytes() const {
  std::uint64_t sum = 0;
  for (const auto& weak : inodes_)
    if (const auto inode = weak.lock()) sum += inode->data.size();
  return sum;
}

std::size_t MemoryFileSystem::pending() const {
  std::size_t n = pending_names_.size();
  for (const auto& weak : inodes_)
    if (const auto inode = weak.lock()) n += inode->pending.size();
  return n;
}

void MemoryFileSystem::power_loss(const std::function<bool(std::size_t)>& survives) {
  std::size_t index = 0;
  for (const NameChange& change : pending_names_)
    if (survives(index++)) apply(durable_names_, change);
  for (const auto& weak : inodes_) {
    const auto inode = weak.lock();
    if (!inode) continue;
    for (const Change& change : inode->pending)
      if (survives(index++)) apply_to(inode->durable, change);
  }
  pending_names_.clear();
  for (const auto& weak : inodes_)
    if (const auto inode = weak.lock()) {
      inode->pending.clear();
      inode->data = inode->durable;
      inode->lock_owner = nullptr;
    }
  // A name in a directory whose own name was lost is unreachable.
  std::erase_if(durable_names_, [&](const auto& entry) { return entry.first != "/" && !durable_names_.contains(parent_of(entry.first)); });
  names_ = durable_names_;
  stopped_ = false;
  std::erase_if(inodes_, [](const auto& weak) { return weak.expired(); });
}

Result<void> MemoryFileSystem::flip_bit(const std::string& path, std::uint64_t bit) {
  const auto at = names_.find(path);
  if (at == names_.end() || bit / 8 >= at->second->data.size()) return fail_errno(ENOENT, quoted("flip a bit of", path));
  at->second->data[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
  return {};
}

}  // namespace drover::sim
