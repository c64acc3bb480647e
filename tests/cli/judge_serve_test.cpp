// Goal: `drover judge serve` gives every client the right status and every submission its verdict, with bounded memory, whatever the clients
// do. Method: the real server; raw sockets that are slow, rude, many, or gone; the Python client where python3 is.

#include <arpa/inet.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <map>
#include <set>

#include "cli/program.hpp"

namespace drover::test::cli {
namespace {

class Client {
 public:
  static Client local(const std::string& path) {
    sockaddr_un a{};
    a.sun_family = AF_UNIX;
    std::memcpy(a.sun_path, path.c_str(), std::min(path.size(), sizeof a.sun_path - 1));
    return Client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), reinterpret_cast<const sockaddr*>(&a), sizeof a);
  }
  static Client port(int number) {
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_port = htons(static_cast<std::uint16_t>(number));
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return Client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), reinterpret_cast<const sockaddr*>(&a), sizeof a);
  }
  Client(Client&& other) noexcept : fd_(std::exchange(other.fd_, -1)), got_(std::move(other.got_)) {}
  Client& operator=(Client&&) = delete;
  ~Client() { hang_up(); }
  void hang_up() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  bool send(std::string_view text) {
    while (!text.empty()) {
      const ssize_t n = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }
  /// One answer: status, then its body by Content-Length or chunks, or what comes until the end.
  std::pair<int, std::string> answer(int seconds = 60) {
    while (got_.find("\r\n\r\n") == std::string::npos)
      if (!more(seconds)) return {0, got_};
    const std::size_t head_end = got_.find("\r\n\r\n") + 4;
    head_ = got_.substr(0, head_end);
    got_.erase(0, head_end);
    const int status = std::atoi(head_.c_str() + 9);
    std::string body;
    if (head_.find("Transfer-Encoding: chunked") != std::string::npos) {
      for (;;) {
        while (got_.find("\r\n") == std::string::npos)
          if (!more(seconds)) return {status, body};
        const std::size_t size = std::strtoul(got_.c_str(), nullptr, 16), line = got_.find("\r\n") + 2;
        while (got_.size() < line + size + 2)
          if (!more(seconds)) return {status, body};
        body += got_.substr(line, size);
        got_.erase(0, line + size + 2);
        if (size == 0) return {status, body};
      }
    }
    const std::size_t length = head_.find("Content-Length: ");
    const std::size_t size = length == std::string::npos ? 0 : std::strtoul(head_.c_str() + length + 16, nullptr, 10);
    while (got_.size() < size)
      if (!more(seconds)) break;
    body = got_.substr(0, size);
    got_.erase(0, size);
    return {status, body};
  }
  std::pair<int, std::string> post(const std::string& path, const std::string& body, const std::string& more_head = "") {
    send("POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" + more_head + "\r\n" + body);
    return answer();
  }
  std::pair<int, std::string> get(const std::string& path, const std::string& more_head = "") {
    send("GET " + path + " HTTP/1.1\r\nHost: x\r\n" + more_head + "\r\n");
    return answer();
  }
  const std::string& head() const { return head_; }

 private:
  Client(int fd, const sockaddr* address, socklen_t size) : fd_(fd) {
    if (::connect(fd_, address, size) != 0) hang_up();
  }
  bool more(int seconds) {
    pollfd wait{.fd = fd_, .events = POLLIN, .revents = 0};
    char buffer[65536];
    if (::poll(&wait, 1, seconds * 1000) != 1) return false;
    const ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
    if (n <= 0) return false;
    got_.append(buffer, static_cast<std::size_t>(n));
    return true;
  }
  int fd_;
  std::string got_{}, head_{};
};

/// SIGKILLs one worker of the server: a process below it that is called as workers are. False: there is none now.
bool kill_a_driver(pid_t server) {
  std::map<pid_t, pid_t> parents;
  std::vector<pid_t> drivers;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string stat = read_file(entry.path() / "stat");
    const std::size_t end = stat.rfind(')');
    if (end == std::string::npos) continue;
    parents[std::atoi(name.c_str())] = std::atoi(stat.c_str() + end + 4);
    if (stat.find("(drover) ") != std::string::npos && std::atoi(name.c_str()) != server) drivers.push_back(std::atoi(name.c_str()));
  }
  for (const pid_t driver : drivers)
    for (pid_t at = driver; at > 1; at = parents.contains(at) ? parents[at] : 0)
      if (at == server) return ::kill(driver, SIGKILL) == 0;
  return false;
}

class JudgeServe : public testing::Test {
 protected:
  void serve(Words more = {}) {
    if (run(scratch, {"judge", "doctor"}).status != 0) GTEST_SKIP() << "this host allows no sandbox";
    Words words = drover({"judge", "serve", "--socket", "j.sock", "--port", "0", "--json"});
    words.insert(words.end(), more.begin(), more.end());
    server.emplace(scratch, words);
    ASSERT_TRUE(eventually([&] { return server->out().find('\n') != std::string::npos; })) << server->err();
    said = json::parse(server->out());
  }
  Client client() { return Client::local(scratch / "j.sock"); }
  double metric(const std::string& name) {
    const std::string text = client().get("/metrics").second;
    const std::size_t at = text.find("\ndrover_judge_" + name + " ");
    return at == std::string::npos ? -1 : std::strtod(text.c_str() + at + name.size() + 15, nullptr);
  }
  static std::string bash(int number, const std::string& code = "") {
    return json{{"id", "s" + std::to_string(number)}, {"language", "bash"}, {"code", code.empty() ? "echo " + std::to_string(number) : code}, {"tests", {{{"input", ""}, {"output", std::to_string(number)}}}}}.dump();
  }
  const Scratch scratch;
  std::optional<Started> server;
  json said;
};

TEST_F(JudgeServe, EveryRequestGetsItsStatus) {
  serve({"--body", "64K"});
  if (IsSkipped()) return;
  Client one = client();
  EXPECT_EQ(one.get("/healthz").first, 200);
  const auto [status, body] = one.post("/v1/judge", bash(7));  // the connection is kept
  EXPECT_EQ(status, 200);
  EXPECT_EQ(json::parse(body)["outcome"], "all_passed") << body;
  EXPECT_EQ(json::parse(body)["id"], "s7");
  EXPECT_TRUE(json::parse(one.post("/v1/judge", bash(7)).second)["measured"]["cached"]);
  EXPECT_EQ(client().post("/v1/judge", "{").first, 400);
  EXPECT_EQ(client().post("/v1/judge", R"({"code": 1})").first, 400);
  EXPECT_EQ(client().post("/v1/judge", R"({"code": "", "surprise": 1})").first, 400);
  EXPECT_EQ(client().post("/v1/judge", std::string(100'000, 'x')).first, 413);
  EXPECT_EQ(client().post("/nothing", "").first, 404);
  EXPECT_EQ(client().get("/v1/judge").first, 405);
  {
    Client chunked = client();
    chunked.send("POST /v1/judge HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 10; ++i) chunked.send("4000\r\n" + std::string(0x4000, 'x') + "\r\n");
    chunked.send("0\r\n\r\n");
    EXPECT_EQ(chunked.answer().first, 413) << "its size is not known before it is there";
  }
  const int port = said["port"];
  EXPECT_EQ(Client::port(port).get("/healthz").first, 200);
  EXPECT_EQ(Client::port(port).get("/metrics").first, 401);
  EXPECT_EQ(Client::port(port).get("/metrics", "Authorization: Bearer wrong\r\n").first, 401);
  EXPECT_EQ(Client::port(port).get("/metrics", "Authorization: Bearer " + said["token"].get<std::string>() + "\r\n").first, 200);
  EXPECT_EQ(Client::port(port).post("/v1/judge", bash(1)).first, 401);
  Client garbage = client();
  garbage.send(std::string("\x16\x03\x01\x00\xa5 what\r\n\r\n", 15));
  EXPECT_NE(garbage.answer(10).first, 200);
  EXPECT_EQ(client().get("/healthz").first, 200);
}

TEST_F(JudgeServe, ABatchAnswersEveryLineOnce) {
  serve();
  if (IsSkipped()) return;
  std::string lines;
  for (int i = 0; i < 60; ++i) lines += i == 7 ? "what is this\n" : bash(i, i % 4 == 3 ? "exit 1" : "") + "\n";
  const auto [status, body] = client().post("/v1/batch", lines);
  ASSERT_EQ(status, 200);
  std::set<int> seen;
  std::istringstream in(body);
  for (std::string line; std::getline(in, line);) {
    const json one = json::parse(line);
    const int index = one["index"];
    EXPECT_TRUE(seen.insert(index).second) << "twice: " << line;
    if (index == 7) EXPECT_TRUE(one.contains("error")) << line;
    else EXPECT_EQ(one["outcome"], index % 4 == 3 ? "none_passed" : "all_passed") << line;
  }
  EXPECT_EQ(seen.size(), 60U);
}

TEST_F(JudgeServe, ABatchLargerThanTheQueueWaitsForItsOwnTurn) {
  serve({"--queue", "3"});
  if (IsSkipped()) return;
  std::string lines;
  for (int i = 0; i < 40; ++i) lines += bash(i) + "\n";
  const auto [status, body] = client().post("/v1/batch", lines);
  ASSERT_EQ(status, 200);
  std::set<int> seen;
  std::istringstream in(body);
  for (std::string line; std::getline(in, line);) {
    const json one = json::parse(line);
    EXPECT_TRUE(seen.insert(one["index"].get<int>()).second) << "twice: " << line;
    EXPECT_EQ(one["outcome"], "all_passed") << line;
  }
  EXPECT_EQ(seen.size(), 40U);
}

TEST_F(JudgeServe, TestSetsAreNamedByWhatTheyHold) {
  serve();
  if (IsSkipped()) return;
  const std::string set = R"({"tests": [{"input": "2", "output": "4"}, {"input": "5", "output": "10"}]})";
  const std::string sha = json::parse(client().post("/v1/test_sets", set).second)["sha256"];
  EXPECT_EQ(json::parse(client().post("/v1/test_sets", set).second)["sha256"], sha);
  EXPECT_EQ(client().get("/v1/test_sets/" + sha).first, 200);
  EXPECT_EQ(client().get("/v1/test_sets/" + std::string(64, '0')).first, 404);
  const json verdict = json::parse(client().post("/v1/judge", json{{"language", "bash"}, {"code", "read a; echo $((2 * a))"}, {"test_set", sha}}.dump()).second);
  EXPECT_EQ(verdict["outcome"], "all_passed") << verdict;
  EXPECT_EQ(verdict["total"], 2);
  EXPECT_EQ(client().post("/v1/judge", json{{"code", ""}, {"test_set", std::string(64, '0')}}.dump()).first, 404);
  EXPECT_EQ(client().post("/v1/test_sets", "[]").first, 400);
}

TEST_F(JudgeServe, OtherJudgesClientsAreUnderstood) {
  serve();
  if (IsSkipped()) return;
  const json run = json::parse(client().post("/run_code", R"({"code": "read a; echo $a$a; exit 3", "language": "bash", "stdin": "ab"})").second);
  EXPECT_EQ(run["status"], "Failed");
  EXPECT_EQ(run["run_result"]["stdout"], "abab\n");
  EXPECT_EQ(run["run_result"]["return_code"], 3);
  const json slow = json::parse(client().post("/run_code", R"({"code": "while :; do :; done", "language": "bash", "run_timeout": 0.3})").second);
  EXPECT_EQ(slow["run_result"]["status"], "TimeLimitExceeded") << slow;
  EXPECT_EQ(client().post("/run_code", R"({"code": "1"})").first, 400);
  const json files = json::parse(client().post("/run_code", R"({"code": "cat a.txt", "language": "bash", "files": {"a.txt": "aGVsbG8="}})").second);
  EXPECT_EQ(files["run_result"]["stdout"], "hello");
  const auto go = [&](const json& cmd) { return json::parse(client().post("/run", json{{"cmd", {cmd}}}.dump()).second); };
  const json sum = go({{"args", {"/bin/bash", "a.sh"}}, {"procLimit", 5}, {"files", {{{"content", "5"}}, {{"name", "stdout"}, {"max", 1000}}, {{"name", "stderr"}, {"max", 1000}}}}, {"copyIn", {{"a.sh", {{"content", "read a; echo $a > out; echo $((a + 1))"}}}}}, {"copyOut", {"stdout", "out"}}});
  EXPECT_EQ(sum[0]["status"], "Accepted") << sum;
  EXPECT_EQ(sum[0]["files"]["stdout"], "6\n");
  EXPECT_EQ(sum[0]["files"]["out"], "5\n");
  EXPECT_EQ(go({{"args", {"/bin/bash", "-c", "exit 4"}}})[0]["status"], "Nonzero Exit Status");
  EXPECT_EQ(go({{"args", {"/bin/bash", "-c", "while :; do :; done"}}, {"cpuLimit", 100'000'000}})[0]["status"], "Time Limit Exceeded");
  EXPECT_EQ(go({{"args", {"/bin/bash", "-c", "kill -9 $$"}}})[0]["status"], "Signalled");
  EXPECT_EQ(client().post("/run", R"({"cmd": []})").first, 400);
}

TEST_F(JudgeServe, AFullQueueSaysWhenToComeBackAndAClientThatGoesCancels) {
  serve({"--workers", "1", "--queue", "3"});
  if (IsSkipped()) return;
  const std::string sleeper = json{{"language", "bash"}, {"code", "sleep 60"}, {"tests", {{{"input", ""}, {"output", ""}}}}, {"limits", {{"wall_seconds", 50}}}}.dump();
  std::vector<Client> waiting;
  for (int i = 0; i < 3; ++i) {
    waiting.push_back(client());
    const std::string own = sleeper.substr(0, sleeper.size() - 1) + ",\"id\":\"" + std::to_string(i) + "\"}";
    waiting.back().send("POST /v1/judge HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(own.size()) + "\r\n\r\n" + own);
  }
  ASSERT_TRUE(eventually([&] { return metric("open") == 3; }));
  Client refused = client();
  EXPECT_EQ(refused.post("/v1/judge", bash(1)).first, 429);
  EXPECT_NE(refused.head().find("Retry-After: "), std::string::npos) << refused.head();
  for (Client& one : waiting) one.hang_up();
  EXPECT_TRUE(eventually([&] { return metric("open") == 0; })) << "they are not judged for nobody";
  EXPECT_EQ(metric("cancelled_total"), 3);
  const json after = json::parse(client().post("/v1/judge", bash(1)).second);
  EXPECT_EQ(after["outcome"], "all_passed") << after;
}

TEST_F(JudgeServe, AThousandClientsAtOnceLoseNothing) {
  serve({"--queue", "2000"});
  if (IsSkipped()) return;
  constexpr int kClients = 1000;
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = std::min<rlim_t>(files.rlim_max, 4096);
  ::setrlimit(RLIMIT_NOFILE, &files);
  if (files.rlim_cur < kClients + 100) GTEST_SKIP() << "this host allows no " << kClients << " descriptors";
  std::vector<Client> clients;
  // A third of them sends its request in two halves, the second when all have sent the first.
  std::vector<std::string> rest(kClients);
  for (int i = 0; i < kClients; ++i) {
    clients.push_back(client());
    const std::string body = bash(i % 250);  // the queue, not the cache, is meant: each has another limit
    const std::string own = body.substr(0, body.size() - 1) + ",\"limits\":{\"processes\":" + std::to_string(20 + i) + "}}";
    const std::string request = "POST /v1/judge HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(own.size()) + "\r\n\r\n" + own;
    const std::size_t now = i % 3 == 0 ? request.size() / 2 : request.size();
    ASSERT_TRUE(clients.back().send(request.substr(0, now))) << i;
    rest[static_cast<std::size_t>(i)] = request.substr(now);
  }
  for (int i = 0; i < kClients; ++i) EXPECT_TRUE(clients[static_cast<std::size_t>(i)].send(rest[static_cast<std::size_t>(i)]));
  int passed = 0;
  for (int i = 0; i < kClients; ++i) {
    const auto [status, body] = clients[static_cast<std::size_t>(i)].answer(120);
    ASSERT_EQ(status, 200) << i << ": " << body;
    const json verdict = json::parse(body);
    EXPECT_EQ(verdict["id"], "s" + std::to_string(i % 250));
    passed += verdict["outcome"] == "all_passed";
  }
  EXPECT_EQ(passed, kClients);
  EXPECT_EQ(metric("http_body_bytes"), 0);
  EXPECT_EQ(metric("open"), 0);
}

TEST_F(JudgeServe, ItEndsWhenToldWhateverTheProgramsDo) {
  serve({"--workers", "2"});
  if (IsSkipped()) return;
  std::vector<Client> waiting;
  for (int i = 0; i < 4; ++i) {
    waiting.push_back(client());
    const std::string own = json{{"id", std::to_string(i)}, {"language", "bash"}, {"code", "trap '' TERM INT HUP; while :; do sleep 60 & wait; done"}, {"tests", {{{"input", ""}, {"output", ""}}}}, {"limits", {{"wall_seconds", 300}}}}.dump();
    waiting.back().send("POST /v1/judge HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(own.size()) + "\r\n\r\n" + own);
  }
  ASSERT_TRUE(eventually([&] { return metric("running") == 4; }));
  const auto begin = std::chrono::steady_clock::now();
  server->signal(SIGTERM);
  for (Client& one : waiting) {
    const auto [status, body] = one.answer(30);
    EXPECT_TRUE(status == 503 || status == 0) << status << body;
  }
  EXPECT_EQ(server->wait().status, 0);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(15)) << "two seconds, and a wide margin";
  EXPECT_FALSE(fs::exists(scratch / "j.sock"));
}

TEST_F(JudgeServe, AKilledDriverCostsNobodyAVerdict) {
  serve({"--workers", "2"});
  if (IsSkipped()) return;
  for (int round = 0; round < 5; ++round) {
    std::vector<Client> waiting;
    for (int i = 0; i < 6; ++i) {
      waiting.push_back(client());
      const std::string own = bash(100 * round + i, "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do /bin/true; done; echo " + std::to_string(100 * round + i));
      waiting.back().send("POST /v1/judge HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(own.size()) + "\r\n\r\n" + own);
    }
    const double lost = metric("workers_lost_total");
    ASSERT_TRUE(eventually([&] { return metric("running") >= 1 && kill_a_driver(server->pid()); }));
    for (Client& one : waiting) {
      const auto [status, body] = one.answer(60);
      ASSERT_EQ(status, 200) << body;
      EXPECT_EQ(json::parse(body)["outcome"], "all_passed") << body;
    }
    EXPECT_TRUE(eventually([&] { return metric("workers_lost_total") > lost; }));
  }
}

TEST_F(JudgeServe, ASecondServerAtTheSameSocketIsRefused) {
  serve();
  if (IsSkipped()) return;
  const Ended second = run(scratch, {"judge", "serve", "--socket", "j.sock"});
  EXPECT_NE(second.status, 0);
  EXPECT_NE(second.err.find("another server listens there"), std::string::npos) << second.err;
  EXPECT_EQ(client().get("/healthz").first, 200);
  EXPECT_EQ(run(scratch, {"judge", "serve"}).status, 2);
}

// Behind --durable what was taken is judged once, whatever is killed, and told for ever.
class JudgeServeDurable : public JudgeServe {
 protected:
  void begin(const std::string& durability = "power") {
    if (run(scratch, {"judge", "doctor"}).status != 0) GTEST_SKIP() << "this host allows no sandbox";
    server.emplace(scratch, drover({"judge", "serve", "--durable", "--resume", "--job", "kept", "--durability", durability, "--socket", "j.sock", "--progress", "none"}));
    ASSERT_TRUE(eventually([&] { return server->err().find("listening") != std::string::npos; })) << server->err();
  }
  void kill() {
    server->signal(SIGKILL);
    server->wait();
  }
  std::string take(const std::string& submission) {
    const auto [status, body] = client().post("/v1/submissions", submission);
    EXPECT_EQ(status, 202) << body;
    return json::parse(body, nullptr, false).value("key", "");
  }
};

TEST_F(JudgeServeDurable, WhatWasTakenIsJudgedOnceThroughAnyKill) {
  std::map<std::string, int> keys;
  int next = 0;
  for (int life = 0; life < 6; ++life) {
    begin(life == 0 ? "process" : "power");  // the second word is the first life's already
    if (IsSkipped()) return;
    for (int i = 0; i < 20; ++i) {
      keys[take(bash(next))] = next;
      ++next;
    }
    const auto [status, body] = client().post("/v1/judge", bash(next / 2));
    ASSERT_EQ(status, 200) << body;
    EXPECT_EQ(json::parse(body)["outcome"], "all_passed") << body;
    kill();
  }
  begin();
  for (const auto& [key, number] : keys) {
    std::pair<int, std::string> answer;
    ASSERT_TRUE(eventually([&] {
      answer = client().get("/v1/verdicts/" + key);
      return answer.first != 202;
    }));
    ASSERT_EQ(answer.first, 200) << answer.second;
    EXPECT_EQ(json::parse(answer.second)["outcome"], "all_passed") << number << ": " << answer.second;
  }
  // A task each, no more: every submission that came again was known.
  const json status = run(scratch, {"status", "kept", "--json"}).last_json();
  EXPECT_EQ(status["counts"]["completed"], keys.size()) << status;
  EXPECT_EQ(metric("journal_records"), static_cast<double>(keys.size()));
  EXPECT_EQ(client().get("/v1/verdicts/" + std::string(64, '0')).first, 404);
  server->signal(SIGTERM);
  const Ended ended = server->wait();
  EXPECT_EQ(ended.status, 3) << ended.all();
}

TEST_F(JudgeServeDurable, AnEqualOneInFlightIsTheSameOneAndTestSetsStay) {
  begin();
  if (IsSkipped()) return;
  const json set{{"tests", {{{"input", "4"}, {"output", "8"}}}}};
  const auto [registered, sha] = client().post("/v1/test_sets", set.dump());
  ASSERT_EQ(registered, 200);
  const std::string slow = json{{"language", "bash"}, {"code", "sleep 1; read a; echo $((2 * a))"}, {"test_set", json::parse(sha)["sha256"]}}.dump();
  const std::string key = take(slow);
  EXPECT_EQ(take(slow), key);
  {
    Client gone = client();
    gone.send("POST /v1/judge HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(slow.size()) + "\r\n\r\n" + slow);
  }  // it cancels nothing
  kill();
  begin();
  const auto [status, body] = client().post("/v1/judge", slow);
  ASSERT_EQ(status, 200) << body;
  EXPECT_EQ(json::parse(body)["outcome"], "all_passed") << body;
  EXPECT_EQ(metric("journal_records"), 2);
  // Another program's own words run too, and have their place in the order.
  EXPECT_EQ(client().post("/run_code", R"({"language":"bash","code":"echo 5"})").first, 200);
  kill();
  begin();
  EXPECT_EQ(json::parse(client().post("/v1/judge", bash(77)).second)["outcome"], "all_passed");
  EXPECT_EQ(json::parse(client().get("/v1/verdicts/" + key).second)["outcome"], "all_passed");
}

// The whole promise, from a trainer's side: verdicts come, each once, while the server is killed and stopped under them.
TEST_F(JudgeServeDurable, AClientThatTriesAgainGetsEveryVerdict) {
  if (!fs::exists("/usr/bin/python3")) GTEST_SKIP() << "python3 is not here";
  begin();
  if (IsSkipped()) return;
  constexpr int kSubmissions = 300;
  std::ofstream(scratch / "many.py") << "import sys\nsys.path.insert(0, " << json(std::string(DROVER_SOURCE_DIR) + "/clients/python").dump() << ")\nfrom drover_judge import Judge\njudge = Judge('unix:j.sock', patience=120)\n"
                                     << "def all():\n    for i in range(" << kSubmissions << "):\n        yield judge.submission('echo %d' % i, [{'input': '', 'output': str(i)}], language='bash')\n"
                                     << "print(sum(v['outcome'] == 'all_passed' for v in judge.judge_many(all(), max_in_flight=8)), flush=True)\n";
  Started many(scratch, {"/usr/bin/python3", scratch / "many.py"});
  for (int life = 1; life < 5; ++life) {
    ASSERT_TRUE(eventually([&] { return metric("journal_records") >= life * kSubmissions / 6; })) << many.err();
    if (life % 2 == 0) {
      server->signal(SIGTERM);
      EXPECT_EQ(server->wait().status, 3);
    } else {
      kill();
    }
    begin();
  }
  EXPECT_EQ(many.wait().status, 0) << many.err();
  EXPECT_EQ(many.out(), std::to_string(kSubmissions) + "\n") << many.err();
  EXPECT_EQ(metric("journal_records"), kSubmissions) << "each is one task";
}

TEST_F(JudgeServeDurable, WrongWordsAreOneLine) {
  const auto refused = [&](const Words& words, const std::string& why) {
    const Ended ended = run(scratch, words);
    EXPECT_EQ(ended.status, 2) << ended.all();
    EXPECT_NE(ended.err.find(why), std::string::npos) << ended.all();
  };
  refused({"judge", "serve", "--durable", "--port", "0"}, "--token-file");
  refused({"judge", "serve", "--durable"}, "--socket or --port");
  refused({"judge", "serve", "--durable", "--socket", "x.sock", "--resume"}, "--resume: needs --job");
  refused({"judge", "serve", "in.jsonl", "--durable", "--socket", "x.sock"}, "takes no file");
  refused({"judge", "batch", "--durable", "in.jsonl", "out.jsonl"}, "of serve");
  refused({"judge", "batch"}, "needs IN and OUT");
}

TEST(JudgeClient, DoesWhatItsPageSays) {
  const Scratch scratch;
  if (!fs::exists("/usr/bin/python3")) GTEST_SKIP() << "python3 is not here";
  if (run(scratch, {"judge", "doctor"}).status != 0) GTEST_SKIP() << "this host allows no sandbox";
  const std::string source = DROVER_SOURCE_DIR;
  ::setenv("DROVER", DROVER_BINARY, 1);
  Started test(scratch, {"/usr/bin/python3", source + "/clients/python/drover_judge_test.py"});
  EXPECT_EQ(test.wait().status, 0) << test.err();
  for (const char* const example : {"judge_verl.py", "judge_trl.py"}) {
    Started shown(scratch, {"/usr/bin/python3", source + "/examples/" + example});
    EXPECT_EQ(shown.wait().status, 0) << shown.err();
    EXPECT_EQ(shown.out(), std::string(example) == "judge_verl.py" ? "1.0\n0.5\n0.0\n" : "[1.0, 0.0, 0.0]\n");
  }
}

}  // namespace
}  // namespace drover::test::cli
