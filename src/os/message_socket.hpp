#pragma once
/// A connected pair of message sockets between us and a helper (SOCK_SEQPACKET: a message arrives whole or not at all),
/// descriptors included. Nothing here blocks.

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "drover/types/error.hpp"
#include "os/unique_fd.hpp"

namespace drover {

Result<std::pair<UniqueFd, UniqueFd>> make_message_sockets();
/// The same for bytes, blocking: for two programs that talk to each other.
Result<std::pair<UniqueFd, UniqueFd>> make_stream_sockets();

/// Errors: busy (the queue is full: again later), closed (the peer is gone).
Result<void> send_message(int socket, std::span<const std::byte> bytes, std::span<const int> fds = {});

struct ReceivedMessage {
  std::size_t size = 0;  ///< bytes written into the buffer
  std::vector<UniqueFd> fds;
};
/// The next message. Errors: busy (none waits), closed (the peer is gone and all was read), corrupt (larger than `into`, or
/// with more descriptors than allowed; it is dropped whole).
Result<ReceivedMessage> receive_message(int socket, std::span<std::byte> into, std::size_t fds_max = 1);

}  // namespace drover
