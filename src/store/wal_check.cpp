#include "store/wal_check.hpp"

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

namespace drover::store {
namespace {

constexpr std::size_t kHeaderBytes = 32, kFrameHeaderBytes = 24;

std::uint32_t big(const std::byte* at) {
  std::uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value = (value << 8) | std::to_integer<std::uint32_t>(at[i]);
  return value;
}

struct Checksum {
  std::uint32_t a = 0, b = 0;
  friend bool operator==(const Checksum&, const Checksum&) = default;
};

/// Section 4.2: pairs of 32-bit words in the byte order the header names.
Checksum add(Checksum sum, std::span<const std::byte> bytes, bool big_endian) {
  for (std::size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    std::array<std::uint32_t, 2> word{};
    std::memcpy(word.data(), bytes.data() + i, 8);
    if (big_endian != (std::endian::native == std::endian::big))
      for (auto& w : word) w = __builtin_bswap32(w);
    sum.a += word[0] + sum.b;
    sum.b += word[1] + sum.a;
  }
  return sum;
}

struct Frame {
  bool current = false;   // carries the header's salts: written since the log was begun anew
  bool commit = false;    // its header says so
  Checksum stored;
};

}  // namespace

Result<> check_wal(FileSystem& fs, const std::string& path) {
  auto opened = fs.open(path, OpenMode::read);
  if (!opened) {
    if (opened.error().code() == ErrorCode::not_found) return {};
    return std::unexpected(std::move(opened).error());
  }
  const std::unique_ptr<File> file = std::move(*opened);
  std::array<std::byte, kHeaderBytes> header{};
  DROVER_TRY(const std::size_t got, file->read_at(0, header));
  if (got < kHeaderBytes) return {};
  const std::uint32_t magic = big(header.data());
  const bool big_endian = (magic & 1) != 0;
  const std::uint32_t page_bytes = big(header.data() + 8);
  const Checksum header_sum = add({}, std::span(header).first(24), big_endian);
  const bool header_good = (magic & ~1u) == 0x377f0682 && page_bytes >= 512 && page_bytes <= 65536 && std::has_single_bit(page_bytes) &&
                           header_sum == Checksum{big(header.data() + 24), big(header.data() + 28)};
  if (!header_good) {
    // Frames follow a header only once it is on disk, so there is nothing behind a torn one, and everything behind a rotten one.
    DROVER_TRY(const FileStat stat, file->stat());
    if (stat.size_bytes <= kHeaderBytes) return {};
    return fail(ErrorCode::corrupt, "the header of its write-ahead log '" + path + "' fails its checksum");
  }

  std::vector<std::byte> bytes(kFrameHeaderBytes + page_bytes);
  Checksum chain = header_sum;     // of everything good so far
  Checksum before = header_sum;    // as stored in the frame before, good or not
  Checksum computed = header_sum;  // of the frame before: what should be stored there, if that alone has rotted
  bool broken = false;
  std::uint64_t commits_behind = 0, number = 0, broken_at = 0;
  for (std::uint64_t at = kHeaderBytes;; at += bytes.size()) {
    DROVER_TRY(const std::size_t have, file->read_at(at, bytes));
    if (have < bytes.size()) break;
    ++number;
    const Frame frame{.current = std::memcmp(bytes.data() + 8, header.data() + 16, 8) == 0, .commit = big(bytes.data() + 4) != 0, .stored = {big(bytes.data() + 16), big(bytes.data() + 20)}};
    const auto sum_from = [&](Checksum seed) { return add(add(seed, std::span(bytes).first(8), big_endian), std::span(bytes).subspan(kFrameHeaderBytes), big_endian); };
    if (!broken) {
      chain = sum_from(chain);
      if (!frame.current || chain != frame.stored) {
        broken = true;
        broken_at = number;
        // A commit that rotted, if another one follows. The sum leaves the salts out: where it holds, only they are rotten.
        if ((frame.current || chain == frame.stored) && frame.commit) ++commits_behind;
      }
    } else if (frame.current && frame.commit && (sum_from(before) == frame.stored || sum_from(computed) == frame.stored)) {
      ++commits_behind;
    }
    computed = broken_at == number ? chain : frame.stored;
    before = frame.stored;
  }
  // One: the last commit, torn. Two: SQLite would drop one that was acknowledged.
  if (commits_behind >= 2)
    return fail(ErrorCode::corrupt, "frame " + std::to_string(broken_at) + " of its write-ahead log '" + path + "' fails its checksum, with commits behind it");
  return {};
}

Result<> check_length(FileSystem& fs, const std::string& path) {
  DROVER_TRY(const std::unique_ptr<File> file, fs.open(path, OpenMode::read));
  std::array<std::byte, 18> header{};
  DROVER_TRY(const std::size_t got, file->read_at(0, header));
  if (got < header.size()) return {};  // SQLite has its own word for that
  const std::uint32_t stored = big(header.data() + 14) & 0xffff, page_bytes = stored == 1 ? 65536 : stored;
  DROVER_TRY(const FileStat stat, file->stat());
  if (page_bytes < 512 || stat.size_bytes % page_bytes == 0) return {};
  const auto log = fs.stat(path + "-wal");
  if (log && log->size_bytes > kHeaderBytes) return {};  // its pages are in the log still
  return fail(ErrorCode::corrupt, "its last page is cut: " + std::to_string(stat.size_bytes % page_bytes) + " bytes of " + std::to_string(page_bytes));
}

}  // namespace drover::store
