/// Accept, parse, answer; never waits.
#include "supervisor/control_server.hpp"

#include <algorithm>
#include <charconv>

#include "os/clock.hpp"
#include "os/local_socket.hpp"

namespace drover {

Result<std::unique_ptr<ControlServer>> ControlServer::start(const std::string& address) {
  DROVER_TRY(UniqueFd listener, listen_local(address));
  return std::unique_ptr<ControlServer>(new ControlServer(std::move(listener)));
}

ControlServer::Parsed ControlServer::parse(std::string_view message, TimePoint now) {
  while (!message.empty() && (message.back() == '\n' || message.back() == ' ')) message.remove_suffix(1);
  if (message == "status") return {.stop = {}, .status = true, .error = {}};
  if (message == "stop cancel") return {.stop = ShutdownRequest{Shutdown::cancel, kNever}, .error = {}};
  if (message == "stop kill") return {.stop = ShutdownRequest{Shutdown::kill, kNever}, .error = {}};
  constexpr std::string_view kDrain = "stop drain ";
  if (message.starts_with(kDrain)) {
    const std::string_view digits = message.substr(kDrain.size());
    std::int64_t ns = 0;
    const auto [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), ns);
    if (ec == std::errc() && end == digits.data() + digits.size() && ns >= 0)
      return {.stop = ShutdownRequest{Shutdown::drain, after(now, Nanos(ns))}, .error = {}};
    return {.stop = {}, .error = "stop drain: '" + std::string(digits) + "' is not a number of nanoseconds"};
  }
  return {.stop = {}, .error = "unknown request '" + std::string(message.substr(0, 64)) + "': status, stop drain NANOSECONDS, stop cancel or stop kill"};
}

void ControlServer::serve(Poller& poller, std::uint64_t token, const std::function<void(const ShutdownRequest&)>& stop,
                          const std::function<std::string()>& status) {
  const auto id = static_cast<std::uint32_t>(token);
  if (id == 0) {
    auto accepted = accept_local(listener_.get());
    if (!accepted || !*accepted) return;
    if (connections_.size() >= 16) {
      (void)poller.remove(connections_.front().fd.get());
      connections_.erase(connections_.begin());  // the oldest, most likely forgotten by its owner
    }
    const std::uint64_t source = token & ~std::uint64_t{0xffffffff};
    if (poller.add((*accepted)->get(), source | next_id_)) connections_.push_back({next_id_++, std::move(**accepted)});
    return;
  }
  const auto it = std::find_if(connections_.begin(), connections_.end(), [&](const Connection& c) { return c.id == id; });
  if (it == connections_.end()) return;
  auto message = receive_local(it->fd.get());
  if (!message) {
    (void)poller.remove(it->fd.get());
    connections_.erase(it);
    return;
  }
  if (!*message) return;
  const Parsed parsed = parse(**message, system_clock().now());
  if (!parsed.error.empty()) {
    (void)send_local(it->fd.get(), "error " + parsed.error);
  } else if (parsed.status) {
    (void)send_local(it->fd.get(), "ok " + status());
  } else {
    stop(*parsed.stop);
    (void)send_local(it->fd.get(), "ok");
  }
}

}  // namespace drover
