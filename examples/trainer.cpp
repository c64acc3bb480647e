// The same in C++: a trainer that beats, steps and saves through clients/cpp/drover_trainer.hpp.
//
//   drover guard --notify --store checkpoints -- build/release/examples/trainer 400

#include "drover_trainer.hpp"

#include <cstdio>
#include <cstring>
#include <fstream>

namespace {

struct State {
  double slope = 0, offset = 0;
  std::uint64_t step = 0, random = 7;
};

double uniform(std::uint64_t& state) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<double>(state >> 11) * 0x1p-52 - 1;
}

}  // namespace

int main(int count, char** words) {
  const std::uint64_t steps = count > 1 ? std::strtoull(words[1], nullptr, 10) : 400;
  drover_trainer::Trainer trainer;
  State state;
  if (!trainer.resume().empty()) {
    std::ifstream in(trainer.resume() + "/model", std::ios::binary);
    if (!in.read(reinterpret_cast<char*>(&state), sizeof state)) return std::fputs("trainer: the checkpoint cannot be read\n", stderr), 1;
  }
  const auto save = [&] { trainer.checkpoint("model", &state, sizeof state, state.step, {{"slope", state.slope}}); };
  while (state.step < steps && !trainer.should_stop()) {
    const double x = uniform(state.random), error = state.slope * x + state.offset - (3 * x - 2);
    state.slope -= 0.1 * error * x;
    state.offset -= 0.1 * error;
    trainer.progress(++state.step);
    if (state.step % 50 == 0) save();
  }
  if (state.step % 50 != 0) save();
  std::printf("step %llu: y = %.17g x + %.17g\n", static_cast<unsigned long long>(state.step), state.slope, state.offset);
}
