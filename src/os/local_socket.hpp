#pragma once
/// Unix sockets that carry one message a packet (SOCK_SEQPACKET), for the control socket of a job: a listener and its
/// connections never block; a client waits with a deadline. Addresses are limited to 107 bytes by the kernel.

#include <optional>
#include <string>
#include <string_view>

#include "drover/types/error.hpp"
#include "drover/types/time.hpp"
#include "os/unique_fd.hpp"

namespace drover {

inline constexpr std::size_t kLocalMessageMax = 4096;

/// Binds and listens at `address`, replacing what a dead process left there. Only this user may connect (mode 0600).
Result<UniqueFd> listen_local(const std::string& address);
/// The next waiting connection, or nothing.
Result<std::optional<UniqueFd>> accept_local(int listener);
/// One message; nothing when there is none now; ErrorCode::closed when the other side is gone.
Result<std::optional<std::string>> receive_local(int connection);
/// Never blocks: a peer that does not read its answers loses them (busy).
Result<void> send_local(int connection, std::string_view message);

/// The client's side: connects, sends one message and waits for one answer. Errors: not_found or closed (nobody listens),
/// timed_out.
Result<std::string> ask_local(const std::string& address, std::string_view message, TimePoint deadline);

}  // namespace drover
