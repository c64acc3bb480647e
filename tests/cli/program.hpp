#pragma once
// The real drover as a subprocess, every wait bounded; a scratch directory; and waiting for something to become true.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace drover::test::cli {

namespace fs = std::filesystem;
using json = nlohmann::json;
using namespace std::chrono_literals;
using Words = std::vector<std::string>;

inline constexpr auto kPatience = 60s;  // of a busy machine

/// Looks again and again until it is true or the bound is reached.
template <class F>
bool eventually(const F& holds, std::chrono::milliseconds bound = kPatience) {
  const auto end = std::chrono::steady_clock::now() + bound;
  while (true) {
    if (holds()) return true;
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(5ms);  // sleep: between two looks of a bounded wait
  }
}

class Scratch {
 public:
  Scratch() {
    std::string name = (fs::temp_directory_path() / "drover-cli-XXXXXX").string();
    if (::mkdtemp(name.data()) != nullptr) path_ = fs::canonical(name);
  }
  ~Scratch() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const fs::path& path() const { return path_; }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

struct Ended {
  int status = -1;  ///< exit status, or 128 + signal, or -1: it did not end in time and was killed
  std::string out, err;
  std::string all() const { return "status " + std::to_string(status) + "\nout: " + out + "\nerr: " + err; }
  /// The last line of stdout as JSON.
  json last_json() const {
    std::string line, last;
    std::istringstream lines(out);
    while (std::getline(lines, line)) {
      if (!line.empty()) last = line;
    }
    return json::parse(last, nullptr, false);
  }
};

inline std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// A started program; its output goes to files, so that nothing can block on a pipe.
class Started {
 public:
  Started(const Scratch& scratch, Words words, bool own_group = true) : out_(scratch / next("out")), err_(scratch / next("err")) {
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_addopen(&actions, 1, out_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ::posix_spawn_file_actions_addopen(&actions, 2, err_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ::posix_spawn_file_actions_addchdir_np(&actions, scratch.path().c_str());
    posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    ::posix_spawnattr_setflags(&attributes, static_cast<short>(own_group ? POSIX_SPAWN_SETPGROUP : 0));
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    std::vector<std::string> environment;
    for (char** variable = environ; *variable != nullptr; ++variable) {
      if (!std::string_view(*variable).starts_with("XDG_STATE_HOME=")) environment.emplace_back(*variable);
    }
    environment.push_back("XDG_STATE_HOME=" + (scratch / "state"));
    std::vector<char*> envp;
    for (std::string& variable : environment) envp.push_back(variable.data());
    envp.push_back(nullptr);
    if (::posix_spawnp(&pid_, argv.front(), &actions, &attributes, argv.data(), envp.data()) != 0) pid_ = -1;
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }
  ~Started() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }
  Started(const Started&) = delete;
  Started& operator=(const Started&) = delete;

  pid_t pid() const { return pid_; }
  void signal(int number) const { ::kill(pid_, number); }
  void signal_group(int number) const { ::kill(-pid_, number); }
  std::string out() const { return read_file(out_); }
  std::string err() const { return read_file(err_); }
  bool has_ended() {
    if (pid_ <= 0) return true;
    int raw = 0;
    if (::waitpid(pid_, &raw, WNOHANG) != pid_) return false;
    status_ = WIFEXITED(raw) ? WEXITSTATUS(raw) : 128 + WTERMSIG(raw);
    pid_ = -1;
    return true;
  }
  Ended wait(std::chrono::milliseconds bound = kPatience) {
    if (!eventually([&] { return has_ended(); }, bound)) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
      pid_ = -1;
    }
    return {.status = status_, .out = out(), .err = err()};
  }

 private:
  static std::string next(const char* what) {
    static int number = 0;
    return "." + std::to_string(number++) + what;
  }
  std::string out_, err_;
  pid_t pid_ = -1;
  int status_ = -1;
};

/// `drover` with these words.
inline Words drover(Words words) {
  words.insert(words.begin(), DROVER_BINARY);
  return words;
}
inline Ended run(const Scratch& scratch, Words words, std::chrono::milliseconds bound = kPatience) { return Started(scratch, drover(std::move(words))).wait(bound); }

inline json status_of(const Scratch& scratch, const std::string& job) { return run(scratch, {"status", job, "--json"}).last_json(); }

/// Keys of an object as paths: `a.b`, `a[].b`. Objects whose keys are names of what they count end in `.*`.
inline void paths_of(const json& value, const std::string& prefix, const std::vector<std::string>& free, std::vector<std::string>& out) {
  for (const auto& [key, inner] : value.items()) {
    const std::string path = prefix + key;
    if (inner.is_object()) {
      if (std::ranges::find(free, path + ".*") != free.end()) out.push_back(path + ".*");
      else paths_of(inner, path + ".", free, out);
    } else if (inner.is_array() && !inner.empty() && inner.front().is_object()) {
      for (const json& one : inner) paths_of(one, path + "[].", free, out);
    } else {
      out.push_back(path);
    }
  }
}

}  // namespace drover::test::cli
