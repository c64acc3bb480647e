// The main of a fuzz target where libFuzzer is not at hand: every file of the given folders, then 20,000 inputs made from a
// fixed seed, so that `./test` runs each target a little with g++ too.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int main(int argc, char** argv) {
  std::size_t files = 0;
  std::vector<std::vector<std::uint8_t>> saved;
  for (int i = 1; i < argc; ++i) {
    std::error_code absent;
    for (const auto& entry : std::filesystem::directory_iterator(argv[i], absent)) {
      std::ifstream in(entry.path(), std::ios::binary);
      saved.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
      LLVMFuzzerTestOneInput(saved.back().data(), saved.back().size());
      ++files;
    }
  }
  std::mt19937_64 random(1);
  for (int i = 0; i < 20'000; ++i) {
    std::vector<std::uint8_t> input;
    if (!saved.empty() && i % 2 == 0) {
      input = saved[random() % saved.size()];
      for (int change = 0; change < 4 && !input.empty(); ++change) input[random() % input.size()] = static_cast<std::uint8_t>(random());
    } else {
      input.resize(random() % 512);
      for (auto& byte : input) byte = static_cast<std::uint8_t>(random());
    }
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::printf("%zu saved inputs and 20,000 made ones\n", files);
  return 0;
}
