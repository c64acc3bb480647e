#pragma once
/// Counters and latency histograms of one run, and their Prometheus text file. One writer thread, no locks, no allocation when
/// counting. metrics.prom is replaced whole (temporary name, rename): a reader sees an old or a new one, never half.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/histogram.hpp"
#include "drover/types/error.hpp"
#include "drover/types/time.hpp"
#include "os/file_system.hpp"

namespace drover::store {

enum class Latency : std::uint8_t { queue, run, detect, recover, commit };
inline constexpr std::size_t kLatencies = 5;
std::string_view name_of(Latency latency);

class Metrics {
 public:
  explicit Metrics(std::string workload) : workload_(std::move(workload)) {}
  void add(Latency latency, Nanos value) { histograms_[std::to_underlying(latency)].add(value.count() > 0 ? static_cast<std::uint64_t>(value.count()) : 0); }
  Histogram& operator[](Latency latency) { return histograms_[std::to_underlying(latency)]; }
  const Histogram& operator[](Latency latency) const { return histograms_[std::to_underlying(latency)]; }
  /// Sets counter `drover_<name>_total`, or gauge `drover_<name>`. Names are snake_case literals that outlive this.
  void counter(std::string_view name, std::uint64_t value);
  void gauge(std::string_view name, double value);
  /// Prometheus text exposition format 0.0.4: `# HELP`, `# TYPE`, samples; histograms in seconds.
  std::string text() const;
  /// Writes text() to `path` through a temporary name beside it; not fsync'ed. no_space leaves the old file.
  Result<> write(FileSystem& fs, const std::string& path) const;

 private:
  struct Value { std::string_view name; double value = 0; bool is_counter = true; };
  std::string workload_;
  std::array<Histogram, kLatencies> histograms_{};
  std::vector<Value> values_;
};

}  // namespace drover::store
