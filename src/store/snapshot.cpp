#include "drover/snapshot.hpp"

#include <fmt/format.h>

#include <array>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

namespace drover {

struct SnapshotWriter::Impl {
  struct Buffer {
    Bytes bytes;
    std::size_t size = 0;
    NewCheckpoint checkpoint{};
    bool full = false;               ///< waits to be committed, or is
  };

  Impl(CheckpointStore opened, WriterLease by, SnapshotOptions how) : store(std::move(opened)), lease(std::move(by)), options(std::move(how)) {
    for (Buffer& buffer : buffers) buffer.bytes.assign(options.bytes_max, std::byte{1});  // 1: zeros need not be memory of their own
    thread = std::thread([this] { work(); });
  }
  ~Impl() {
    {
      const std::scoped_lock lock(mutex);
      closing = true;
      changed.notify_all();
    }
    thread.join();
  }

  /// Oldest first: the buffers take turns.
  void work() {
    std::unique_lock lock(mutex);
    for (std::size_t turn = 0;; turn ^= 1) {
      Buffer& buffer = buffers[turn];
      changed.wait(lock, [&] { return buffer.full || closing; });
      if (!buffer.full) return;
      buffer.checkpoint.files.assign(1, {.name = options.file, .source = BytesView(buffer.bytes).first(buffer.size), .changes_only = options.changes_only});
      lock.unlock();
      auto done = store.commit(lease, buffer.checkpoint);
      lock.lock();
      if (done) durable = std::move(*done);
      else error = std::move(done).error();
      buffer.full = false;
      changed.notify_all();
    }
  }

  CheckpointStore store;
  WriterLease lease;
  SnapshotOptions options;
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::array<Buffer, 2> buffers;
  std::size_t next = 0;              ///< buffer of the next save
  std::optional<CheckpointEntry> durable;
  std::optional<Error> error;
  bool closing = false;
  std::thread thread;
};

Result<SnapshotWriter> SnapshotWriter::start(const std::string& directory, const WriterLease& lease, const SnapshotOptions& options) {
  DROVER_TRY(CheckpointStore store, CheckpointStore::open(directory));
  try {
    return SnapshotWriter(std::make_unique<Impl>(std::move(store), lease, options));
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::no_space, fmt::format("two buffers of {} bytes: no memory", options.bytes_max), "save directly with CheckpointStore::commit");
  }
}

SnapshotWriter::SnapshotWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SnapshotWriter::SnapshotWriter(SnapshotWriter&&) noexcept = default;
SnapshotWriter& SnapshotWriter::operator=(SnapshotWriter&&) noexcept = default;
SnapshotWriter::~SnapshotWriter() = default;

Result<void> SnapshotWriter::save(BytesView state, NewCheckpoint checkpoint) {
  Impl& i = *impl_;
  if (state.size() > i.options.bytes_max) return fail(ErrorCode::usage, fmt::format("a state of {} bytes, the buffers have {}", state.size(), i.options.bytes_max));
  std::unique_lock lock(i.mutex);
  Impl::Buffer& buffer = i.buffers[i.next];
  i.changed.wait(lock, [&] { return !buffer.full; });
  if (auto error = std::exchange(i.error, std::nullopt)) return std::unexpected(std::move(*error));
  lock.unlock();  // the thread does not touch a buffer that is not full
  std::memcpy(buffer.bytes.data(), state.data(), state.size());
  lock.lock();
  buffer.size = state.size();
  buffer.checkpoint = std::move(checkpoint);
  buffer.full = true;
  i.next ^= 1;
  i.changed.notify_all();
  return {};
}

Result<void> SnapshotWriter::wait() {
  Impl& i = *impl_;
  std::unique_lock lock(i.mutex);
  i.changed.wait(lock, [&] { return !i.buffers[0].full && !i.buffers[1].full; });
  if (auto error = std::exchange(i.error, std::nullopt)) return std::unexpected(std::move(*error));
  return {};
}

std::optional<CheckpointEntry> SnapshotWriter::durable() const {
  const std::scoped_lock lock(impl_->mutex);
  return impl_->durable;
}

}  // namespace drover
