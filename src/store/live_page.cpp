#include "store/live_page.hpp"

#include <atomic>
#include <bit>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/assert.hpp"
#include "os/map_file.hpp"
#include "os/process_stats.hpp"

namespace drover::store {

std::string_view name_of(LiveJobState state) {
  switch (state) {
    case LiveJobState::starting: return "starting";
    case LiveJobState::running: return "running";
    case LiveJobState::draining: return "draining";
    case LiveJobState::stopping: return "stopping";
    case LiveJobState::ended: return "ended";
  }
  return "unreadable";  // the value comes from a file
}
std::string_view name_of(LiveSlotState state) {
  switch (state) {
    case LiveSlotState::empty: return "empty";
    case LiveSlotState::backing_off: return "backing_off";
    case LiveSlotState::starting: return "starting";
    case LiveSlotState::idle: return "idle";
    case LiveSlotState::busy: return "busy";
    case LiveSlotState::stopping: return "stopping";
    case LiveSlotState::retired: return "retired";
  }
  return "unreadable";
}

namespace {

// Layout, all little-endian 64-bit words:
//   0 magic "DROVLIVE" · 1 version << 32 | sizeof(LiveSlot) << 16 | sizeof(LiveJob) · 2 rows there is room for · 3 sequence
//   4.. LiveJob · then rows of LiveSlot
constexpr std::uint64_t kMagic = 0x4556494c564f5244;  // "DROVLIVE" as bytes in the file
constexpr std::uint64_t kVersion = 1;
constexpr std::size_t kHeaderWords = 4;
constexpr std::size_t kJobWords = sizeof(LiveJob) / 8;
constexpr std::size_t kSlotWords = sizeof(LiveSlot) / 8;
constexpr std::uint64_t kShape = (kVersion << 32) | (std::uint64_t{sizeof(LiveSlot)} << 16) | sizeof(LiveJob);
static_assert(sizeof(LiveSlot) < 65536 && sizeof(LiveJob) < 65536);
static_assert(std::endian::native == std::endian::little);
static_assert(std::is_trivially_copyable_v<LiveJob> && std::is_trivially_copyable_v<LiveSlot>);

constexpr std::size_t bytes_for(std::uint64_t slots) { return 8 * (kHeaderWords + kJobWords + kSlotWords * slots); }

using Word = std::uint64_t;
std::atomic_ref<Word> word_at(std::byte* base, std::size_t index) { return std::atomic_ref<Word>(*(reinterpret_cast<Word*>(base) + index)); }

/// The seqlock's data are atomic words themselves: stores are release, loads are acquire, so neither a fence nor a data race is
/// needed (Boehm, "Can seqlocks get along with programming language memory models?", 2012, section 4).
void store_words(std::byte* base, std::size_t at, const void* from, std::size_t words) {
  const auto* source = static_cast<const std::byte*>(from);
  for (std::size_t i = 0; i < words; ++i) {
    Word value = 0;
    std::memcpy(&value, source + 8 * i, 8);
    word_at(base, at + i).store(value, std::memory_order_release);
  }
}
void load_words(std::byte* base, std::size_t at, void* to, std::size_t words) {
  auto* target = static_cast<std::byte*>(to);
  for (std::size_t i = 0; i < words; ++i) {
    const Word value = word_at(base, at + i).load(std::memory_order_acquire);
    std::memcpy(target + 8 * i, &value, 8);
  }
}

}  // namespace

struct LivePageWriter::Impl {
  std::unique_ptr<File> file;
  Mapping mapping;
  std::uint32_t slots = 0;
  std::uint64_t sequence = 0;
};

LivePageWriter::LivePageWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LivePageWriter::LivePageWriter(LivePageWriter&&) noexcept = default;
LivePageWriter& LivePageWriter::operator=(LivePageWriter&&) noexcept = default;
LivePageWriter::~LivePageWriter() = default;

Result<LivePageWriter> LivePageWriter::create(FileSystem& fs, const std::string& path, std::uint32_t slots) {
  DROVER_ASSERT(slots <= kLiveSlotsMax, slots);
  // A new file under the old name: a reader that maps the old one keeps a page that never shrinks under it.
  const std::string temporary = path + ".new";
  if (auto gone = fs.unlink(temporary); !gone && gone.error().code() != ErrorCode::not_found) return std::unexpected(std::move(gone).error());
  auto impl = std::make_unique<Impl>();
  const auto make = [&]() -> Result<> {
    DROVER_TRY(impl->file, fs.open(temporary, OpenMode::create_new));
    DROVER_CHECK(impl->file->allocate(bytes_for(slots)));  // blocks now: a full disk must not become SIGBUS later
    DROVER_TRY(impl->mapping, map_file(*impl->file, bytes_for(slots), true));
    return {};
  };
  if (auto made = make(); !made) {
    (void)fs.unlink(temporary);
    return std::unexpected(std::move(made).error().with("the live page '" + path + "'"));
  }
  impl->slots = slots;
  std::byte* base = impl->mapping.data();
  word_at(base, 1).store(kShape, std::memory_order_release);
  word_at(base, 2).store(slots, std::memory_order_release);
  word_at(base, 3).store(1, std::memory_order_release);  // odd: nothing published yet
  impl->sequence = 1;
  word_at(base, 0).store(kMagic, std::memory_order_release);
  if (auto named = fs.rename(temporary, path); !named) {
    (void)fs.unlink(temporary);
    return std::unexpected(std::move(named).error().with("the live page"));
  }
  return LivePageWriter(std::move(impl));
}

void LivePageWriter::publish(const LiveJob& job, std::span<const LiveSlot> slots) {
  DROVER_ASSERT(slots.size() <= impl_->slots, slots.size(), impl_->slots);
  std::byte* base = impl_->mapping.data();
  LiveJob head = job;
  head.slots = static_cast<std::uint32_t>(slots.size());
  if (impl_->sequence % 2 == 0) word_at(base, 3).exchange(++impl_->sequence, std::memory_order_acq_rel);  // odd: being written
  store_words(base, kHeaderWords, &head, kJobWords);
  for (std::size_t i = 0; i < slots.size(); ++i) store_words(base, kHeaderWords + kJobWords + i * kSlotWords, &slots[i], kSlotWords);
  word_at(base, 3).store(++impl_->sequence, std::memory_order_release);
}

namespace {

Result<LiveSnapshot> read_page(FileSystem& fs, const std::string& path, bool accept_torn) {
  auto opened = fs.open(path, OpenMode::read);
  if (!opened) return std::unexpected(std::move(opened).error().with("the live page"));
  DROVER_TRY(const FileStat stat, (*opened)->stat());
  const auto bad = [&](std::string what) { return fail(ErrorCode::corrupt, "the live page '" + path + "': " + what, "the ledger has the truth: `drover why` reads that alone"); };
  if (stat.size_bytes < bytes_for(0)) return bad(fmt::format("only {} bytes long", stat.size_bytes));
  if (stat.size_bytes > bytes_for(kLiveSlotsMax)) return bad(fmt::format("{} bytes long", stat.size_bytes));
  DROVER_TRY(const Mapping mapping, map_file(**opened, static_cast<std::size_t>(stat.size_bytes), false));
  std::byte* base = mapping.data();
  if (word_at(base, 0).load(std::memory_order_acquire) != kMagic) return bad("this is not a live page");
  const Word shape = word_at(base, 1).load(std::memory_order_acquire);
  if (shape != kShape)
    return bad(fmt::format("its layout is version {} ({} and {} bytes), this program reads version {} ({} and {})", shape >> 32, shape & 0xffff, (shape >> 16) & 0xffff, kVersion,
                           sizeof(LiveJob), sizeof(LiveSlot)));
  const Word room = word_at(base, 2).load(std::memory_order_acquire);
  if (room > kLiveSlotsMax || bytes_for(room) > stat.size_bytes) return bad(fmt::format("it claims room for {} workers in {} bytes", room, stat.size_bytes));

  LiveSnapshot snapshot;
  constexpr int kTries = 10'000;  // a publish takes microseconds: ~50 ms of trying in all
  for (int attempt = 0; attempt < kTries; ++attempt) {
    const Word before = word_at(base, 3).load(std::memory_order_acquire);
    if (before % 2 != 0 && !accept_torn) continue;
    load_words(base, kHeaderWords, &snapshot.job, kJobWords);
    const std::uint64_t rows = snapshot.job.slots;
    if (rows <= room) {  // may be torn: bounds first
      snapshot.slots.resize(rows);
      for (std::size_t i = 0; i < rows; ++i) load_words(base, kHeaderWords + kJobWords + i * kSlotWords, &snapshot.slots[i], kSlotWords);
    }
    const Word after = word_at(base, 3).load(std::memory_order_acquire);
    if (before != after && !accept_torn) continue;
    if (rows > room) {
      if (!accept_torn) return bad(fmt::format("it claims {} workers, with room for {}", rows, room));
      snapshot.slots.clear();
      snapshot.job.slots = 0;
    }
    // Text fields come from a file anyone may have written: end them here.
    snapshot.job.workload.back() = snapshot.job.last_fault.back() = snapshot.job.workload_line.back() = '\0';
    for (LiveSlot& slot : snapshot.slots) slot.last_fault.back() = '\0';
    const auto pid = static_cast<pid_t>(snapshot.job.supervisor.host_pid);
    const auto ticks = pid > 0 ? start_time_ticks(pid) : fail(ErrorCode::not_found, "no supervisor");
    const auto state = pid > 0 ? state_of(pid) : fail(ErrorCode::not_found, "no supervisor");
    snapshot.stale = !ticks || *ticks != snapshot.job.supervisor.start_ticks || !state || *state == 'Z' || *state == 'X';
    return snapshot;
  }
  return fail(ErrorCode::busy, "the live page '" + path + "' is half-written and stays so: its supervisor is frozen or was killed while writing it");
}

}  // namespace

Result<LiveSnapshot> read_live_page(FileSystem& fs, const std::string& path) { return read_page(fs, path, false); }
Result<LiveSnapshot> read_live_page_torn(FileSystem& fs, const std::string& path) { return read_page(fs, path, true); }

}  // namespace drover::store
