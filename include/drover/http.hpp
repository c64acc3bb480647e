#pragma once
/// A small HTTP/1.1 server for this host: a Unix socket (mode 0600, no token) and a loopback port (bearer token). One thread drives all
/// connections, so a thousand slow clients cost a thousand small buffers and no thread. Handlers get whole requests on that thread and must
/// not block; an answer may come later, from any thread.
///
///   auto server = HttpServer::start({.unix_path = "s.sock"}, {}, [](std::shared_ptr<HttpExchange> e) { e->answer({.body = "hello\n"}); });
///
/// Bounds: connections, bytes of a body, bytes of all bodies in memory, time to send a request. What is beyond them is answered 413, 429 with
/// Retry-After, or closed. start() raises the soft limit on descriptors as far as the connections need it. The protocol is libmicrohttpd's.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "drover/types/error.hpp"
#include "drover/types/time.hpp"

namespace drover {

struct HttpOptions {
  std::string unix_path{};            ///< "" = none; replaced if a dead server left it there, refused if one listens
  std::optional<std::uint16_t> port{};///< on 127.0.0.1; 0 = one that is free; nothing = none
  std::string token{};                ///< asked of requests by port, except for those `open` names; must not be empty where there is a port
  std::vector<std::string> open{};    ///< paths that need no token: "/healthz"
  std::uint32_t connections = 1200;   ///< more are closed at once
  std::uint64_t body_max = std::uint64_t{32} << 20;
  std::uint64_t bodies_max = std::uint64_t{512} << 20;  ///< of all requests together, until they are answered
  Nanos receive_max = Seconds(60);    ///< from a connection's first byte to the end of its request; then it is closed
  Nanos idle_max = Seconds(75);       ///< a kept connection without a request
};

struct HttpRequest {
  std::string method{}, path{}, body{};
};

struct HttpAnswer {
  int status = 200;
  std::string type = "application/json";
  std::string body{};
  std::vector<std::pair<std::string, std::string>> headers{};
};

/// One request and its answer: either answer() once, or begin(), any number of write(), end(). All from any thread.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;
  virtual const HttpRequest& request() const = 0;
  virtual void answer(HttpAnswer answer) = 0;
  virtual void begin(int status, std::string type) = 0;
  virtual void write(std::string_view piece) = 0;
  virtual void end() = 0;
  /// Bytes written and not yet sent: a writer who keeps them below a bound of his own never fills the memory for a slow reader.
  virtual std::uint64_t unsent() const = 0;
  /// Called once, on a thread of the server, when the client is gone before its answer is complete: within 100 ms. What is answered from then
  /// on goes nowhere.
  virtual void when_gone(std::function<void()> told) = 0;
  /// Called when some of what was written has been sent, and when the client is gone. For writers that wait for room.
  virtual void when_room(std::function<void()> told) = 0;
};

using HttpHandler = std::function<void(std::shared_ptr<HttpExchange>)>;
/// Asked when the head of a request is there, before its body: an answer refuses it.
using HttpAdmission = std::function<std::optional<HttpAnswer>(const HttpRequest&)>;

struct HttpCounts {
  std::uint64_t requests = 0, refused_token = 0, refused_size = 0, refused_busy = 0, gone = 0;
  std::uint32_t connections = 0;
  std::uint64_t body_bytes = 0;       ///< in memory now
};

class HttpServer {
 public:
  /// Errors: usage (nothing to listen at, a port without a token), exists (another server listens there), system.
  static Result<HttpServer> start(const HttpOptions& options, HttpAdmission admission, HttpHandler handler);
  HttpServer(HttpServer&&) noexcept;
  HttpServer& operator=(HttpServer&&) noexcept;
  ~HttpServer();  ///< stop()
  /// Takes no more requests; those not yet answered are answered 503. Bounded: a second at most.
  void stop();
  std::uint16_t port() const;  ///< 0 = none
  HttpCounts counts() const;

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace drover
