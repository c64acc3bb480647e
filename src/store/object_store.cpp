#include "store/object_store.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <future>
#include <mutex>
#include <thread>

#include "base/bytes.hpp"
#include "os/map_file.hpp"
#include "store/durable_file.hpp"
#include "store/manifest.hpp"

namespace drover::store {
namespace {

constexpr std::size_t kPart = std::size_t{8} << 20;
constexpr std::size_t kReadPart = std::size_t{1} << 20;
constexpr std::size_t kOtherThread = std::size_t{16} << 20;   ///< from this size on a second thread hashes
constexpr std::size_t kObjectsMax = 64;                       ///< that one chunked file may lie in
constexpr std::size_t kMapsKept = 8;
constexpr std::string_view kMapMagic = "drvmap1\n";
constexpr std::size_t kTrailer = 16;                          ///< u64 bytes of the map, magic

/// SHA-256 beside the writing: pieces are taken in order by a thread of its own, and must live until they are hashed.
class Hasher {
 public:
  explicit Hasher(bool threaded) {
    if (threaded) thread_ = std::thread([this] { work(); });
  }
  ~Hasher() { close(); }
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;

  void update(BytesView piece) {
    if (!thread_.joinable()) return stream_.update(piece);
    const std::scoped_lock lock(mutex_);
    pieces_.push_back(piece);
    changed_.notify_all();
  }
  /// Waits until at most `open` pieces are not hashed yet.
  void drain(std::size_t open) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return pieces_.size() <= open; });
  }
  Sha256 finish() {
    drain(0);
    close();
    return stream_.finish();
  }

 private:
  void close() {
    if (!thread_.joinable()) return;
    {
      const std::scoped_lock lock(mutex_);
      closed_ = true;
      changed_.notify_all();
    }
    thread_.join();
  }
  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return closed_ || !pieces_.empty(); });
      if (closed_) return;  // what is left belongs to an attempt that was given up
      const BytesView piece = pieces_.front();
      lock.unlock();
      stream_.update(piece);
      lock.lock();
      pieces_.pop_front();
      changed_.notify_all();
    }
  }

  Sha256Stream stream_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<BytesView> pieces_;
  bool closed_ = false;
  std::thread thread_;
};

/// Appends to a staged file, starts its way to the disk early, and can say whether it reads back as it was written.
class Writer {
 public:
  Writer(File& file, std::size_t bytes_expected) : file_(&file), sha_(bytes_expected >= kOtherThread) {}
  /// At most kPart bytes, which live until drained().
  Result<> append(BytesView piece) {
    sha_.update(piece);
    written_.push_back({.at = at_, .size = piece.size(), .hash = xxh3_128(piece)});
    DROVER_CHECK(file_->write_at(at_, piece));
    at_ += piece.size();
    if (at_ - started_ >= kPart) {
      start_writeback(*file_, started_, at_ - started_);
      started_ = at_;
    }
    return {};
  }
  void drained(std::size_t open) { sha_.drain(open); }
  std::uint64_t size() const { return at_; }
  /// On disk and compared; the name it deserves.
  Result<std::string> finish(StagedFile& staged, const std::string& name) {
    // What is read back comes from the page cache, before the sync or after it: of a large file a second thread reads meanwhile.
    std::future<Result<>> read_back;
    if (at_ >= kOtherThread) read_back = std::async(std::launch::async, [&] { return compare(name); });
    auto synced = staged.sync();
    auto same = read_back.valid() ? read_back.get() : Result<>();
    DROVER_CHECK(std::move(synced));
    if (at_ < kOtherThread) same = compare(name);
    DROVER_CHECK(std::move(same));
    DROVER_TRY(const FileStat stat, file_->stat());
    if (stat.size_bytes != at_) return differs(name);
    return hex_of(sha_.finish());
  }

 private:
  struct Piece {
    std::uint64_t at;
    std::size_t size;
    Xxh128 hash;
  };
  static std::unexpected<Error> differs(const std::string& name) {
    return fail(ErrorCode::corrupt, fmt::format("'{}' reads back differently from what was written", name), "this disk or its controller is not to be trusted");
  }
  Result<> compare(const std::string& name) {
    Bytes buffer(kReadPart);
    for (const Piece& piece : written_) {
      Xxh128Stream found;
      for (std::size_t done = 0; done < piece.size;) {
        const std::size_t size = std::min(buffer.size(), piece.size - done);
        DROVER_TRY(const std::size_t got, file_->read_at(piece.at + done, std::span(buffer).first(size)));
        if (got != size) return differs(name);
        found.update(BytesView(buffer).first(got));
        done += got;
      }
      if (found.finish() != piece.hash) return differs(name);
    }
    return {};
  }

  File* file_;
  Hasher sha_;
  std::vector<Piece> written_;
  std::uint64_t at_ = 0, started_ = 0;
};

Error damaged(const StoredFile& file, std::string_view how) {
  return Error(ErrorCode::corrupt, fmt::format("'{}' of the checkpoint is damaged: {}", file.name, how));
}

std::uint64_t chunk_size(const ChunkMap& map, std::size_t i) { return std::min<std::uint64_t>(kChunkBytes, map.bytes - i * kChunkBytes); }

void append(Bytes& out, BytesView bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); }

}  // namespace

// ---- the map ---------------------------------------------------------------------------------------------------------------------

Bytes encode(const ChunkMap& map) {
  Bytes out;
  out.reserve(16 + map.others.size() * 32 + map.chunks.size() * 28);
  append_le(out, map.bytes);
  append_le(out, static_cast<std::uint32_t>(map.others.size()));
  append_le(out, static_cast<std::uint32_t>(map.chunks.size()));
  for (const Sha256& other : map.others) append(out, std::as_bytes(std::span(other.bytes)));
  for (const ChunkMap::Chunk& chunk : map.chunks) {
    append_le(out, chunk.object);
    append_le(out, chunk.offset);
    append(out, chunk.hash);
  }
  return out;
}

Result<ChunkMap> decode_chunk_map(BytesView in) {
  const auto corrupt = [](std::string_view why) { return fail(ErrorCode::corrupt, fmt::format("chunk map: {}", why)); };
  if (in.size() < 16) return corrupt("it is cut");
  ChunkMap map{.bytes = get_le<std::uint64_t>(in.data())};
  const std::uint64_t others = get_le<std::uint32_t>(in.data() + 8), chunks = get_le<std::uint32_t>(in.data() + 12);
  if (in.size() != 16 + others * 32 + chunks * 28) return corrupt("it has another length than it says");
  if (chunks != (map.bytes + kChunkBytes - 1) / kChunkBytes) return corrupt("it has another number of chunks than the file needs");
  std::size_t at = 16;
  for (std::uint64_t i = 0; i < others; ++i, at += 32) std::memcpy(map.others.emplace_back().bytes.data(), in.data() + at, 32);
  for (std::uint64_t i = 0; i < chunks; ++i, at += 28) {
    ChunkMap::Chunk& chunk = map.chunks.emplace_back();
    chunk.object = get_le<std::uint32_t>(in.data() + at);
    chunk.offset = get_le<std::uint64_t>(in.data() + at + 4);
    std::memcpy(chunk.hash.data(), in.data() + at + 12, 16);
    if (chunk.object > others) return corrupt("a chunk lies in an object that is not named");
  }
  return map;
}

// ---- reading ---------------------------------------------------------------------------------------------------------------------

/// Gives a file's bytes chunk by chunk, from whichever object holds each.
class ObjectStore::Reader {
 public:
  static Result<Reader> open(ObjectStore& store, const StoredFile& file) {
    Reader reader(file);
    DROVER_TRY(reader.own_, store.fs_->open(store.path_of(file.sha256), OpenMode::read));
    if (!file.chunked) return reader;
    DROVER_TRY(reader.map_, store.map_of(file));
    for (const Sha256& other : reader.map_.others) {
      DROVER_TRY(std::unique_ptr<File> object, store.fs_->open(store.path_of(hex_of(other)), OpenMode::read));
      reader.others_.push_back(std::move(object));
    }
    return reader;
  }
  Result<std::size_t> read(std::uint64_t at, std::span<std::byte> into) {
    if (!file_->chunked) return own_->read_at(at, into);
    std::size_t done = 0;
    while (done < into.size() && at + done < map_.bytes) {
      const std::size_t i = static_cast<std::size_t>((at + done) / kChunkBytes), inside = static_cast<std::size_t>((at + done) % kChunkBytes);
      const std::size_t size = std::min<std::size_t>(into.size() - done, static_cast<std::size_t>(chunk_size(map_, i)) - inside);
      DROVER_TRY(const std::size_t got, in(map_.chunks[i]).read_at(map_.chunks[i].offset + inside, into.subspan(done, size)));
      if (got != size) return std::unexpected(damaged(*file_, "a chunk lies behind the end of its object"));
      done += size;
    }
    return done;
  }
  /// Every byte, verified, in order.
  Result<> all(const std::function<Result<>(std::uint64_t at, BytesView piece)>& take) { return file_->chunked ? chunks(take) : whole(take); }

 private:
  explicit Reader(const StoredFile& file) : file_(&file) {}
  File& in(const ChunkMap::Chunk& chunk) { return chunk.object == 0 ? *own_ : *others_[chunk.object - 1]; }

  Result<> whole(const std::function<Result<>(std::uint64_t, BytesView)>& take) {
    Bytes buffer(kReadPart);
    Sha256Stream stream;
    std::uint64_t at = 0;
    for (;;) {
      DROVER_TRY(const std::size_t got, own_->read_at(at, buffer));
      const BytesView piece = BytesView(buffer).first(got);
      stream.update(piece);
      DROVER_CHECK(take(at, piece));
      at += got;
      if (got < buffer.size()) break;
    }
    if (at != file_->bytes) return std::unexpected(damaged(*file_, fmt::format("its object has {} bytes, not {}", at, file_->bytes)));
    if (const std::string found = hex_of(stream.finish()); found != file_->sha256) return std::unexpected(damaged(*file_, fmt::format("its object has SHA-256 {}, not {}", found, file_->sha256)));
    return {};
  }
  Result<> chunks(const std::function<Result<>(std::uint64_t, BytesView)>& take) {
    Bytes buffer(kChunkBytes);
    for (std::size_t i = 0; i < map_.chunks.size(); ++i) {
      const std::size_t size = static_cast<std::size_t>(chunk_size(map_, i));
      DROVER_TRY(const std::size_t got, in(map_.chunks[i]).read_at(map_.chunks[i].offset, std::span(buffer).first(size)));
      const BytesView piece = BytesView(buffer).first(got);
      if (got != size || xxh3_128(piece) != map_.chunks[i].hash) return std::unexpected(damaged(*file_, fmt::format("its chunk {} is not what was written", i)));
      DROVER_CHECK(take(i * kChunkBytes, piece));
    }
    return {};
  }

  const StoredFile* file_;
  ChunkMap map_;
  std::unique_ptr<File> own_;
  std::vector<std::unique_ptr<File>> others_;
};

/// The map at the end of a chunked object, after the object's own name has been found true.
Result<ChunkMap> ObjectStore::map_of(const StoredFile& file) {
  if (const auto known = maps_.find(file.sha256); known != maps_.end()) return known->second;
  DROVER_TRY(const std::unique_ptr<File> object, fs_->open(path_of(file.sha256), OpenMode::read));
  DROVER_TRY(const FileStat stat, object->stat());
  Bytes trailer(kTrailer);
  if (stat.size_bytes < kTrailer) return std::unexpected(damaged(file, "its object is cut"));
  DROVER_TRY(const std::size_t got, object->read_at(stat.size_bytes - kTrailer, trailer));
  const std::uint64_t size = get_le<std::uint64_t>(trailer.data());
  if (got != kTrailer || std::memcmp(trailer.data() + 8, kMapMagic.data(), kMapMagic.size()) != 0 || size > stat.size_bytes - kTrailer) return std::unexpected(damaged(file, "its object ends without a map"));
  Bytes text(static_cast<std::size_t>(size));
  DROVER_TRY(const std::size_t read, object->read_at(stat.size_bytes - kTrailer - size, text));
  if (read != text.size()) return std::unexpected(damaged(file, "its map is cut"));
  auto map = decode_chunk_map(text);
  if (!map) return std::unexpected(damaged(file, map.error().what()));
  if (map->bytes != file.bytes) return std::unexpected(damaged(file, "its map is of a file of another length"));
  return map;
}

Result<> ObjectStore::check(const StoredFile& file, bool sync) {
  if (file.chunked) {
    // Its own object by its name; this vouches for the map, and the map for the chunks elsewhere.
    maps_.erase(file.sha256);
    DROVER_TRY(const FileStat stat, fs_->stat(path_of(file.sha256)));
    DROVER_CHECK(check({.name = file.name, .bytes = stat.size_bytes, .sha256 = file.sha256}, sync));
  }
  DROVER_TRY(Reader reader, Reader::open(*this, file));
  DROVER_CHECK(reader.all([](std::uint64_t, BytesView) -> Result<> { return {}; }));
  if (!sync || file.chunked) return {};
  DROVER_TRY(const std::unique_ptr<File> object, fs_->open(path_of(file.sha256), OpenMode::read_write));
  return object->sync();
}

Result<> ObjectStore::copy(const StoredFile& file, File& to) {
  DROVER_TRY(Reader reader, Reader::open(*this, file));
  return reader.all([&](std::uint64_t at, BytesView piece) { return to.write_at(at, piece); });
}

Result<Bytes> ObjectStore::read(const StoredFile& file, std::uint64_t offset, std::size_t size) {
  DROVER_TRY(Reader reader, Reader::open(*this, file));
  Bytes out(size);
  DROVER_TRY(const std::size_t got, reader.read(offset, out));
  if (got != size) return std::unexpected(damaged(file, "it is shorter than it was"));
  return out;
}

Result<std::vector<std::string>> ObjectStore::needed_by(const StoredFile& file) {
  std::vector<std::string> names{file.sha256};
  if (!file.chunked) return names;
  DROVER_TRY(const ChunkMap map, map_of(file));
  for (const Sha256& other : map.others) names.push_back(hex_of(other));
  return names;
}

Result<bool> ObjectStore::present(const StoredFile& file) {
  DROVER_TRY(const std::vector<std::string> names, needed_by(file));
  for (const std::string& name : names) {
    const auto stat = fs_->stat(path_of(name));
    if (!stat || (!file.chunked && stat->size_bytes != file.bytes)) return false;
  }
  return true;
}

// ---- writing ---------------------------------------------------------------------------------------------------------------------

/// Names what is on disk and compared. The same bytes may be there already, from another checkpoint or an attempt that was killed;
/// whether those are on disk is not known: look and sync. Damaged ones give way to these, which were just read back.
Result<> ObjectStore::publish(StagedFile& staged, const StoredFile& stored) {
  const std::string path = path_of(stored.sha256);
  auto named = staged.publish_as(path);
  if (named || named.error().code() != ErrorCode::exists) return named;
  auto good = check(stored, true);
  if (good || good.error().code() != ErrorCode::corrupt) return good;
  DROVER_CHECK(fs_->unlink(path));
  return staged.publish_as(path);
}

Result<StoredFile> ObjectStore::put(const std::string& name, const std::variant<std::string, BytesView>& source) {
  DROVER_TRY(StagedFile staged, StagedFile::open(*fs_, directory_, "incoming"));
  StoredFile stored{.name = name};
  if (const BytesView* const bytes = std::get_if<BytesView>(&source)) {
    Writer writer(staged.file(), bytes->size());
    for (BytesView left = *bytes; !left.empty();) {
      const BytesView piece = left.first(std::min(left.size(), kPart));
      left = left.subspan(piece.size());
      DROVER_CHECK(writer.append(piece));
    }
    stored.bytes = writer.size();
    DROVER_TRY(stored.sha256, writer.finish(staged, name));
  } else {
    DROVER_TRY(const std::unique_ptr<File> from, fs_->open(std::get<std::string>(source), OpenMode::read));
    DROVER_TRY(const FileStat stat, from->stat());
    std::array<Bytes, 2> buffers;  // one is hashed while the other is read and written
    Writer writer(staged.file(), static_cast<std::size_t>(stat.size_bytes));
    for (std::size_t turn = 0;; turn ^= 1) {
      writer.drained(1);
      buffers[turn].resize(std::min<std::size_t>(kPart, static_cast<std::size_t>(stat.size_bytes) + 1));
      DROVER_TRY(const std::size_t got, from->read_at(writer.size(), buffers[turn]));
      DROVER_CHECK(writer.append(BytesView(buffers[turn]).first(got)));
      if (got < buffers[turn].size()) break;
    }
    stored.bytes = writer.size();
    DROVER_TRY(stored.sha256, writer.finish(staged, name));
  }
  DROVER_CHECK(publish(staged, stored));
  return stored;
}

Result<StoredFile> ObjectStore::put_changed(const std::string& name, BytesView bytes, const StoredFile* before) {
  ChunkMap map{.bytes = bytes.size()}, old;
  map.chunks.resize((bytes.size() + kChunkBytes - 1) / kChunkBytes);
  // One fast hash over all of it; two threads, because memory is faster than one of them.
  const auto hash = [&](std::size_t from, std::size_t to) {
    for (std::size_t i = from; i < to; ++i) map.chunks[i].hash = xxh3_128(bytes.subspan(i * kChunkBytes, static_cast<std::size_t>(chunk_size(map, i))));
  };
  const std::size_t half = map.chunks.size() / 2;
  std::future<void> first;
  if (bytes.size() >= kOtherThread) first = std::async(std::launch::async, hash, std::size_t{0}, half);
  else hash(0, half);
  hash(half, map.chunks.size());
  if (first.valid()) first.get();

  if (before != nullptr && before->chunked) {
    DROVER_TRY(old, map_of(*before));
    std::uint64_t on_disk = 0;
    DROVER_TRY(const std::vector<std::string> objects, needed_by(*before));
    for (const std::string& object : objects)
      if (const auto stat = fs_->stat(path_of(object))) on_disk += stat->size_bytes;
    if (objects.size() >= kObjectsMax || on_disk > 2 * bytes.size() + (16u << 20)) old = {};  // too much of it is dead
  }
  const auto same_place = [&](std::size_t i) { return i < old.chunks.size() && old.chunks[i].hash == map.chunks[i].hash && chunk_size(old, i) == chunk_size(map, i); };
  if (before != nullptr && !old.chunks.empty() && old.bytes == map.bytes) {
    bool same = true;
    for (std::size_t i = 0; same && i < map.chunks.size(); ++i) same = same_place(i);
    if (same) return StoredFile{.name = name, .bytes = before->bytes, .sha256 = before->sha256, .chunked = true};
  }

  std::vector<std::string> names;  // of the objects `old` speaks of, its own first
  if (!old.chunks.empty()) {
    names.push_back(before->sha256);
    for (const Sha256& other : old.others) names.push_back(hex_of(other));
  }
  std::vector<std::uint32_t> renamed(names.size(), 0);
  DROVER_TRY(StagedFile staged, StagedFile::open(*fs_, directory_, "incoming"));
  std::size_t changed = 0;
  for (std::size_t i = 0; i < map.chunks.size(); ++i) changed += same_place(i) ? 0 : kChunkBytes;
  Writer writer(staged.file(), changed);
  for (std::size_t i = 0; i < map.chunks.size(); ++i) {
    ChunkMap::Chunk& chunk = map.chunks[i];
    if (same_place(i)) {
      std::uint32_t& index = renamed[old.chunks[i].object];
      if (index == 0) {
        map.others.push_back(*parse_sha256(names[old.chunks[i].object]));
        index = static_cast<std::uint32_t>(map.others.size());
      }
      chunk.object = index;
      chunk.offset = old.chunks[i].offset;
      continue;
    }
    chunk.offset = writer.size();
    DROVER_CHECK(writer.append(bytes.subspan(i * kChunkBytes, static_cast<std::size_t>(chunk_size(map, i)))));
  }
  Bytes tail = encode(map);
  append_le(tail, std::uint64_t{tail.size()});
  append(tail, bytes_of(kMapMagic));
  DROVER_CHECK(writer.append(tail));
  StoredFile stored{.name = name, .bytes = writer.size()};
  DROVER_TRY(stored.sha256, writer.finish(staged, name));
  drop_cached(staged.file());  // a long row of these would fill the page cache with what nobody reads
  DROVER_CHECK(publish(staged, stored));
  stored.bytes = bytes.size();
  stored.chunked = true;
  while (maps_.size() >= kMapsKept) maps_.erase(maps_.begin());
  maps_.emplace(stored.sha256, std::move(map));
  return stored;
}

}  // namespace drover::store
