#pragma once
/// The receiving end of sd_notify(3): a datagram socket at an address of the file system, which only this user reaches.

#include <optional>
#include <string>

#include "drover/types/error.hpp"
#include "os/named_file.hpp"

namespace drover {

/// Removes its file when it goes.
class NotifySocket {
 public:
  /// Lies in `directory` under a name of this process. Errors: refused when the path is over 107 bytes, which is all that
  /// NOTIFY_SOCKET can name; system.
  static Result<NotifySocket> create(const std::string& directory);

  /// One datagram, or nothing when there is none now. Longer ones than 4 KiB are cut, descriptors that come along are not taken.
  Result<std::optional<std::string>> receive();
  const std::string& path() const { return socket_.path(); }
  int fd() const { return socket_.get(); }

 private:
  explicit NotifySocket(NamedFile socket) : socket_(std::move(socket)) {}
  NamedFile socket_;
};

}  // namespace drover
