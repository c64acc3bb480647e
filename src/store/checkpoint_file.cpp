#include "store/checkpoint_file.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "base/assert.hpp"
#include "os/map_file.hpp"
#include "store/durable_file.hpp"
#include "store/hash.hpp"

namespace drover::store {
namespace {

constexpr std::size_t kPart = std::size_t{8} << 20;   // writeback is started every 8 MiB: measured best, the final fsync is short

struct Digest {
  Sha256 sha256;
  std::uint64_t bytes = 0;
};

Result<Digest> digest_of(File& file, std::uint64_t bytes_expected) {
  std::vector<std::byte> buffer(static_cast<std::size_t>(std::min<std::uint64_t>(std::max<std::uint64_t>(bytes_expected, 1), std::uint64_t{1} << 20)));
  Sha256Stream stream;
  std::uint64_t at = 0;
  for (;;) {
    DROVER_TRY(const std::size_t got, file.read_at(at, buffer));
    stream.update(std::span(buffer).first(got));
    at += got;
    if (got < buffer.size()) break;
  }
  return Digest{stream.finish(), at};
}

std::string path_of(const std::string& directory, const CheckpointRow& row) { return directory + "/" + row.name; }

/// What is wrong with the file of a row, without the advice.
Result<> check_file(FileSystem& fs, const std::string& directory, const CheckpointRow& row, std::vector<std::byte>* keep) {
  const std::string path = path_of(directory, row);
  if (row.name.empty() || row.name.find('/') != std::string::npos) return fail(ErrorCode::corrupt, fmt::format("checkpoint {}: its row names no file: '{}'", row.number, row.name));
  auto opened = fs.open(path, OpenMode::read);
  if (!opened) return std::unexpected(std::move(opened).error().with(fmt::format("checkpoint {}", row.number)));
  Digest found;
  DROVER_TRY(const FileStat stat, (*opened)->stat());
  if (stat.size_bytes == row.bytes && keep != nullptr) {
    keep->resize(row.bytes);
    DROVER_TRY(const std::size_t got, (*opened)->read_at(0, *keep));
    found = {sha256_of(std::span<const std::byte>(*keep).first(got)), got};
  } else {
    DROVER_TRY(found, digest_of(**opened, stat.size_bytes));
  }
  if (found.bytes != row.bytes || found.sha256 != row.sha256)
    return fail(ErrorCode::corrupt, fmt::format("checkpoint {} is damaged: '{}' has {} bytes with SHA-256 {}, the ledger says {} bytes with {}", row.number, path, found.bytes,
                                                hex_of(found.sha256), row.bytes, hex_of(row.sha256)));
  return {};
}

}  // namespace

Result<CheckpointRow> commit_checkpoint(FileSystem& fs, const std::string& directory, std::span<const std::byte> bytes, const CheckpointMeta& meta) {
  return commit_checkpoint(fs, directory, [&](const CheckpointPut& put) { return put(bytes); }, meta);
}

Result<CheckpointRow> commit_checkpoint(FileSystem& fs, const std::string& directory, const CheckpointWriter& writer, const CheckpointMeta& meta) {
  DROVER_ASSERT(meta.number > 0, meta.number);
  const std::string context = fmt::format("saving checkpoint {}", meta.number);
  const auto commit = [&]() -> Result<CheckpointRow> {
    // The final name holds the hash, known only at the end: the staged file is named once it is.
    auto staged = StagedFile::open(fs, directory, fmt::format("{:06}", meta.number));
    if (!staged) return std::unexpected(std::move(staged).error());
    File& file = staged->file();
    Sha256Stream stream;
    std::uint64_t at = 0, started = 0;
    const CheckpointPut put = [&](std::span<const std::byte> piece) -> Result<> {
      while (!piece.empty()) {
        const auto part = piece.first(std::min(piece.size(), kPart));
        DROVER_CHECK(file.write_at(at, part));
        stream.update(part);
        at += part.size();
        piece = piece.subspan(part.size());
        if (at - started >= kPart) {
          start_writeback(file, started, at - started);
          started = at;
        }
      }
      return {};
    };
    DROVER_CHECK(writer(put));
    const Sha256 hash = stream.finish();
    DROVER_CHECK(staged->sync());
    // Read back what the file system took: a write that was changed on its way must not become a checkpoint.
    DROVER_TRY(const Digest found, digest_of(file, at));
    if (found.bytes != at || found.sha256 != hash)
      return fail(ErrorCode::corrupt, fmt::format("it reads back as {} bytes with SHA-256 {}, written were {} bytes with {}", found.bytes, hex_of(found.sha256), at, hex_of(hash)));
    CheckpointRow row{.number = meta.number, .name = fmt::format("{:06}-{}.ckpt", meta.number, hex_of(hash).substr(0, 12)), .sha256 = hash, .bytes = at,
                      .meta_json = meta.meta_json, .tasks_upto = meta.tasks_upto, .state = CheckpointState::good};
    auto published = staged->publish_as(directory + "/" + row.name);
    if (!published && published.error().code() == ErrorCode::exists) {
      // A crash between this point and the ledger's commit left it: same number, same content, no row. Its own durability is unknown.
      DROVER_CHECK(fs.unlink(directory + "/" + row.name));
      published = staged->publish_as(directory + "/" + row.name);
    }
    if (!published) return std::unexpected(std::move(published).error());
    DROVER_CHECK(fs.sync_directory(directory));
    return row;
  };
  auto row = commit();
  if (!row) return std::unexpected(std::move(row).error().with(context));
  return row;
}

Result<std::vector<std::byte>> load_checkpoint(FileSystem& fs, const std::string& directory, const CheckpointRow& row, std::span<const CheckpointRow> others) {
  std::vector<std::byte> bytes;
  auto good = check_file(fs, directory, row, &bytes);
  if (good) return bytes;
  Error error = std::move(good).error();
  const CheckpointRow* back = nullptr;
  std::vector<CheckpointRow> newest_first(others.begin(), others.end());
  std::ranges::sort(newest_first, std::greater<>(), &CheckpointRow::number);
  for (const CheckpointRow& other : newest_first) {
    if (other.number == row.number || other.state != CheckpointState::good) continue;
    if (check_file(fs, directory, other, nullptr)) {
      back = &other;
      break;
    }
  }
  if (back != nullptr)
    return std::unexpected(std::move(error).advise(fmt::format("`drover resume --checkpoint {}` goes on from checkpoint {}, the newest one that verifies ({} tasks)", back->number,
                                                               back->number, back->tasks_upto)));
  return std::unexpected(std::move(error).advise("no other checkpoint of this job verifies; nothing was changed, and nothing starts from zero unless you start a new job"));
}

Result<> verify_checkpoint(FileSystem& fs, const std::string& directory, const CheckpointRow& row) { return check_file(fs, directory, row, nullptr); }

std::vector<CheckpointRow> surplus_checkpoints(std::span<const CheckpointRow> rows, std::size_t keep) {
  std::vector<CheckpointRow> good;
  for (const CheckpointRow& row : rows)
    if (row.state == CheckpointState::good) good.push_back(row);
  std::ranges::sort(good, std::greater<>(), &CheckpointRow::number);
  keep = std::max<std::size_t>(keep, 1);
  if (good.size() <= keep) return {};
  good.erase(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(keep));
  std::ranges::reverse(good);
  return good;
}

Result<> remove_checkpoint(FileSystem& fs, const std::string& directory, const CheckpointRow& row) {
  auto gone = fs.unlink(path_of(directory, row));
  if (!gone && gone.error().code() == ErrorCode::not_found) return {};
  return gone;
}

Result<std::size_t> sweep_checkpoints(FileSystem& fs, const std::string& directory, std::span<const CheckpointRow> rows) {
  std::set<std::string> kept;
  for (const CheckpointRow& row : rows)
    if (row.state != CheckpointState::deleted) kept.insert(row.name);
  DROVER_TRY(const std::vector<std::string> names, fs.list(directory));
  std::size_t removed = 0;
  for (const std::string& name : names) {
    if (kept.contains(name) || !(name.ends_with(".ckpt") || name.ends_with(".tmp"))) continue;
    DROVER_CHECK(fs.unlink(directory + "/" + name));
    ++removed;
  }
  return removed;
}

}  // namespace drover::store
