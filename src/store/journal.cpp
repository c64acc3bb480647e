#include "drover/journal.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <vector>

#include "drover/types/random.hpp"
#include "os/file_system.hpp"
#include "store/hash.hpp"

namespace drover {
namespace {

constexpr char kMagic[8] = {'D', 'R', 'V', 'R', 'J', 'R', 'N', '1'};
/// Before each record; checks itself too, so that a wrong size is never followed.
struct Head {
  std::uint32_t size = 0;
  std::uint32_t check = 0;  ///< of size and hash
  std::uint64_t hash = 0;   ///< of the record

  static Head of(BytesView record) {
    Head head{.size = static_cast<std::uint32_t>(record.size()), .hash = store::xxh3_64(record)};
    head.check = head.checked();
    return head;
  }
  std::uint32_t checked() const { return static_cast<std::uint32_t>(splitmix64(hash ^ splitmix64(size))) | 1; }
};
constexpr std::size_t kHead = sizeof(Head);
static_assert(kHead == 16);

Result<void> read_exactly(File& file, std::uint64_t at, std::span<std::byte> into) {
  DROVER_TRY(const std::size_t got, file.read_at(at, into));
  return got == into.size() ? Result<void>() : fail(ErrorCode::corrupt, "the journal ended while it was read");
}

Result<bool> only_zeros(File& file, std::uint64_t from, std::uint64_t end) {
  std::vector<std::byte> piece(1 << 16);
  while (from < end) {
    const auto part = std::span(piece).first(static_cast<std::size_t>(std::min<std::uint64_t>(piece.size(), end - from)));
    DROVER_CHECK(read_exactly(file, from, part));
    if (std::ranges::any_of(part, [](std::byte one) { return one != std::byte{}; })) return false;
    from += part.size();
  }
  return true;
}

}  // namespace

struct Journal::Impl {
  std::unique_ptr<File> file;
  std::string path;
  std::uint64_t end = 0, records = 0;
  std::atomic<bool> spoiled{false};
  std::vector<std::byte> frame;
};

Journal::Journal(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Journal::Journal(Journal&&) noexcept = default;
Journal& Journal::operator=(Journal&&) noexcept = default;
Journal::~Journal() = default;
std::uint64_t Journal::records() const { return impl_->records; }

Result<Journal> Journal::open(const std::string& path, const std::function<Result<void>(BytesView)>& each) {
  FileSystem& fs = posix_file_system();
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  DROVER_TRY(impl->file, fs.open(path, OpenMode::create_or_open));
  File& file = *impl->file;
  DROVER_CHECK(file.try_lock_exclusive());
  DROVER_TRY(const FileStat stat, file.stat());
  const auto damaged = [&](std::uint64_t at, const std::string& what) { return fail(ErrorCode::corrupt, "'" + path + "', offset " + std::to_string(at) + ": " + what, "put back a copy, or begin a new job"); };
  if (stat.size_bytes < sizeof kMagic) {  // new, or cut off in its first write
    DROVER_CHECK(file.truncate(0));
    DROVER_CHECK(file.write_at(0, std::as_bytes(std::span(kMagic))));
    DROVER_CHECK(file.sync());
    DROVER_CHECK(fs.sync_directory(std::filesystem::path(path).parent_path().string()));
    impl->end = sizeof kMagic;
    return Journal(std::move(impl));
  }
  char magic[sizeof kMagic];
  DROVER_CHECK(read_exactly(file, 0, std::as_writable_bytes(std::span(magic))));
  if (std::memcmp(magic, kMagic, sizeof magic) != 0) return damaged(0, "no journal");
  std::uint64_t at = sizeof kMagic;
  std::vector<std::byte> record;
  while (at < stat.size_bytes) {
    const std::uint64_t left = stat.size_bytes - at;
    if (left < kHead) break;
    Head head;
    DROVER_CHECK(read_exactly(file, at, std::as_writable_bytes(std::span(&head, 1))));
    if (head.check != head.checked()) {
      // A power failure leaves pages that were never written: zeros, to the end.
      DROVER_TRY(const bool unwritten, only_zeros(file, head.check == 0 ? at + sizeof head.size : at, stat.size_bytes));
      if (!unwritten) return damaged(at, "a record is not what was written");
      break;
    }
    if (head.size > left - kHead) break;
    record.resize(head.size);
    DROVER_CHECK(read_exactly(file, at + kHead, record));
    if (store::xxh3_64(record) != head.hash) {
      if (kHead + head.size != left) return damaged(at, "a record is not what was written");
      break;
    }
    DROVER_CHECK(each(record));
    ++impl->records;
    at += kHead + head.size;
  }
  if (at != stat.size_bytes) {
    DROVER_CHECK(file.truncate(at));
    DROVER_CHECK(file.sync());
  }
  impl->end = at;
  return Journal(std::move(impl));
}

Result<void> Journal::append(BytesView record) {
  Impl& i = *impl_;
  if (record.empty() || record.size() > kRecordBytesMax) return fail(ErrorCode::usage, "a record of " + std::to_string(record.size()) + " bytes");
  if (i.spoiled) return fail(ErrorCode::closed, "'" + i.path + "': an earlier write to it failed");
  const Head head = Head::of(record);
  i.frame.resize(kHead + record.size());
  std::memcpy(i.frame.data(), &head, kHead);
  std::memcpy(i.frame.data() + kHead, record.data(), record.size());
  if (auto written = i.file->write_at(i.end, i.frame); !written) {
    // As if it had not been tried; where even that fails, nothing may be put behind the half of it.
    if (!i.file->truncate(i.end)) i.spoiled = true;
    return written;
  }
  i.end += i.frame.size();
  ++i.records;
  return {};
}

Result<void> Journal::sync() {
  if (impl_->spoiled) return fail(ErrorCode::closed, "'" + impl_->path + "': an earlier write to it failed");
  auto synced = impl_->file->sync();
  if (!synced) impl_->spoiled = true;
  return synced;
}

}  // namespace drover
