#include "supervisor/watchdog_link.hpp"

#include <algorithm>
#include <new>
#include <string>

#include "base/bytes.hpp"
#include "keeper/helper_images.hpp"
#include "os/clock.hpp"
#include "os/helper_image.hpp"
#include "os/helper_process.hpp"
#include "os/message_socket.hpp"
#include "os/poller.hpp"
#include "wire/watchdog_message.hpp"

namespace drover {
namespace {

wire::BeatPage& page_of(const Mapping& mapping) { return *reinterpret_cast<wire::BeatPage*>(mapping.data()); }

}  // namespace

Result<WatchdogLink> WatchdogLink::start(const WatchdogOptions& options, const PidFd& keeper, TimePoint deadline) {
  DROVER_TRY(const UniqueFd image, make_executable_image("drover-watchdog", watchdog_image()));
  DROVER_TRY(const PidFd self, PidFd::self());
  DROVER_TRY(auto sockets, make_message_sockets());
  DROVER_TRY(Memfd beat, Memfd::create("drover-beat", 4096, MemfdUse::published));

  WatchdogLink link;
  DROVER_TRY(link.beat_page_, beat.map_writable());
  DROVER_CHECK(beat.seal_writes());
  new (link.beat_page_.data()) wire::BeatPage{};
  link.tick_ = std::max(Nanos(options.beat_silence), Nanos(Millis(40))) / wire::kWatchdogTicks;

  const std::vector<std::string> argv = {
      "drover-watchdog", options.run_deadline_boottime == kUnlimited ? "-1" : std::to_string(options.run_deadline_boottime.count()),
      std::to_string(link.tick_.count())};
  const int fds[] = {sockets.second.get(), self.fd(), keeper.fd(), beat.fd()};
  auto helper = start_helper({.image = image.get(), .argv = argv, .fds = fds}, deadline);
  if (!helper) return std::unexpected(std::move(helper).error().with("starting the watchdog"));
  link.socket_ = std::move(sockets.first);
  link.process_ = std::move(*helper);
  sockets.second.reset();  // ours: its own copy alone must keep the line open

  for (;;) {
    wire::WatchdogWord word;
    auto message = receive_message(link.socket_.get(), std::as_writable_bytes(std::span(&word, 1)));
    if (message) {
      if (message->size != sizeof word || word.magic != wire::kWatchdogMagic || word.kind != wire::WatchdogWordKind::ready)
        return fail(ErrorCode::corrupt, "starting the watchdog: its first word is not the agreed one");
      return link;
    }
    if (message.error().code() != ErrorCode::busy) return std::unexpected(std::move(message).error().with("starting the watchdog"));
    if (system_clock().now() >= deadline) return fail(ErrorCode::timed_out, "starting the watchdog: no word from it");
    wait_readable(link.socket_.get(), deadline);
  }
}

WatchdogLink& WatchdogLink::operator=(WatchdogLink&& other) noexcept {
  if (this != &other) {
    this->~WatchdogLink();
    new (this) WatchdogLink(std::move(other));
  }
  return *this;
}

WatchdogLink::~WatchdogLink() {
  if (!process_.valid()) return;
  kill();
  wait_gone(system_clock().now() + Millis(250));
}

Result<void> WatchdogLink::watch(const PidFd& keeper) {
  const wire::WatchdogOrder order{.kind = wire::WatchdogOrderKind::watch};
  const int fds[] = {keeper.fd()};
  return send_message(socket_.get(), bytes_of_value(order), fds);
}

void WatchdogLink::arm() {
  if (armed_) return;
  armed_ = true;
  wire::BeatPage& page = page_of(beat_page_);
  beat();
  page.armed.store(1, std::memory_order_seq_cst);
  // Read after the store: see BeatPage. A watchdog that looked within the last tick looks again by itself.
  const std::int64_t now = system_clock().now().time_since_epoch().count();
  if (!must_wake_ && now - page.disarmed_at_ns.load(std::memory_order_relaxed) < tick_.count()) return;
  const wire::WatchdogOrder order{.kind = wire::WatchdogOrderKind::wake};
  // A full queue holds a wake-up already; a dead watchdog is told by its pidfd.
  if (send_message(socket_.get(), bytes_of_value(order))) must_wake_ = false;
}

void WatchdogLink::disarm() {
  if (!armed_) return;
  armed_ = false;
  wire::BeatPage& page = page_of(beat_page_);
  page.disarmed_at_ns.store(system_clock().now().time_since_epoch().count(), std::memory_order_relaxed);
  page.armed.store(0, std::memory_order_seq_cst);
}

void WatchdogLink::beat() {
  std::atomic<std::uint64_t>& word = page_of(beat_page_).beat;
  word.store(word.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

Result<void> WatchdogLink::receive(std::vector<WatchdogMessage>& messages) {
  for (;;) {
    if (gone_told_) return {};
    wire::WatchdogWord word;
    auto message = receive_message(socket_.get(), std::as_writable_bytes(std::span(&word, 1)));
    if (!message) {
      if (message.error().code() == ErrorCode::busy) return {};
      if (message.error().code() != ErrorCode::closed) return std::unexpected(std::move(message).error().with("listening to the watchdog"));
      gone_told_ = true;
      messages.push_back(watchdog::Gone{});
      return {};
    }
    if (message->size != sizeof word || word.magic != wire::kWatchdogMagic)
      return fail(ErrorCode::corrupt, "listening to the watchdog: not a word of its own");
    switch (word.kind) {
      case wire::WatchdogWordKind::ready: break;
      case wire::WatchdogWordKind::fired_deadline: messages.push_back(watchdog::Fired{watchdog::Fired::Why::deadline}); break;
      case wire::WatchdogWordKind::fired_silence:
        messages.push_back(watchdog::Fired{watchdog::Fired::Why::silence});
        disarm();  // it has stopped looking until it is woken
        must_wake_ = true;
        break;
    }
  }
}

void WatchdogLink::kill() { process_.kill(); }

bool WatchdogLink::wait_gone(TimePoint deadline) { return process_.reap(deadline); }

}  // namespace drover
