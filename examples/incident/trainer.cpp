// The trainer of the incident, shrunk: it forgets its limit whenever it is restarted, crashes every 250 episodes, leaves a process
// behind that goes on by itself, collapses onto HOLD after episode 400, repeats features until their number fits, and keeps "the two
// newest" checkpoints by their names.
//
//   trainer control DIRECTORY EPISODES FEATURES    saves as the original did: temporary file, rename, sort by name, delete
//   trainer guarded EPISODES                       saves through drover's client; everything else as before

#include "drover_trainer.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kCrashEvery = 250, kCollapseAt = 400, kSaveEvery = 50;

double share_of_hold(std::uint64_t episode) { return episode <= kCollapseAt ? 0.34 : 0.99; }
void train() { std::this_thread::sleep_for(std::chrono::milliseconds(1)); }

/// A process of its own session that nobody waits for, as the incident had one. An alarm ends it when the demo is forgotten.
template <class Deed>
void leave_behind(Deed deed) {
  if (::fork() != 0) return;
  ::setsid();
  if (::fork() != 0) ::_exit(0);
  ::signal(SIGTERM, SIG_IGN);
  ::alarm(60);
  for (std::uint64_t n = 0;; ++n) deed(n);
}

void save_as_the_original(const fs::path& directory, std::uint64_t episode, std::uint64_t features) {
  const std::string name = "checkpoint_ep" + std::to_string(episode) + ".pth";
  std::ofstream(directory / (name + ".tmp")) << "episode " << episode << " features " << features << " hold " << share_of_hold(episode) << "\n";
  fs::rename(directory / (name + ".tmp"), directory / name);
  std::vector<std::string> names;
  for (const auto& one : fs::directory_iterator(directory))
    if (one.path().filename().string().starts_with("checkpoint_ep") && one.path().extension() == ".pth") names.push_back(one.path().filename());
  std::sort(names.begin(), names.end());  // ep1000 comes before ep950
  std::error_code ignored;
  for (std::size_t i = 0; i + 2 < names.size(); ++i) fs::remove(directory / names[i], ignored);
  fs::copy_file(directory / name, directory / "latest.pth", fs::copy_options::overwrite_existing, ignored);
}

int control(const fs::path& directory, std::uint64_t episodes, std::uint64_t features) {
  std::uint64_t episode = 0, trained_on = features;
  std::string word;
  if (std::ifstream latest(directory / "latest.pth"); latest >> word >> episode >> word >> trained_on) {
    if (trained_on != features) std::ofstream(directory / "log", std::ios::app) << "warning: " << features << " features repeated to make " << trained_on << "\n";
  }
  if (!fs::exists(directory / "hidden")) {
    std::ofstream(directory / "hidden") << "\n";
    leave_behind([&](std::uint64_t) {
      std::ofstream(directory / "hidden_episodes", std::ios::app) << ".";
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    });
  }
  for (std::uint64_t own = 1; own <= episodes; ++own) {  // its limit: of this process
    train();
    ++episode;
    std::ofstream(directory / "episodes") << episode << "\n";
    if (episode % kSaveEvery == 0) save_as_the_original(directory, episode, trained_on);
    if (own == kCrashEvery) std::abort();
  }
  return 0;
}

std::string policy_file(std::uint64_t episode) {
  const float hold = static_cast<float>(share_of_hold(episode)), other = (1 - hold) / 2;
  const float policy[3] = {hold, other, other};
  const std::string header = R"({"policy":{"dtype":"F32","shape":[1,3],"data_offsets":[0,12]}})";
  const std::uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + header + std::string(reinterpret_cast<const char*>(policy), sizeof policy);
}

int guarded(std::uint64_t episodes) {
  drover_trainer::Trainer trainer;
  std::uint64_t episode = trainer.resume_step();
  leave_behind([](std::uint64_t) { std::this_thread::sleep_for(std::chrono::milliseconds(20)); });
  for (std::uint64_t own = 1; own <= episodes; ++own) {
    train();
    trainer.progress(++episode);
    if (episode % kSaveEvery == 0) {
      const std::string bytes = policy_file(episode);
      trainer.checkpoint("model.safetensors", bytes.data(), bytes.size(), episode, {{"hold", share_of_hold(episode)}});
    }
    if (own == kCrashEvery) std::abort();
  }
  return 0;
}

}  // namespace

int main(int count, char** words) {
  const std::string mode = count > 1 ? words[1] : "";
  if (mode == "control" && count == 5) return control(words[2], std::strtoull(words[3], nullptr, 10), std::strtoull(words[4], nullptr, 10));
  if (mode == "guarded" && count == 3) return guarded(std::strtoull(words[2], nullptr, 10));
  return 2;
}
