// Goal: what is committed by its changes comes back byte for byte, costs what changed, and damage anywhere is found. Method: a state
// that is changed, grown and cut at random over many commits, copied out and compared each time; bits flipped in every object.

#include "store/object_store.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "store/manifest.hpp"
#include "store/support.hpp"

namespace drover::store::test {
namespace {

Bytes copied(ObjectStore& store, const StoredFile& file, const std::string& path) {
  std::filesystem::remove(path);
  auto to = *posix_file_system().open(path, OpenMode::create_new);
  const auto done = store.copy(file, *to);
  EXPECT_TRUE(done.has_value()) << done.error().what();
  Bytes out(file.bytes);
  EXPECT_EQ(*to->read_at(0, out), file.bytes);
  return out;
}

std::uint64_t bytes_in(const std::string& directory) {
  std::uint64_t sum = 0;
  for (const auto& one : std::filesystem::directory_iterator(directory)) sum += one.file_size();
  return sum;
}

TEST(ObjectStore, AStateCommittedByItsChangesComesBackWholeAndCostsWhatChanged) {
  const std::uint64_t seed = seed_of("Changes");
  Random random(seed);
  TempDir dir;
  std::filesystem::create_directory(dir / "objects");
  ObjectStore store(posix_file_system(), dir / "objects");
  Bytes state(20 * kChunkBytes + 1234);
  for (std::size_t i = 0; i < state.size(); i += 64) state[i] = static_cast<std::byte>(random.below(256));
  std::optional<StoredFile> before;
  for (int round = 0; round < scaled(150, 3000); ++round) {
    const std::uint64_t on_disk = bytes_in(dir / "objects");
    std::size_t touched = 0;
    if (round > 0 && random.below(10) == 0) {
      state.resize(static_cast<std::size_t>(random.below(25 * kChunkBytes) + 1));
      touched = state.size() / kChunkBytes + 1;
    } else if (round > 0) {
      touched = static_cast<std::size_t>(random.below(3));
      for (std::size_t n = 0; n < touched; ++n) state[static_cast<std::size_t>(random.below(state.size()))] ^= static_cast<std::byte>(1 + random.below(255));
    }
    auto stored = store.put_changed("state", state, before ? &*before : nullptr);
    ASSERT_OK(stored);
    ASSERT_OK(store.check(*stored));
    ASSERT_EQ(copied(store, *stored, dir / "out"), state) << "seed " << seed << ", round " << round;
    const std::size_t objects = store.needed_by(*stored)->size();
    EXPECT_LE(objects, 65u);
    if (before && objects > 1) {
      EXPECT_LE(bytes_in(dir / "objects") - on_disk, (touched + 1) * kChunkBytes + 8192) << "round " << round;
    }
    if (before && touched == 0) {
      EXPECT_EQ(stored->sha256, before->sha256) << "nothing changed, nothing written";
    }
    // Another process has no maps in memory: it reads them from the objects.
    ObjectStore fresh(posix_file_system(), dir / "objects");
    ASSERT_OK(fresh.check(*stored));
    EXPECT_EQ(*fresh.needed_by(*stored), *store.needed_by(*stored));
    before = std::move(*stored);
  }
}

TEST(ObjectStore, ABitFlippedAnywhereInAChunkedFileIsFound) {
  const std::uint64_t seed = seed_of("ChunkDamage");
  Random random(seed);
  TempDir dir;
  std::filesystem::create_directory(dir / "objects");
  ObjectStore store(posix_file_system(), dir / "objects");
  Bytes state(3 * kChunkBytes);
  const StoredFile first = *store.put_changed("state", state, nullptr);
  state[kChunkBytes] = std::byte{1};
  const StoredFile second = *store.put_changed("state", state, &first);
  ASSERT_EQ(store.needed_by(second)->size(), 2u);
  for (int round = 0; round < scaled(200, 20'000); ++round) {
    const std::vector<std::string> names = *store.needed_by(second);
    const std::string path = dir / ("objects/" + names[static_cast<std::size_t>(random.below(2))]);
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    const auto size = std::filesystem::file_size(path);
    const bool tail = random.below(2) == 0;  // the map and the trailer are small beside the chunks
    const std::uint64_t at = tail ? size - 1 - random.below(std::min<std::uint64_t>(size, 200)) : random.below(size);
    file.seekg(static_cast<std::streamoff>(at));
    const char was = static_cast<char>(file.get());
    const auto put = [&](char c) { file.seekp(static_cast<std::streamoff>(at)).put(c).flush(); };
    put(static_cast<char>(was ^ (1 << random.below(8))));
    ObjectStore fresh(posix_file_system(), dir / "objects");
    const bool own = path.ends_with(second.sha256);
    const bool counted = own || at < 3 * kChunkBytes;  // of the older object only the chunks matter to this file
    const bool lives = own || at < kChunkBytes || at >= 2 * kChunkBytes;  // its second chunk was replaced
    if (counted && lives) {
      ASSERT_FALSE(fresh.check(second).has_value()) << "seed " << seed << ": byte " << at << " of " << path;
    }
    if (!own) {
      ASSERT_FALSE(fresh.check(first).has_value()) << "seed " << seed << ": byte " << at;
    }
    put(was);
    ASSERT_OK(ObjectStore(posix_file_system(), dir / "objects").check(second));
  }
}

TEST(ObjectStore, AMapThatLiesIsRefusedNotFollowed) {
  const ChunkMap map{.bytes = 2 * kChunkBytes + 5, .others = {sha256_of("other")}, .chunks = {{0, 0, {}}, {1, 77, {}}, {0, kChunkBytes, {}}}};
  const Bytes good = encode(map);
  ASSERT_EQ(*decode_chunk_map(good), map);
  for (std::size_t size = 0; size < good.size(); ++size) EXPECT_FALSE(decode_chunk_map(BytesView(good).first(size)).has_value()) << size;
  Bytes other = good;
  other[16 + 32] = std::byte{9};  // the first chunk lies in object 9 of 1
  EXPECT_FALSE(decode_chunk_map(other).has_value());
  other = good;
  other[8] = other[9] = other[10] = other[11] = std::byte{255};
  EXPECT_FALSE(decode_chunk_map(other).has_value());
}

std::string safetensors(const std::string& header, std::size_t data) {
  std::string text(8, '\0');
  const std::uint64_t size = header.size();
  std::memcpy(text.data(), &size, 8);
  return text + header + std::string(data, 'x');
}
Result<std::vector<Tensor>> tensors_of(const std::string& file) {
  return safetensors_in(file.size(), [&](std::uint64_t at, std::size_t size) -> Result<Bytes> {
    const auto bytes = std::as_bytes(std::span(file)).subspan(static_cast<std::size_t>(at), size);
    return Bytes(bytes.begin(), bytes.end());
  });
}

TEST(ObjectStore, ATensorTableIsReadAndACutFileIsRefused) {
  const std::string file = safetensors(R"({"__metadata__":{"a":"b"},"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"F64","shape":[],"data_offsets":[24,32]}})", 32);
  const auto table = tensors_of(file);
  ASSERT_OK(table);
  ASSERT_EQ(table->size(), 2u);
  EXPECT_EQ((*table)[0], (Tensor{"w", "F32", {2, 3}, file.size() - 32, 24}));
  for (std::size_t size = 0; size < file.size(); ++size) EXPECT_FALSE(tensors_of(file.substr(0, size)).has_value()) << size;
  EXPECT_FALSE(tensors_of(file + "x").has_value());
  EXPECT_FALSE(tensors_of(safetensors("[]", 0)).has_value());
  EXPECT_FALSE(tensors_of(safetensors(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8)).has_value());
}

}  // namespace
}  // namespace drover::store::test
