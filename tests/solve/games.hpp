#pragma once
/// Small helpers of the solve tests: games that must build, and Results that must hold a value.

#include <gtest/gtest.h>

#include <string>

#include "solve/game.hpp"

namespace drover::solve {

template <class T>
T must(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().what());
  return std::move(*result);
}
inline void must(const Result<void>& result) {
  if (!result) throw std::runtime_error(result.error().what());
}

inline Game built(const GameSpec& spec) { return must(Game::build(spec)); }

inline GameSpec large_leduc() {
  PokerRules rules;
  rules.ranks = 60;
  return {rules};
}

}  // namespace drover::solve
