#pragma once
/// The control socket of a job, served by the loop: one message a packet, one answer each. Grammar (docs/job_directory.md):
///
///   request = "stop drain " nanoseconds | "stop cancel" | "stop kill" | "status"
///   answer  = "ok" [" " text] | "error " text

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "os/poller.hpp"
#include "os/unique_fd.hpp"
#include "supervisor/pool_impl.hpp"

namespace drover {

class ControlServer {
 public:
  static Result<std::unique_ptr<ControlServer>> start(const std::string& address);
  int fd() const { return listener_.get(); }
  /// Accepts and answers what is there. `token` is the poller's token of this server; its low 32 bits name a connection, 0 the
  /// listener. At most 16 connections; more wait.
  void serve(Poller& poller, std::uint64_t token, const std::function<void(const ShutdownRequest&)>& stop, const std::function<std::string()>& status);
  /// The meaning of one request; the answer is its second half.
  struct Parsed {
    std::optional<ShutdownRequest> stop;
    bool status = false;
    std::string error;
  };
  static Parsed parse(std::string_view message, TimePoint now);

 private:
  struct Connection {
    std::uint32_t id;
    UniqueFd fd;
  };
  explicit ControlServer(UniqueFd listener) : listener_(std::move(listener)) {}
  UniqueFd listener_;
  std::vector<Connection> connections_;
  std::uint32_t next_id_ = 1;
};

}  // namespace drover
