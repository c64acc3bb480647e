#include "judge/server.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>

#include "drover/clock.hpp"
#include "drover/http.hpp"
#include "drover/termination.hpp"
#include "judge/foreign_api.hpp"
#include "judge/options.hpp"
#include "judge/service.hpp"

namespace drover::judge {
namespace {

using ordered = nlohmann::ordered_json;
using Exchange = std::shared_ptr<HttpExchange>;

constexpr std::uint64_t kUnsentMax = std::uint64_t{4} << 20;  ///< of a batch whose client reads slowly: then no more of it is judged

std::string error_text(const Error& error) {
  ordered object{{"error", error.what()}};
  if (!error.advice().empty()) object["advice"] = error.advice();
  return object.dump(-1, ' ', false, ordered::error_handler_t::replace) + "\n";
}

HttpAnswer answer_of(const Error& error, const Service& service) {
  const int status = error.code() == ErrorCode::usage ? 400 : error.code() == ErrorCode::not_found ? 404 : error.code() == ErrorCode::busy ? 429 : error.code() == ErrorCode::closed ? 503 : 500;
  HttpAnswer answer{.status = status, .body = error_text(error)};
  if (status == 429) answer.headers.emplace_back("Retry-After", std::to_string(service.retry_after() / Seconds(1)));
  return answer;
}

/// One submission whose client waits. It is not judged for a client who is gone.
void judge_one(Service& service, const Exchange& exchange) {
  auto submission = parse_submission(exchange->request().body);
  if (!submission) return exchange->answer(answer_of(submission.error(), service));
  auto ticket = service.submit(std::move(*submission), [exchange](const Verdict& verdict) { exchange->answer({.body = json_of(verdict) + "\n"}); });
  if (!ticket) return exchange->answer(answer_of(ticket.error(), service));
  exchange->when_gone([ticket = *ticket] { ticket->cancel(); });
}

/// Lines in, a verdict a line out as they come: each with its `index`, so that nobody waits for the slowest.
class BatchAnswer : public std::enable_shared_from_this<BatchAnswer> {
 public:
  BatchAnswer(Service& service, Exchange exchange, std::uint32_t window) : service_(service), exchange_(std::move(exchange)), window_(window) {}

  void start() {
    exchange_->begin(200, "application/x-ndjson");
    // It lives by what it is waited for: its submissions' ends, and its client's room.
    exchange_->when_gone([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->cancel();
    });
    exchange_->when_room([self = shared_from_this()] { self->go_on(); });
    go_on();
  }

 private:
  void cancel() {
    const std::lock_guard lock(mutex_);
    gone_ = true;
    for (const auto& [index, ticket] : open_) ticket->cancel();
  }

  /// Submits lines until the window or the queue is full, the client has too much unread, or there are no more. One caller at a time does it;
  /// what the others have changed it sees before it stops, for it looks under the lock.
  void go_on() {
    {
      const std::lock_guard lock(mutex_);
      if (std::exchange(busy_, true)) return;
    }
    for (;;) {
      std::string line;
      std::uint64_t index = 0;
      {
        const std::lock_guard lock(mutex_);
        const std::string& body = exchange_->request().body;
        const bool more = at_ < body.size();
        if (gone_ || !more || full_ || inside_ >= window_ || exchange_->unsent() > kUnsentMax) {
          busy_ = false;
          if (!more && inside_ == 0 && !std::exchange(ended_, true)) exchange_->end();
          return;
        }
        const std::size_t end = std::min(body.find('\n', at_), body.size());
        line = body.substr(at_, end - at_);
        line_at_ = std::exchange(at_, end + 1);
        if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
        index = index_++;
        ++inside_;
      }
      submit(line, index);
    }
  }

  void submit(const std::string& line, std::uint64_t index) {
    const std::string head = R"({"index":)" + std::to_string(index) + ",";
    auto submission = parse_submission(line);
    if (!submission) return told(index, head + error_text(submission.error()).substr(1));
    auto ticket = service_.submit(std::move(*submission), [self = shared_from_this(), index, head](const Verdict& verdict) { self->told(index, head + json_of(verdict).substr(1) + "\n"); });
    if (!ticket && ticket.error().code() == ErrorCode::busy) {
      const std::lock_guard lock(mutex_);
      if (inside_ > 1) {  // others fill the queue: again, when one of ours has ended
        --inside_;
        --index_;
        at_ = line_at_;
        full_ = true;
        return;
      }
    }
    if (!ticket) return told(index, head + error_text(ticket.error()).substr(1));
    const std::lock_guard lock(mutex_);
    if (!(*ticket)->answered()) open_.emplace(index, *ticket);  // told() comes after the answer, and takes it out again
    if (gone_) (*ticket)->cancel();
  }

  void told(std::uint64_t index, const std::string& line) {
    {
      const std::lock_guard lock(mutex_);
      exchange_->write(line);
      open_.erase(index);
      --inside_;
      full_ = false;
    }
    go_on();
  }

  Service& service_;
  Exchange exchange_;
  std::uint32_t window_;
  std::mutex mutex_;
  std::size_t at_ = 0, line_at_ = 0;
  std::uint64_t index_ = 0, inside_ = 0;
  bool busy_ = false, full_ = false, gone_ = false, ended_ = false;
  std::map<std::uint64_t, std::shared_ptr<Ticket<Verdict>>> open_;
};

void run_code(Service& service, const Exchange& exchange) {
  auto execution = read_run_code(exchange->request().body);
  if (!execution) return exchange->answer(answer_of(execution.error(), service));
  auto ticket = service.execute(*execution, [exchange, asked = *execution](const Executed& done) { exchange->answer({.body = write_run_code(asked, done)}); });
  if (!ticket) return exchange->answer(answer_of(ticket.error(), service));
  exchange->when_gone([ticket = *ticket] { ticket->cancel(); });
}

void go_judge(Service& service, const Exchange& exchange) {
  auto run = read_go_judge(exchange->request().body);
  if (!run) return exchange->answer(answer_of(run.error(), service));
  auto ticket = service.execute(run->execution, [exchange, asked = *run](const Executed& done) { exchange->answer({.body = write_go_judge(asked, done)}); });
  if (!ticket) return exchange->answer(answer_of(ticket.error(), service));
  exchange->when_gone([ticket = *ticket] { ticket->cancel(); });
}

std::string metrics(const Service& service, const HttpCounts& http) {
  const ServiceStatus s = service.status();
  std::string text;
  const auto one = [&](const char* name, const char* kind, const char* help, auto value) { text += fmt::format("# HELP drover_judge_{0} {1}\n# TYPE drover_judge_{0} {2}\ndrover_judge_{0} {3}\n", name, help, kind, value); };
  one("submitted_total", "counter", "Submissions and executions taken.", s.submitted);
  one("answered_total", "counter", "Of them answered.", s.answered);
  one("cached_total", "counter", "Answered from the cache.", s.cached);
  one("refused_total", "counter", "Refused because the queue was full.", s.refused);
  one("cancelled_total", "counter", "Ended because their client went away or the server stopped.", s.cancelled);
  text += "# HELP drover_judge_outcomes_total Submissions by outcome.\n# TYPE drover_judge_outcomes_total counter\n";
  for (std::size_t i = 0; i < std::size(s.outcomes); ++i) text += fmt::format("drover_judge_outcomes_total{{outcome=\"{}\"}} {}\n", name_of(static_cast<SubmissionOutcome>(i)), s.outcomes[i]);
  one("open", "gauge", "Submissions queued and running.", s.open);
  one("running", "gauge", "Of them with a worker.", s.running);
  one("open_bytes", "gauge", "Bytes of them.", s.open_bytes);
  one("workers", "gauge", "Slots.", s.workers);
  one("workers_lost_total", "counter", "Workers that died and were replaced.", s.workers_lost);
  one("test_sets", "gauge", "Registered test sets.", s.test_sets);
  one("test_set_bytes", "gauge", "Bytes of them.", s.test_set_bytes);
  one("candidate_cpu_seconds_total", "counter", "CPU time of candidates and compilers.", s.cpu_seconds);
  one("http_requests_total", "counter", "HTTP requests.", http.requests);
  one("http_unauthorized_total", "counter", "Requests without the right token.", http.refused_token);
  one("http_too_large_total", "counter", "Requests with a body over the bound.", http.refused_size);
  one("http_busy_total", "counter", "Requests refused because too many bytes wait.", http.refused_busy);
  one("http_gone_total", "counter", "Clients that went away before their answer.", http.gone);
  one("http_connections", "gauge", "Connections open now.", http.connections);
  one("http_body_bytes", "gauge", "Bytes of requests in memory.", http.body_bytes);
  return text;
}

Result<std::string> token_of(const std::string& file) {
  if (file.empty()) {
    std::random_device random;
    std::string token;
    for (int i = 0; i < 8; ++i) token += fmt::format("{:08x}", random());
    return token;
  }
  std::ifstream in(file);
  std::string token;
  std::getline(in, token);
  while (!token.empty() && (token.back() == '\r' || token.back() == ' ')) token.pop_back();
  if (token.size() < 16) return fail(ErrorCode::usage, fmt::format("--token-file '{}': holds no token of at least 16 characters", file));
  return token;
}

}  // namespace

Result<int> serve(const std::vector<std::string>& words) {
  ServiceOptions options;
  HttpOptions http;
  std::int32_t port = -1;
  std::string token_file, reward = "all";
  bool json = false, until_stdin_ends = false;
  Schema schema;
  schema.text("socket", http.unix_path, "Unix socket to listen at, for this user alone; no token");
  schema.integer("port", port, Range<std::int32_t>{-1, 65535}, "port of 127.0.0.1 to listen at, 0: one that is free; asks for a token");
  schema.text("token-file", token_file, "its first line is the token; else one is made and printed");
  schema.integer("workers", options.workers, Range<std::uint32_t>{0, 1024}, "slots that judge at once; 0: usable cores");
  schema.integer("queue", options.open_max, Range<std::uint32_t>{1, 1'000'000}, "submissions open at once; more are answered 429");
  schema.bytes("queue-bytes", options.bytes_max, {1 << 16, std::uint64_t{1} << 40}, "of them together");
  schema.bytes("body", http.body_max, {1 << 10, std::uint64_t{1} << 32}, "of a request; more is answered 413");
  schema.bytes("bodies", http.bodies_max, {1 << 16, std::uint64_t{1} << 40}, "of all requests in memory; more are answered 429");
  schema.integer("connections", http.connections, Range<std::uint32_t>{1, 60'000}, "open at once; more are closed");
  schema.bytes("cache", options.cache_bytes, {0, std::uint64_t{1} << 40}, "verdicts remembered by content; 0: none");
  schema.bytes("test-sets", options.test_sets_bytes, {0, std::uint64_t{1} << 34}, "registered test sets");
  schema.text("reward", reward, "all: 1 when all tests passed and else 0; fraction: passed / tests; or by outcome: all_passed=1,some_failed=0.1");
  describe(schema, options.slot);
  schema.flag("until-stdin-ends", until_stdin_ends, "end when stdin does: with the program that started it, however that ends");
  schema.flag("json", json, "say where it listens as one JSON line");
  DROVER_TRY(const bool go_on, read_options(words, schema, "drover judge serve --socket PATH | --port N [options]\nJudges over HTTP until it is told to end (docs/judge_api.md)."));
  if (!go_on) return 0;
  if (http.unix_path.empty() && port < 0) return fail(ErrorCode::usage, "--socket or --port: one of them must be given", "as in: drover judge serve --socket judge.sock");
  if (!http.unix_path.empty()) http.unix_path = std::filesystem::absolute(http.unix_path).lexically_normal().string();
  if (port >= 0) {
    http.port = static_cast<std::uint16_t>(port);
    DROVER_TRY(http.token, token_of(token_file));
  }
  DROVER_CHECK(complete(options.slot));
  http.open = {"/healthz"};
  DROVER_TRY(options.reward, parse_reward(reward));

  DROVER_TRY(Termination termination, Termination::watch(until_stdin_ends));
  DROVER_TRY(const std::unique_ptr<Service> service, Service::start(options));
  std::optional<HttpServer> server;
  const std::uint32_t window = std::max<std::uint32_t>(4 * service->status().workers, 8);

  struct Route {
    const char* method;
    const char* path;
    std::function<void(const Exchange&)> handle;
  };
  const std::vector<Route> routes{
      {"POST", "/v1/judge", [&](const Exchange& e) { judge_one(*service, e); }},
      {"POST", "/v1/batch", [&](const Exchange& e) { std::make_shared<BatchAnswer>(*service, e, window)->start(); }},
      {"POST", "/v1/test_sets",
       [&](const Exchange& e) {
         auto sha = service->add_test_set(e->request().body);
         e->answer(sha ? HttpAnswer{.body = ordered{{"sha256", *sha}}.dump() + "\n"} : answer_of(sha.error(), *service));
       }},
      {"POST", "/run_code", [&](const Exchange& e) { run_code(*service, e); }},
      {"POST", "/run", [&](const Exchange& e) { go_judge(*service, e); }},
      {"GET", "/metrics", [&](const Exchange& e) { e->answer({.type = "text/plain; version=0.0.4", .body = metrics(*service, server->counts())}); }},
      {"GET", "/healthz",
       [&](const Exchange& e) {
         const ServiceStatus status = service->status();
         e->answer({.body = ordered{{"status", "ok"}, {"profile", service->profile()}, {"workers", status.workers}, {"open", status.open}}.dump() + "\n"});
       }},
  };
  const auto admit = [&](const HttpRequest& request) -> std::optional<HttpAnswer> {
    bool path = request.path.starts_with("/v1/test_sets/");
    for (const Route& route : routes) {
      if (request.path != route.path) continue;
      path = true;
      if (request.method == route.method) return std::nullopt;
    }
    if (request.path.starts_with("/v1/test_sets/") && (request.method == "GET" || request.method == "HEAD")) return std::nullopt;
    return HttpAnswer{.status = path ? 405 : 404, .body = error_text(Error(ErrorCode::not_found, request.method + " " + request.path + ": there is no such thing", "docs/judge_api.md has the list"))};
  };
  const auto handle = [&](const Exchange& exchange) {
    for (const Route& route : routes)
      if (exchange->request().path == route.path && exchange->request().method == route.method) return route.handle(exchange);
    const bool there = service->has_test_set(exchange->request().path.substr(std::string_view("/v1/test_sets/").size()));
    exchange->answer({.status = there ? 200 : 404, .body = there ? "{\"registered\":true}\n" : "{\"registered\":false}\n"});
  };
  DROVER_TRY(server, HttpServer::start(http, admit, handle));

  ordered said{{"listening", true}, {"profile", service->profile()}, {"workers", service->status().workers}};
  std::string text = fmt::format("drover judge: {} workers, profile {}\n", service->status().workers, service->profile());
  if (!http.unix_path.empty()) {
    said["socket"] = http.unix_path;
    text += "  socket " + http.unix_path + "\n";
  }
  if (http.port) {
    said["port"] = server->port();
    text += fmt::format("  http://127.0.0.1:{}\n", server->port());
    if (token_file.empty()) {
      said["token"] = http.token;
      text += "  token " + http.token + "\n";
    }
  }
  text = json ? said.dump() + "\n" : text;
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);

  while (termination.wait(now() + Seconds(3600)) == 0) {
  }
  // First the judging: what is open is answered `cancelled` and sent; then the door.
  service->shutdown();
  server->stop();
  const ServiceStatus status = service->status();
  if (!json) std::fprintf(stderr, "drover judge: stopped; %llu submissions, %llu answered\n", static_cast<unsigned long long>(status.submitted), static_cast<unsigned long long>(status.answered));
  return 0;
}

}  // namespace drover::judge
