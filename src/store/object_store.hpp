#pragma once
/// The bytes of a checkpoint store: objects, named by the SHA-256 of what they are, written once, never changed. One thread; a second
/// one hashes while this one writes.
///
/// A whole object is the file. A chunked one holds the 256 KiB chunks that differ from an earlier object, and a map that says where
/// every chunk of the file lies: here or in an older object, with the XXH3-128 of each. So its name vouches for every byte, and a
/// state of 512 MiB of which 1 % changed costs 5 MiB on disk and one pass of a fast hash. When older objects hold more dead bytes
/// than the file has living ones, the next is written in full.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "drover/checkpoint.hpp"
#include "os/file_system.hpp"
#include "store/hash.hpp"

namespace drover::store {

inline constexpr std::size_t kChunkBytes = std::size_t{256} << 10;

/// Where the chunks of a file lie. Text form and example: docs/checkpoint_format.md.
struct ChunkMap {
  struct Chunk {
    std::uint32_t object = 0;               ///< 0 = the object that holds this map, n = others[n - 1]
    std::uint64_t offset = 0;               ///< of its first byte there
    Xxh128 hash{};
    friend bool operator==(const Chunk&, const Chunk&) = default;
  };
  std::uint64_t bytes = 0;                  ///< of the file; the last chunk may be short
  std::vector<Sha256> others{};
  std::vector<Chunk> chunks{};
  friend bool operator==(const ChunkMap&, const ChunkMap&) = default;
};
Bytes encode(const ChunkMap& map);
Result<ChunkMap> decode_chunk_map(BytesView bytes);

class ObjectStore {
 public:
  /// `directory` exists. Both outlive this.
  ObjectStore(FileSystem& fs, std::string directory) : fs_(&fs), directory_(std::move(directory)) {}

  /// On return the bytes are on disk, read back and compared; their name is durable after sync(). Errors: corrupt (they read back
  /// differently), no_space, system; nothing is left but an object without a row, at most.
  Result<StoredFile> put(const std::string& name, const std::variant<std::string, BytesView>& source);
  /// The same, of what differs from `before`, an earlier file of this store.
  Result<StoredFile> put_changed(const std::string& name, BytesView bytes, const StoredFile* before);
  Result<> sync() { return fs_->sync_directory(directory_); }

  /// Reads every byte again. Error: corrupt, or not_found.
  Result<> check(const StoredFile& file, bool sync = false);
  /// Writes the file's bytes to `to`, verified on the way.
  Result<> copy(const StoredFile& file, File& to);
  /// Bytes [offset, offset + size) of the file, not verified.
  Result<Bytes> read(const StoredFile& file, std::uint64_t offset, std::size_t size);
  /// Names of all objects the file needs.
  Result<std::vector<std::string>> needed_by(const StoredFile& file);
  /// Whether all of them are there, by their names and lengths alone.
  Result<bool> present(const StoredFile& file);

 private:
  class Reader;
  std::string path_of(const std::string& sha256) const { return directory_ + "/" + sha256; }
  Result<ChunkMap> map_of(const StoredFile& file);
  Result<> publish(class StagedFile& staged, const StoredFile& stored);

  FileSystem* fs_;
  std::string directory_;
  std::map<std::string, ChunkMap> maps_{};  ///< of the latest objects, by name
};

}  // namespace drover::store
