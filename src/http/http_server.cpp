/// libmicrohttpd's manual, chapters "Starting and stopping the server", "Suspending and resuming"; RFC 9110, RFC 9112.
#include "drover/http.hpp"

#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <set>
#include <thread>

#include "os/clock.hpp"
#include "os/unique_fd.hpp"

namespace drover {
namespace {

constexpr Nanos kLook = Millis(50);            ///< how often waiting connections are asked whether somebody is still there
constexpr rlim_t kDescriptorsBeside = 1024;    ///< for all else of the program
constexpr std::size_t kPiece = std::size_t{64} << 10, kConnectionBytes = std::size_t{32} << 10;

/// Takes as long for every wrong token of the same length.
bool same_secret(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned char difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) difference = static_cast<unsigned char>(difference | (a[i] ^ b[i]));
  return difference == 0;
}

HttpAnswer refusal(int status, std::string_view what) { return {.status = status, .body = "{\"error\":\"" + std::string(what) + "\"}\n"}; }
HttpAnswer too_busy(std::string_view what) {
  HttpAnswer answer = refusal(429, what);
  answer.headers.emplace_back("Retry-After", "1");
  return answer;
}

Result<UniqueFd> listen_unix(const std::string& path) {
  sockaddr_un a{};
  a.sun_family = AF_UNIX;
  if (path.size() >= sizeof a.sun_path) return fail(ErrorCode::usage, "socket '" + path + "': the path is longer than 107 bytes");
  std::memcpy(a.sun_path, path.c_str(), path.size() + 1);
  const auto* const address = reinterpret_cast<const sockaddr*>(&a);
  {
    const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!probe) return fail_errno(errno, "make a socket");
    if (::connect(probe.get(), address, sizeof a) == 0) return fail(ErrorCode::exists, "socket '" + path + "': another server listens there", "stop it, or name another socket");
  }
  struct stat kind{};
  if (::lstat(path.c_str(), &kind) == 0 && !S_ISSOCK(kind.st_mode)) return fail(ErrorCode::exists, "socket '" + path + "': is there and is no socket", "name another path");
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, "replace '" + path + "'");
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail_errno(errno, "make a socket");
  const mode_t before = ::umask(0177);  // never open for others, not even for a moment
  const int bound = ::bind(fd.get(), address, sizeof a);
  const int error = errno;
  ::umask(before);
  if (bound != 0) return fail_errno(error, "bind '" + path + "'");
  if (::listen(fd.get(), 1024) != 0) return fail_errno(errno, "listen at '" + path + "'");
  return fd;
}

Result<UniqueFd> listen_loopback(std::uint16_t& port) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail_errno(errno, "make a socket");
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(port);
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof a;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&a), sizeof a) != 0) return fail_errno(errno, "bind 127.0.0.1:" + std::to_string(port));
  if (::listen(fd.get(), 1024) != 0 || ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&a), &size) != 0) return fail_errno(errno, "listen at 127.0.0.1:" + std::to_string(port));
  port = ntohs(a.sin_port);
  return fd;
}

class Exchange;

/// What all connections share. Outlives every exchange.
struct Shared {
  HttpOptions options;
  HttpAdmission admission;
  HttpHandler handler;
  std::mutex mutex;                  ///< of everything below, and of every exchange's state
  std::condition_variable changed;
  std::set<Exchange*> waiting;       ///< connections that are suspended: nobody but us watches them
  bool stopping = false, end = false;
  HttpCounts counts;
};

/// Its connection is either driven by the library's thread or suspended; while it is suspended its descriptor is ours to look at.
class Exchange final : public HttpExchange, public std::enable_shared_from_this<Exchange> {
 public:
  Exchange(std::shared_ptr<Shared> shared, MHD_Connection* connection, int fd) : shared_(std::move(shared)), connection_(connection), fd_(fd), deadline_(after(system_clock().now(), shared_->options.receive_max)) {}
  ~Exchange() override { release(); }
  const HttpRequest& request() const override { return request_; }

  void answer(HttpAnswer answer) override {
    const std::lock_guard lock(shared_->mutex);
    if (answer_ || streams_) return;
    answer_ = std::move(answer);
    resume();
  }
  void begin(int status, std::string type) override {
    const std::lock_guard lock(shared_->mutex);
    if (answer_ || streams_) return;
    streams_ = true;
    answer_ = HttpAnswer{.status = status, .type = std::move(type)};
    resume();
  }
  void write(std::string_view piece) override {
    const std::lock_guard lock(shared_->mutex);
    if (gone_ || ended_) return;
    out_.append(piece);
    resume();
  }
  std::uint64_t unsent() const override {
    const std::lock_guard lock(shared_->mutex);
    return out_.size() - sent_;
  }
  void end() override {
    const std::lock_guard lock(shared_->mutex);
    ended_ = true;
    resume();
  }
  void when_gone(std::function<void()> told) override {
    {
      const std::lock_guard lock(shared_->mutex);
      if (!gone_) {
        when_gone_ = std::move(told);
        return;
      }
    }
    told();
  }
  void when_room(std::function<void()> told) override {
    const std::lock_guard lock(shared_->mutex);
    when_room_ = std::move(told);
  }

  // ---- what the server does with it; `lock`ed ones with the mutex held
  void resume() {  // locked
    if (!suspended_) return;
    suspended_ = false;
    shared_->waiting.erase(this);
    MHD_resume_connection(connection_);
  }
  void suspend() {  // locked, on the library's thread
    suspended_ = true;
    shared_->waiting.insert(this);
    MHD_suspend_connection(connection_);
    shared_->changed.notify_all();
  }
  /// Called without the mutex.
  void tell_gone() {
    std::function<void()> told, room;
    {
      const std::lock_guard lock(shared_->mutex);
      if (gone_ || complete_) return;
      gone_ = true;
      ++shared_->counts.gone;
      told = std::move(when_gone_);
      room = std::move(when_room_);
      resume();
    }
    if (told) told();
    if (room) room();
  }
  void release() {
    const std::lock_guard lock(shared_->mutex);
    shared_->counts.body_bytes -= std::exchange(counted_, 0);
  }

  static ssize_t read(void* self, std::uint64_t, char* into, std::size_t room) {
    Exchange& e = **static_cast<std::shared_ptr<Exchange>*>(self);
    std::function<void()> told;
    ssize_t given = 0;
    {
      const std::lock_guard lock(e.shared_->mutex);
      if (e.gone_) return MHD_CONTENT_READER_END_WITH_ERROR;
      const std::size_t ready = std::min(room, e.out_.size() - e.sent_);
      if (ready == 0) {
        if (e.ended_) return MHD_CONTENT_READER_END_OF_STREAM;
        if (e.shared_->stopping) return MHD_CONTENT_READER_END_WITH_ERROR;  // cut, and the client sees that it is
        e.suspend();
        return 0;
      }
      std::memcpy(into, e.out_.data() + e.sent_, ready);
      e.sent_ += ready;
      if (e.sent_ == e.out_.size() || e.sent_ > (std::size_t{1} << 20)) {
        e.out_.erase(0, e.sent_);
        e.sent_ = 0;
      }
      told = e.when_room_;
      given = static_cast<ssize_t>(ready);
    }
    if (told) told();
    return given;
  }

  MHD_Result send(MHD_Connection* connection) {
    HttpAnswer answer;
    bool streams = false;
    {
      const std::lock_guard lock(shared_->mutex);
      if (!answer_ || gone_) return MHD_NO;  // closes the connection
      answer = *answer_;
      streams = streams_;
    }
    MHD_Response* const response = streams ? MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, kPiece, &Exchange::read, new std::shared_ptr<Exchange>(shared_from_this()), [](void* self) { delete static_cast<std::shared_ptr<Exchange>*>(self); })
                                           : MHD_create_response_from_buffer(answer.body.size(), answer.body.data(), MHD_RESPMEM_MUST_COPY);
    if (response == nullptr) return MHD_NO;
    MHD_add_response_header(response, "Content-Type", answer.type.c_str());
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    for (const auto& [name, value] : answer.headers) MHD_add_response_header(response, name.c_str(), value.c_str());
    const MHD_Result queued = MHD_queue_response(connection, static_cast<unsigned>(answer.status), response);
    MHD_destroy_response(response);
    return queued;
  }

  std::shared_ptr<Shared> shared_;
  MHD_Connection* connection_;
  int fd_;
  TimePoint deadline_;
  HttpRequest request_;
  std::optional<HttpAnswer> refused_{};  ///< over a bound while the body came
  std::uint64_t counted_ = 0;
  bool given_ = false;                   ///< to the handler
  std::optional<HttpAnswer> answer_{};
  std::string out_{};
  std::size_t sent_ = 0;
  bool suspended_ = false, streams_ = false, ended_ = false, gone_ = false, complete_ = false;
  std::function<void()> when_gone_{}, when_room_{};
};

using Holder = std::shared_ptr<Exchange>;

std::string header_of(MHD_Connection* connection, const char* name) {
  const char* const value = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
  return value == nullptr ? std::string() : std::string(value);
}

/// By the head alone: whether it may come in.
std::optional<HttpAnswer> refused_at_once(Shared& shared, MHD_Connection* connection, const HttpRequest& request, bool by_port) {
  if (by_port && std::ranges::find(shared.options.open, request.path) == shared.options.open.end() && !same_secret(header_of(connection, "Authorization"), "Bearer " + shared.options.token)) {
    const std::lock_guard lock(shared.mutex);
    ++shared.counts.refused_token;
    HttpAnswer answer = refusal(401, "the token is missing or wrong");
    answer.headers.emplace_back("WWW-Authenticate", "Bearer");
    return answer;
  }
  const std::uint64_t length = std::strtoull(header_of(connection, "Content-Length").c_str(), nullptr, 10);
  {
    const std::lock_guard lock(shared.mutex);
    if (length > shared.options.body_max) {
      ++shared.counts.refused_size;
      return refusal(413, "the body is larger than this server takes");
    }
    if (shared.counts.body_bytes + length > shared.options.bodies_max) {
      ++shared.counts.refused_busy;
      return too_busy("too many bytes are waiting");
    }
  }
  return shared.admission ? shared.admission(request) : std::nullopt;
}

MHD_Result access(void* cls, MHD_Connection* connection, const char* url, const char* method, const char*, const char* upload, std::size_t* upload_size, void** own) {
  const auto& [shared, by_port] = *static_cast<std::pair<std::shared_ptr<Shared>, bool>*>(cls);
  if (*own == nullptr) {
    const MHD_ConnectionInfo* const info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    auto exchange = std::make_shared<Exchange>(shared, connection, info == nullptr ? -1 : info->connect_fd);
    *own = new Holder(exchange);
    exchange->request_.method = method;
    exchange->request_.path = url;
    {
      const std::lock_guard lock(shared->mutex);
      ++shared->counts.requests;
    }
    if (auto no = refused_at_once(*shared, connection, exchange->request_, by_port)) {
      const std::lock_guard lock(shared->mutex);
      exchange->answer_ = std::move(no);
    }
    if (exchange->answer_) return exchange->send(connection);
    return MHD_YES;
  }
  const Holder exchange = *static_cast<Holder*>(*own);
  if (*upload_size != 0) {
    const std::size_t size = std::exchange(*upload_size, 0);
    if (system_clock().now() > exchange->deadline_) return MHD_NO;  // it drips: closed
    if (exchange->refused_) return MHD_YES;                       // read on, so that the answer can be heard
    const std::lock_guard lock(shared->mutex);
    const bool large = exchange->request_.body.size() + size > shared->options.body_max;
    if (large || shared->counts.body_bytes + size > shared->options.bodies_max) {
      exchange->refused_ = large ? refusal(413, "the body is larger than this server takes") : too_busy("too many bytes are waiting");
      ++(large ? shared->counts.refused_size : shared->counts.refused_busy);
      shared->counts.body_bytes -= std::exchange(exchange->counted_, 0);
      std::string().swap(exchange->request_.body);
      return MHD_YES;
    }
    exchange->request_.body.append(upload, size);
    exchange->counted_ += size;
    shared->counts.body_bytes += size;
    return MHD_YES;
  }
  if (exchange->given_) return exchange->send(connection);  // resumed: there is an answer, or nobody to hear it
  exchange->given_ = true;
  {
    std::unique_lock lock(shared->mutex);
    if (shared->stopping) exchange->refused_ = refusal(503, "the server is stopping");
    if (exchange->refused_) {
      exchange->answer_ = std::move(exchange->refused_);
      lock.unlock();
      return exchange->send(connection);
    }
    exchange->suspend();  // before anybody can answer
  }
  shared->handler(exchange);
  return MHD_YES;
}

void completed(void*, MHD_Connection*, void** own, MHD_RequestTerminationCode how) {
  const std::unique_ptr<Holder> holder(static_cast<Holder*>(*own));
  *own = nullptr;
  if (!holder) return;
  if (how != MHD_REQUEST_TERMINATED_COMPLETED_OK) (*holder)->tell_gone();
  {
    const std::lock_guard lock((*holder)->shared_->mutex);
    (*holder)->complete_ = true;
    (*holder)->when_gone_ = nullptr;
    (*holder)->when_room_ = nullptr;
  }
  (*holder)->release();
}

}  // namespace

struct HttpServer::Impl {
  std::shared_ptr<Shared> shared = std::make_shared<Shared>();
  std::array<std::pair<std::shared_ptr<Shared>, bool>, 2> doors{};  ///< what a daemon's callback gets: shared, by port
  std::vector<MHD_Daemon*> daemons;
  std::string unix_path;
  std::uint16_t port = 0;
  std::jthread looker;

  ~Impl() { stop(); }

  Result<void> open(UniqueFd listener, bool by_port) {
    auto& door = doors[by_port ? 1 : 0];
    door = {shared, by_port};
    // MHD closes the listening socket itself.
    MHD_Daemon* const daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, nullptr, nullptr, &access, &door, MHD_OPTION_LISTEN_SOCKET, listener.get(), MHD_OPTION_CONNECTION_LIMIT,
                                                static_cast<unsigned>(shared->options.connections), MHD_OPTION_CONNECTION_TIMEOUT, static_cast<unsigned>(shared->options.idle_max / Seconds(1)), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                                                kConnectionBytes, MHD_OPTION_NOTIFY_COMPLETED, &completed, nullptr, MHD_OPTION_END);
    if (daemon == nullptr) return fail_errno(errno, "start the HTTP server");
    (void)listener.release();
    daemons.push_back(daemon);
    return {};
  }

  /// A suspended connection is watched by nobody: whether its client is still there is asked here.
  void look(const std::stop_token& end) {
    while (!end.stop_requested()) {
      std::vector<pollfd> fds;
      std::vector<std::shared_ptr<Exchange>> exchanges;
      {
        std::unique_lock lock(shared->mutex);
        if (shared->waiting.empty()) shared->changed.wait(lock, [&] { return shared->end || !shared->waiting.empty(); });
        shared->changed.wait_for(lock, kLook, [&] { return shared->end; });
        if (shared->end) return;
        for (Exchange* const one : shared->waiting) {
          fds.push_back({.fd = one->fd_, .events = POLLRDHUP, .revents = 0});
          exchanges.push_back(one->shared_from_this());
        }
        // Under the mutex: nothing of these is resumed meanwhile, so the descriptors are still theirs.
        if (!fds.empty()) ::poll(fds.data(), fds.size(), 0);
      }
      for (std::size_t i = 0; i < fds.size(); ++i)
        if ((fds[i].revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0) exchanges[i]->tell_gone();
    }
  }

  void stop() {
    {
      const std::lock_guard lock(shared->mutex);
      if (std::exchange(shared->stopping, true)) return;
    }
    for (MHD_Daemon* const daemon : daemons) {
      const MHD_socket listener = MHD_quiesce_daemon(daemon);
      if (listener != MHD_INVALID_SOCKET) ::close(listener);
    }
    if (!unix_path.empty()) ::unlink(unix_path.c_str());
    std::vector<std::shared_ptr<Exchange>> open;
    {
      const std::lock_guard lock(shared->mutex);
      for (Exchange* const one : shared->waiting) open.push_back(one->shared_from_this());
    }
    for (const auto& one : open) {
      one->answer(refusal(503, "the server is stopping"));
      const std::lock_guard lock(shared->mutex);
      one->resume();
    }
    {
      // The refusals are on their way: they get a moment.
      std::unique_lock lock(shared->mutex);
      shared->changed.wait_for(lock, open.empty() ? Nanos(0) : Nanos(Millis(100)), [] { return false; });
    }
    for (MHD_Daemon* const daemon : daemons) MHD_stop_daemon(daemon);
    {
      const std::lock_guard lock(shared->mutex);
      shared->end = true;
      shared->changed.notify_all();
    }
    looker.request_stop();
    if (looker.joinable()) looker.join();
  }
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::HttpServer(HttpServer&&) noexcept = default;
HttpServer& HttpServer::operator=(HttpServer&&) noexcept = default;
HttpServer::~HttpServer() = default;
std::uint16_t HttpServer::port() const { return impl_->port; }
void HttpServer::stop() { impl_->stop(); }

HttpCounts HttpServer::counts() const {
  HttpCounts counts;
  {
    const std::lock_guard lock(impl_->shared->mutex);
    counts = impl_->shared->counts;
  }
  for (MHD_Daemon* const daemon : impl_->daemons)
    if (const MHD_DaemonInfo* const info = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)) counts.connections += info->num_connections;
  return counts;
}

Result<HttpServer> HttpServer::start(const HttpOptions& options, HttpAdmission admission, HttpHandler handler) {
  if (options.unix_path.empty() && !options.port) return fail(ErrorCode::usage, "an HTTP server needs a socket or a port to listen at");
  if (options.port && options.token.empty()) return fail(ErrorCode::usage, "a port is open to all users of this host: it needs a token");
  // Each connection is a descriptor; 1,024 is a usual soft limit.
  if (rlimit files{}; ::getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < options.connections + kDescriptorsBeside) {
    files.rlim_cur = std::min<rlim_t>(files.rlim_max, options.connections + kDescriptorsBeside);
    (void)::setrlimit(RLIMIT_NOFILE, &files);
  }
  auto impl = std::make_unique<Impl>();
  impl->shared->options = options;
  impl->shared->admission = std::move(admission);
  impl->shared->handler = std::move(handler);
  if (!options.unix_path.empty()) {
    DROVER_TRY(UniqueFd listener, listen_unix(options.unix_path));
    impl->unix_path = options.unix_path;
    DROVER_CHECK(impl->open(std::move(listener), false));
  }
  if (options.port) {
    impl->port = *options.port;
    DROVER_TRY(UniqueFd listener, listen_loopback(impl->port));
    DROVER_CHECK(impl->open(std::move(listener), true));
  }
  impl->looker = std::jthread([self = impl.get()](const std::stop_token& end) { self->look(end); });
  return HttpServer(std::move(impl));
}

}  // namespace drover
