// A trainer that does what its words say, in order, through the client header a C++ trainer would use:
//   step:N  beat:MS  phase:NAME  save:NAME:TEXT  keep:NAME:TEXT  policy:A,B,C  metric:NAME:VALUE  write:PATH:TEXT  fill:PATH  sleep:MS  resumed  exit:N  abort
// save commits bytes and exits with 9 when it is refused; keep goes on; policy commits model.safetensors with one row of F32.
// resumed prints what it goes on from. With a first word `twice`, everything is skipped when it goes on from a checkpoint.

#include "drover_trainer.hpp"

#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

namespace {

std::uint64_t step = 0;
std::map<std::string, double> metrics;

std::vector<std::string> parts_of(const std::string& word, char at, std::size_t most) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  while (parts.size() + 1 < most && word.find(at, begin) != std::string::npos) {
    const std::size_t end = word.find(at, begin);
    parts.push_back(word.substr(begin, end - begin));
    begin = end + 1;
  }
  parts.push_back(word.substr(begin));
  return parts;
}

void pause(long ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }  // sleep: it is told to

bool saved(drover_trainer::Trainer& trainer, const std::string& name, const std::string& bytes) {
  try {
    trainer.checkpoint(name, bytes.data(), bytes.size(), step, metrics);
    return true;
  } catch (const std::runtime_error& e) {
    std::printf("%s\n", e.what());
    std::fflush(stdout);
    return false;
  }
}

std::string safetensors(const std::string& numbers) {
  std::string data;
  for (const std::string& number : parts_of(numbers, ',', 1000)) {
    const float value = std::strtof(number.c_str(), nullptr);
    data.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  const std::string header = "{\"policy\":{\"dtype\":\"F32\",\"shape\":[1," + std::to_string(data.size() / 4) + "],\"data_offsets\":[0," + std::to_string(data.size()) + "]}}";
  const std::uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + header + data;
}

}  // namespace

int main(int count, char** words) {
  drover_trainer::Trainer trainer;
  step = trainer.resume_step();
  for (int i = 1; i < count; ++i) {
    const std::vector<std::string> word = parts_of(words[i], ':', 3);
    const std::string& deed = word[0];
    const std::string one = word.size() > 1 ? word[1] : "", two = word.size() > 2 ? word[2] : "";
    const long number = std::strtol(one.c_str(), nullptr, 10);
    if (deed == "twice" && !trainer.resume().empty()) return 0;
    if (deed == "step") trainer.progress(step = static_cast<std::uint64_t>(number));
    if (deed == "beat")
      for (long ms = 0; ms < number; ms += 5, pause(5)) trainer.beat();
    if (deed == "phase") trainer.phase(one == "load" ? drover_trainer::Phase::load : one == "save" ? drover_trainer::Phase::save : one == "eval" ? drover_trainer::Phase::eval : drover_trainer::Phase::train);
    if (deed == "metric") metrics[one] = std::strtod(two.c_str(), nullptr);
    if (deed == "save" && !saved(trainer, one, two)) return 9;
    if (deed == "keep") saved(trainer, one, two);
    if (deed == "policy") saved(trainer, "model.safetensors", safetensors(one));
    if (deed == "write") std::ofstream(one) << two;
    if (deed == "fill") {  // a disk, to the last byte
      std::ofstream out(one, std::ios::binary);
      const std::string block(4096, 'f');
      while (out.write(block.data(), 4096).flush()) continue;
    }
    if (deed == "sleep") pause(number);
    if (deed == "stopped")
      for (long ms = 0; ms < number && !trainer.should_stop(); ms += 5) pause(5);
    if (deed == "resumed") {
      std::ifstream in(trainer.resume() + "/model");
      std::printf("resumed %llu '%s'\n", static_cast<unsigned long long>(trainer.resume_step()), std::string(std::istreambuf_iterator<char>(in), {}).c_str());
      std::fflush(stdout);
    }
    if (deed == "exit") return static_cast<int>(number);
    if (deed == "abort") std::abort();
  }
}
