#pragma once
// Samples of interleaved rounds and what is said of them: median, least and most; ratios are taken within a round and then
// their median, because absolute times on a shared machine move by more than the differences of interest.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

namespace drover::bench {

struct Summary {
  double median = 0, min = 0, max = 0;
  std::size_t samples = 0;
};

inline std::optional<Summary> summary_of(std::vector<double> samples) {
  if (samples.empty()) return std::nullopt;
  std::ranges::sort(samples);
  const std::size_t half = samples.size() / 2;
  const double median = samples.size() % 2 == 1 ? samples[half] : (samples[half - 1] + samples[half]) / 2;
  return Summary{median, samples.front(), samples.back(), samples.size()};
}

/// Value at quantile `q` of samples; they are sorted in place.
inline double quantile(std::vector<double>& samples, double q) {
  if (samples.empty()) return 0;
  std::ranges::sort(samples);
  return samples[std::min(samples.size() - 1, static_cast<std::size_t>(q * static_cast<double>(samples.size())))];
}

/// `1,432,100`, `48.7`, `0.213`, `3`: three digits or the whole part.
inline std::string shown(double value) {
  char text[64];
  const double size = std::fabs(value);
  std::snprintf(text, sizeof text, size >= 100 || value == std::floor(value) ? "%.0f" : size >= 10 ? "%.1f" : size >= 1 ? "%.2f" : "%.3f", value);
  std::string digits = text;
  if (size >= 1000)
    for (std::size_t at = digits.size(); at > 3 + (digits[0] == '-' ? 1u : 0u);) digits.insert(at -= 3, 1, ',');
  return digits;
}

}  // namespace drover::bench
