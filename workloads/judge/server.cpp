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
#include <thread>

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

constexpr Nanos kLook = Millis(250);  ///< at whether the job is to stop, and to tell how far it is
constexpr std::uint64_t kUnsentMax = std::uint64_t{4} << 20;  ///< of a batch whose client reads slowly: then no more of it is judged

std::string error_text(const Error& error) {
  ordered object{{"error", error.what()}};
  if (!error.advice().empty()) object["advice"] = error.advice();
  return object.dump(-1, ' ', false, ordered::error_handler_t::replace) + "\n";
}

HttpAnswer answer_of(const Error& error, const Service& service) {
  const int status = error.code() == ErrorCode::usage ? 400 : error.code() == ErrorCode::not_found ? 404 : error.code() == ErrorCode::busy ? 429 : error.code() == ErrorCode::closed ? 503 : error.code() == ErrorCode::no_space ? 507 : 500;
  HttpAnswer answer{.status = status, .body = error_text(error)};
  if (status == 429) answer.headers.emplace_back("Retry-After", std::to_string(service.retry_after() / Seconds(1)));
  return answer;
}

/// One submission whose client waits. It is not judged for a client who is gone.
void judge_one(Service& service, const Exchange& exchange) {
  auto submission = parse_submission(exchange->request().body);
  if (!submission) return exchange->answer(answer_of(submission.error(), service));
  auto ticket = service.submit(std::move(*submission), [exchange](const Verdict& verdict) {
    // Its client is there: it is the server that stops. Another one, or the next run, may judge it.
    exchange->answer({.status = was_cancelled(verdict) ? 503 : 200, .body = json_of(verdict) + "\n"});
  });
  if (!ticket) return exchange->answer(answer_of(ticket.error(), service));
  exchange->when_gone([ticket = *ticket] { ticket->cancel(); });
}

/// One submission nobody waits for: 202 when it is safe.
void take_one(Service& service, const Exchange& exchange) {
  auto submission = parse_submission(exchange->request().body);
  if (!submission) return exchange->answer(answer_of(submission.error(), service));
  auto taken = service.take(std::move(*submission), [exchange, &service](const Result<std::string>& key) {
    exchange->answer(key ? HttpAnswer{.status = 202, .body = ordered{{"key", *key}}.dump() + "\n"} : answer_of(key.error(), service));
  });
  if (!taken) exchange->answer(answer_of(taken.error(), service));
}

void tell_kept(const Service& service, const Exchange& exchange, std::string_view key) {
  auto kept = service.kept(key);
  if (!kept) return exchange->answer(answer_of(kept.error(), service));
  if (kept->pending) return exchange->answer({.status = 202, .body = "{\"pending\":true}\n", .headers = {{"Retry-After", std::to_string(service.retry_after() / Seconds(1))}}});
  if (!kept->verdict) return exchange->answer({.status = 404, .body = error_text(Error(ErrorCode::not_found, "its judging ended without a verdict", "submit it again"))});
  exchange->answer({.body = json_of(*kept->verdict) + "\n"});
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
  one("journal_records", "gauge", "With --durable: submissions, executions and test sets in the journal.", s.journal);
  one("replayed_total", "counter", "With --durable: answers of earlier runs, known again.", s.replayed);
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

/// The doors of a service.
class Doors {
 public:
  static Result<std::unique_ptr<Doors>> open(Service& service, const HttpOptions& options) {
    auto doors = std::unique_ptr<Doors>(new Doors(service));
    DROVER_TRY(doors->server_, HttpServer::start(options, [self = doors.get()](const HttpRequest& request) { return self->admit(request); }, [self = doors.get()](const Exchange& exchange) { self->handle(exchange); }));
    return doors;
  }
  HttpServer& server() { return *server_; }

 private:
  static constexpr std::string_view kTestSets = "/v1/test_sets/", kVerdicts = "/v1/verdicts/";
  struct Route {
    const char* method;
    const char* path;
    std::function<void(const Exchange&)> handle;
  };

  explicit Doors(Service& service)
      : service_(service), window_(std::max<std::uint32_t>(4 * service.status().workers, 8)), routes_{
            {"POST", "/v1/judge", [&](const Exchange& e) { judge_one(service_, e); }},
            {"POST", "/v1/batch", [&](const Exchange& e) { std::make_shared<BatchAnswer>(service_, e, window_)->start(); }},
            {"POST", "/v1/submissions", [&](const Exchange& e) { take_one(service_, e); }},
            {"POST", "/v1/test_sets",
             [&](const Exchange& e) {
               auto sha = service_.add_test_set(e->request().body);
               e->answer(sha ? HttpAnswer{.body = ordered{{"sha256", *sha}}.dump() + "\n"} : answer_of(sha.error(), service_));
             }},
            {"POST", "/run_code", [&](const Exchange& e) { run_code(service_, e); }},
            {"POST", "/run", [&](const Exchange& e) { go_judge(service_, e); }},
            {"GET", "/metrics", [&](const Exchange& e) { e->answer({.type = "text/plain; version=0.0.4", .body = metrics(service_, server_->counts())}); }},
            {"GET", "/healthz",
             [&](const Exchange& e) {
               const ServiceStatus status = service_.status();
               e->answer({.body = ordered{{"status", "ok"}, {"profile", service_.profile()}, {"workers", status.workers}, {"open", status.open}}.dump() + "\n"});
             }},
        } {}

  static bool is_below(const HttpRequest& request) { return request.path.starts_with(kTestSets) || request.path.starts_with(kVerdicts); }
  std::optional<HttpAnswer> admit(const HttpRequest& request) const {
    bool path = is_below(request);
    for (const Route& route : routes_) {
      if (request.path != route.path) continue;
      path = true;
      if (request.method == route.method) return std::nullopt;
    }
    if (is_below(request) && (request.method == "GET" || request.method == "HEAD")) return std::nullopt;
    return HttpAnswer{.status = path ? 405 : 404, .body = error_text(Error(ErrorCode::not_found, request.method + " " + request.path + ": there is no such thing", "docs/judge_api.md has the list"))};
  }
  void handle(const Exchange& exchange) const {
    const std::string_view path = exchange->request().path;
    for (const Route& route : routes_)
      if (path == route.path && exchange->request().method == route.method) return route.handle(exchange);
    if (path.starts_with(kVerdicts)) return tell_kept(service_, exchange, path.substr(kVerdicts.size()));
    const bool there = service_.has_test_set(path.substr(kTestSets.size()));
    exchange->answer({.status = there ? 200 : 404, .body = there ? "{\"registered\":true}\n" : "{\"registered\":false}\n"});
  }

  Service& service_;
  std::uint32_t window_;  ///< submissions of one batch at once
  std::vector<Route> routes_;
  std::optional<HttpServer> server_;
};

}  // namespace

void describe(Schema& schema, ServeOptions& options) {
  ServiceOptions& service = options.service;
  HttpOptions& http = options.http;
  schema.text("socket", http.unix_path, "Unix socket to listen at, for this user alone; no token");
  schema.integer("port", options.port, Range<std::int32_t>{-1, 65535}, "port of 127.0.0.1 to listen at, 0: one that is free; asks for a token");
  schema.text("token-file", options.token_file, "its first line is the token; else one is made and printed");
  schema.integer("queue", service.open_max, Range<std::uint32_t>{1, 1'000'000}, "submissions open at once; more are answered 429");
  schema.bytes("queue-bytes", service.bytes_max, {1 << 16, std::uint64_t{1} << 40}, "of them together");
  schema.bytes("body", http.body_max, {1 << 10, std::uint64_t{1} << 32}, "of a request; more is answered 413");
  schema.bytes("bodies", http.bodies_max, {1 << 16, std::uint64_t{1} << 40}, "of all requests in memory; more are answered 429");
  schema.integer("connections", http.connections, Range<std::uint32_t>{1, 60'000}, "open at once; more are closed");
  schema.bytes("cache", service.cache_bytes, {0, std::uint64_t{1} << 40}, "verdicts remembered by content; 0: none");
  schema.bytes("test-sets", service.test_sets_bytes, {0, std::uint64_t{1} << 34}, "registered test sets");
}

Result<void> complete(ServeOptions& options, bool durable) {
  HttpOptions& http = options.http;
  if (http.unix_path.empty() && options.port < 0) return fail(ErrorCode::usage, "--socket or --port: one of them must be given", "as in: drover judge serve --socket judge.sock");
  if (!http.unix_path.empty()) http.unix_path = std::filesystem::absolute(http.unix_path).lexically_normal().string();
  if (options.port >= 0) {
    if (durable && options.token_file.empty()) return fail(ErrorCode::usage, "--port with --durable: needs --token-file", "its first line is the token, for the next run too");
    http.port = static_cast<std::uint16_t>(options.port);
    if (!options.token_file.empty()) options.token_file = std::filesystem::absolute(options.token_file).lexically_normal().string();
    DROVER_TRY(http.token, token_of(options.token_file));
  }
  http.open = {"/healthz"};
  return {};
}

Result<void> serve(Job& job, const ServeOptions& options) {
  DROVER_TRY(const std::unique_ptr<Service> service, Service::start(options.service, job));
  DROVER_TRY(const std::unique_ptr<Doors> doors, Doors::open(*service, options.http));
  std::fprintf(stderr, "drover judge: listening:%s%s%s; %llu verdicts of earlier runs\n", options.http.unix_path.empty() ? "" : " socket ", options.http.unix_path.c_str(),
               options.http.port ? fmt::format(" http://127.0.0.1:{}", doors->server().port()).c_str() : "", static_cast<unsigned long long>(service->status().replayed));
  const Nanos left = job.time_left();
  const TimePoint end = left == kUnlimited ? kNever : in(left);
  while (!job.should_stop() && now() < end) {
    const ServiceStatus status = service->status();
    job.progress({.done = static_cast<double>(status.answered), .total = 0, .rate = 0, .unit = "submissions", .note = fmt::format("{} open, {} running", status.open, status.running)});
    std::this_thread::sleep_for(kLook);
  }
  service->shutdown();
  doors->server().stop();
  const ServiceStatus status = service->status();
  job.figure({.key = "submitted", .value = static_cast<std::int64_t>(status.submitted), .shown = fmt::format("{} submissions, {} answered, {} of them known before", status.submitted, status.answered, status.cached)});
  job.figure({.key = "answered", .value = static_cast<std::int64_t>(status.answered), .shown = {}});
  job.figure({.key = "cached", .value = static_cast<std::int64_t>(status.cached), .shown = {}});
  job.figure({.key = "replayed", .value = static_cast<std::int64_t>(status.replayed), .shown = {}});
  return {};
}

Result<int> serve(const std::vector<std::string>& words) {
  ServeOptions options;
  std::string reward = "all";
  bool json = false, until_stdin_ends = false, durable = false;
  Schema schema;
  describe(schema, options);
  schema.integer("workers", options.service.workers, Range<std::uint32_t>{0, 1024}, "slots that judge at once; 0: usable cores");
  schema.text("reward", reward, "all: 1 when all tests passed and else 0; fraction: passed / tests; or by outcome: all_passed=1,some_failed=0.1");
  describe(schema, options.service.slot);
  schema.flag("durable", durable, "as a job: what is taken is in its journal, verdicts are in its ledger, and `drover resume` goes on (`drover judge --help` has a job's options)");
  schema.flag("until-stdin-ends", until_stdin_ends, "end when stdin does: with the program that started it, however that ends");
  schema.flag("json", json, "say where it listens as one JSON line");
  DROVER_TRY(const bool go_on, read_options(words, schema, "drover judge serve --socket PATH | --port N [options]\nJudges over HTTP until it is told to end (docs/judge_api.md)."));
  if (!go_on) return 0;
  DROVER_CHECK(complete(options, false));
  DROVER_CHECK(complete(options.service.slot));
  DROVER_TRY(options.service.reward, parse_reward(reward));

  DROVER_TRY(Termination termination, Termination::watch(until_stdin_ends));
  DROVER_TRY(const std::unique_ptr<Service> service, Service::start(options.service));
  DROVER_TRY(const std::unique_ptr<Doors> doors, Doors::open(*service, options.http));

  const HttpOptions& http = options.http;
  ordered said{{"listening", true}, {"profile", service->profile()}, {"workers", service->status().workers}};
  std::string text = fmt::format("drover judge: {} workers, profile {}\n", service->status().workers, service->profile());
  if (!http.unix_path.empty()) {
    said["socket"] = http.unix_path;
    text += "  socket " + http.unix_path + "\n";
  }
  if (http.port) {
    said["port"] = doors->server().port();
    text += fmt::format("  http://127.0.0.1:{}\n", doors->server().port());
    if (options.token_file.empty()) {
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
  doors->server().stop();
  const ServiceStatus status = service->status();
  if (!json) std::fprintf(stderr, "drover judge: stopped; %llu submissions, %llu answered\n", static_cast<unsigned long long>(status.submitted), static_cast<unsigned long long>(status.answered));
  return 0;
}

}  // namespace drover::judge
