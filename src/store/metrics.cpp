#include "store/metrics.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/bytes.hpp"

namespace drover::store {

std::string_view name_of(Latency latency) {
  switch (latency) {
    case Latency::queue: return "queue";
    case Latency::run: return "run";
    case Latency::detect: return "detect";
    case Latency::recover: return "recover";
    case Latency::commit: return "commit";
  }
  std::unreachable();
}

namespace {

std::string_view help_of(Latency latency) {
  switch (latency) {
    case Latency::queue: return "from submission to the first lease";
    case Latency::run: return "from the head of a worker's window to the result";
    case Latency::detect: return "from a worker's death to the supervisor knowing it";
    case Latency::recover: return "from a worker's death to its replacement's first result";
    case Latency::commit: return "of one ledger commit, fsync included";
  }
  std::unreachable();
}

/// Label values: backslash, quote and newline are escaped (exposition format 0.0.4).
std::string label(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') out += "\\n";
    else out += c;
  }
  return out;
}

}  // namespace

void Metrics::counter(std::string_view name, std::uint64_t value) {
  const auto at = std::ranges::find(values_, name, &Value::name);
  if (at != values_.end()) *at = {name, static_cast<double>(value), true};
  else values_.push_back({name, static_cast<double>(value), true});
}
void Metrics::gauge(std::string_view name, double value) {
  const auto at = std::ranges::find(values_, name, &Value::name);
  if (at != values_.end()) *at = {name, value, false};
  else values_.push_back({name, value, false});
}

std::string Metrics::text() const {
  const std::string labels = fmt::format("workload=\"{}\"", label(workload_));
  std::string out;
  for (const Value& value : values_) {
    const std::string name = fmt::format("drover_{}{}", value.name, value.is_counter ? "_total" : "");
    fmt::format_to(std::back_inserter(out), "# TYPE {} {}\n{}{{{}}} {}\n", name, value.is_counter ? "counter" : "gauge", name, labels, value.value);
  }
  for (std::size_t i = 0; i < kLatencies; ++i) {
    const auto latency = static_cast<Latency>(i);
    const Histogram& histogram = histograms_[i];
    const std::string name = fmt::format("drover_{}_seconds", name_of(latency));
    fmt::format_to(std::back_inserter(out), "# HELP {} {}\n# TYPE {} histogram\n", name, help_of(latency), name);
    // One Prometheus bucket an octave from 1 us to 18 min: enough for a quantile, small enough to scrape.
    std::uint64_t seen = 0;
    std::size_t bucket = 0;
    for (unsigned octave = 10; octave <= 40; ++octave) {
      const std::uint64_t bound = (std::uint64_t{1} << octave) - 1;
      while (bucket < Histogram::kBuckets && Histogram::upper_bound(bucket) <= bound) seen += histogram.bucket_count(bucket++);
      fmt::format_to(std::back_inserter(out), "{}_bucket{{{},le=\"{:.9g}\"}} {}\n", name, labels, static_cast<double>(bound + 1) / 1e9, seen);
    }
    fmt::format_to(std::back_inserter(out), "{}_bucket{{{},le=\"+Inf\"}} {}\n{}_sum{{{}}} {:.9g}\n{}_count{{{}}} {}\n", name, labels, histogram.count(), name, labels,
                   static_cast<double>(histogram.sum()) / 1e9, name, labels, histogram.count());
  }
  return out;
}

Result<> Metrics::write(FileSystem& fs, const std::string& path) const {
  const std::string temporary = path + ".new";
  const auto put = [&]() -> Result<> {
    DROVER_TRY(const std::unique_ptr<File> file, fs.open(temporary, OpenMode::create_or_open));
    DROVER_CHECK(file->truncate(0));
    DROVER_CHECK(file->write_at(0, bytes_of(text())));
    return fs.rename(temporary, path);
  };
  auto done = put();
  if (!done) (void)fs.unlink(temporary);
  return done;
}

}  // namespace drover::store
