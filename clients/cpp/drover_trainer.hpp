#pragma once
/// What a C++ trainer tells `drover guard`: that it lives, how far it is, what it has saved. One header, C++17, links nothing; copy it.
///
///   drover_trainer::Trainer trainer;                    // outside drover every call does nothing and the program runs as before
///   std::uint64_t step = trainer.resume_step();
///   while (!trainer.should_stop()) {
///     train_one();
///     trainer.progress(++step);                         // a store to a mapped page
///     if (step % 100 == 0) trainer.checkpoint("model", weights.data(), weights.size(), step, {{"reward", reward}});
///   }
///
/// `drover guard --notify --store DIR -- ./trainer`. With --spare a second process is started up to the Trainer's constructor and waits there:
/// make it after everything that takes long, before anything that touches the world. The words on the wire and the page: docs/guard.md. Errors are std::runtime_error.
/// Any thread may beat; checkpoint() is for one thread at a time.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>

namespace drover_trainer {

enum class Phase : std::uint32_t { none, load, train, save, eval };

class Trainer {
 public:
  Trainer() : socket_(variable("NOTIFY_SOCKET")), staging_(variable("DROVER_STAGING")), resume_(variable("DROVER_RESUME")) {
    resume_step_ = std::strtoull(variable("DROVER_RESUME_STEP").c_str(), nullptr, 10);
    wait_at_gate();
    const std::string page = variable("DROVER_TRAINER_PAGE");
    if (page.empty()) return;
    const int fd = ::open(page.c_str(), O_RDWR | O_CLOEXEC);
    void* const at = fd < 0 ? MAP_FAILED : ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0) ::close(fd);
    if (at == MAP_FAILED) throw std::runtime_error("DROVER_TRAINER_PAGE: cannot map '" + page + "'");
    page_ = static_cast<unsigned char*>(at);
    if (std::memcmp(page_, "drvtrnr1", 8) != 0) throw std::runtime_error("DROVER_TRAINER_PAGE: '" + page + "' is not of this version");
    struct sigaction now {};
    if (::sigaction(SIGTERM, nullptr, &now) == 0 && now.sa_handler == SIG_DFL) {
      struct sigaction ours {};
      ours.sa_handler = [](int) { asked() = 1; };
      ours.sa_flags = SA_RESTART;
      (void)::sigaction(SIGTERM, &ours, nullptr);
    }
  }
  ~Trainer() {
    if (page_ != nullptr) ::munmap(page_, kPageBytes);
  }
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  bool attached() const { return !socket_.empty(); }
  /// A directory with the files of the newest good checkpoint; "" = there is none.
  const std::string& resume() const { return resume_; }
  std::uint64_t resume_step() const { return resume_step_; }

  /// Alive. Once progress() was called, beating alone is not enough.
  void beat() {
    if (page_ != nullptr) __atomic_fetch_add(at<std::uint64_t>(kBeats), 1, __ATOMIC_RELAXED);
  }
  /// The highest step that is done.
  void progress(std::uint64_t step) {
    if (page_ != nullptr) __atomic_store_n(at<std::uint64_t>(kStep), step, __ATOMIC_RELAXED);
  }
  /// The time --phases gives this phase holds instead of --stall, until the next one.
  void phase(Phase phase) {
    if (page_ != nullptr) __atomic_store_n(at<std::uint32_t>(kPhase), static_cast<std::uint32_t>(phase), __ATOMIC_RELAXED);
  }
  /// True once a limit is near or somebody asked: save and return; after --grace the process is killed.
  bool should_stop() const { return asked() != 0 || (page_ != nullptr && __atomic_load_n(at<std::uint32_t>(kStop), __ATOMIC_RELAXED) != 0); }

  /// Durable on return: it survives kill -9 and power loss. False, with nothing done, outside drover; throws with the store's reason.
  bool checkpoint(const std::string& name, const void* bytes, std::size_t size, std::uint64_t step, const std::map<std::string, double>& metrics = {},
                  std::chrono::seconds timeout = std::chrono::seconds(600)) {
    if (staging_.empty() || socket_.empty()) return false;
    const std::string path = staging_ + "/" + name, refused = path + ".refused";
    ::unlink(refused.c_str());
    {
      std::ofstream out(path, std::ios::binary | std::ios::trunc);
      out.write(static_cast<const char*>(bytes), static_cast<std::streamsize>(size)).flush();
      if (!out) throw std::runtime_error("checkpoint: cannot write '" + path + "'");
    }
    progress(step);
    for (const auto& [key, value] : metrics) {
      char text[64];
      std::snprintf(text, sizeof text, "%.17g", value);
      notify("METRIC_" + key + "=" + text);
    }
    notify("STEP=" + std::to_string(step) + "\nCHECKPOINT=" + name);
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    while (::access(path.c_str(), F_OK) == 0) {
      if (::access(refused.c_str(), F_OK) == 0) {
        std::ifstream in(refused);
        throw std::runtime_error("checkpoint refused: " + std::string(std::istreambuf_iterator<char>(in), {}));
      }
      if (std::chrono::steady_clock::now() > deadline) throw std::runtime_error("checkpoint: no answer in time");
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }

 private:
  static constexpr std::size_t kPageBytes = 4096, kBeats = 8, kStep = 16, kPhase = 24, kStop = 28;

  static std::string variable(const char* name) {
    const char* const value = std::getenv(name);
    return value == nullptr ? std::string() : std::string(value);
  }
  /// A spare: all that is slow is done; wait until the one before has died.
  void wait_at_gate() {
    const std::string gate = variable("DROVER_GATE");
    if (gate.empty()) return;
    const int fd = ::open(gate.c_str(), O_RDONLY | O_CLOEXEC);
    char told[4096];
    const ssize_t size = fd < 0 ? -1 : ::read(fd, told, sizeof told);
    if (fd >= 0) ::close(fd);
    if (size <= 0) throw std::runtime_error("DROVER_GATE: nobody came");
    const std::string text(told, static_cast<std::size_t>(size));
    const auto value = [&](const std::string& name) {
      const auto at = text.find("\n" + name + "=");
      return at == std::string::npos ? std::string() : text.substr(at + name.size() + 2, text.find('\n', at + 1) - at - name.size() - 2);
    };
    resume_ = value("DROVER_RESUME");
    resume_step_ = std::strtoull(value("DROVER_RESUME_STEP").c_str(), nullptr, 10);
  }
  static volatile std::sig_atomic_t& asked() {
    static volatile std::sig_atomic_t flag = 0;
    return flag;
  }
  template <class T>
  T* at(std::size_t offset) const {
    return reinterpret_cast<T*>(page_ + offset);
  }
  void notify(const std::string& text) const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (socket_.size() >= sizeof address.sun_path) throw std::runtime_error("NOTIFY_SOCKET: the path is too long");
    std::memcpy(address.sun_path, socket_.c_str(), socket_.size() + 1);
    const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const bool sent = fd >= 0 && ::sendto(fd, text.data(), text.size(), 0, reinterpret_cast<const sockaddr*>(&address), sizeof address) == static_cast<ssize_t>(text.size());
    if (fd >= 0) ::close(fd);
    if (!sent) throw std::runtime_error("NOTIFY_SOCKET: cannot be told");
  }

  std::string socket_, staging_, resume_;
  std::uint64_t resume_step_ = 0;
  unsigned char* page_ = nullptr;
};

}  // namespace drover_trainer
