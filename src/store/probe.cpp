#include "drover/probe.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <functional>
#include <optional>

namespace drover {
namespace {

constexpr std::size_t kPart = std::size_t{4} << 20;

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  while (true) {
    const auto begin = text.find_first_not_of(" \t\n");
    if (begin == text.npos) return words;
    text.remove_prefix(begin);
    const auto end = std::min(text.find_first_of(" \t\n"), text.size());
    words.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
}

std::optional<double> number_of(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

Result<void> add_rule(ProbeRules& rules, std::string_view text) {
  const auto wrong = [&](std::string_view why) { return fail(ErrorCode::usage, fmt::format("probe rule '{}': {}", text, why), "finite; norm 10; kl TENSOR 0.5; share TENSOR 0.9; entropy TENSOR 0.05; metric NAME >= 0"); };
  const std::vector<std::string_view> words = words_of(text);
  if (words.empty()) return {};
  const auto limit = number_of(words.back());
  if (words[0] == "finite") {
    if (words.size() != 1) return wrong("takes nothing");
    rules.finite = true;
    return {};
  }
  if (!limit) return wrong("must end with a number");
  if (words[0] == "norm") {
    if (words.size() != 2 || *limit <= 1) return wrong("takes a factor above 1");
    rules.norm_jump = *limit;
    return {};
  }
  if (words[0] == "metric") {
    if (words.size() != 4 || (words[2] != ">=" && words[2] != "<=")) return wrong("must be metric NAME >= NUMBER or metric NAME <= NUMBER");
    rules.metrics.push_back({std::string(words[1]), words[2] == ">=", *limit});
    return {};
  }
  std::vector<ProbeRules::OfTensor>* const into = words[0] == "kl" ? &rules.kl : words[0] == "share" ? &rules.share : words[0] == "entropy" ? &rules.entropy : nullptr;
  if (into == nullptr) return wrong("is not known");
  if (words.size() != 3 || *limit < 0) return wrong("takes a tensor and a number");
  into->push_back({std::string(words[1]), *limit});
  return {};
}

std::size_t width_of(std::string_view dtype) { return dtype == "F64" ? 8 : dtype == "F32" ? 4 : dtype == "F16" || dtype == "BF16" ? 2 : 0; }

float float_of_half(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits >> 15) << 31, exponent = bits >> 10 & 31, fraction = bits & 1023u;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13);
  const float small = std::ldexp(static_cast<float>(fraction), -24);
  if (exponent == 0) return sign != 0 ? -small : small;
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
}

double value_at(const std::byte* at, std::string_view dtype) {
  const auto bits = [&]<class T>(T value) {
    std::memcpy(&value, at, sizeof value);
    return value;
  };
  if (dtype == "F64") return bits(double{});
  if (dtype == "F32") return static_cast<double>(bits(float{}));
  const std::uint16_t half = bits(std::uint16_t{});
  return static_cast<double>(dtype == "F16" ? float_of_half(half) : std::bit_cast<float>(static_cast<std::uint32_t>(half) << 16));
}

struct Found {
  const StoredFile* file = nullptr;
  const Tensor* tensor = nullptr;
};

std::optional<Found> find(const Manifest& manifest, std::string_view name) {
  for (const StoredFile& file : manifest.files)
    for (const Tensor& tensor : file.tensors)
      if (tensor.name == name) return Found{&file, &tensor};
  return std::nullopt;
}

/// Every number of a floating-point tensor, in order.
Result<void> each_value(CheckpointStore& store, const Found& found, const std::function<bool(double)>& take) {
  const std::size_t width = width_of(found.tensor->dtype);
  for (std::uint64_t at = 0; at < found.tensor->bytes;) {
    const std::size_t size = static_cast<std::size_t>(std::min<std::uint64_t>(kPart, found.tensor->bytes - at)) / width * width;
    if (size == 0) return {};
    DROVER_TRY(const Bytes part, store.read(*found.file, found.tensor->offset + at, size));
    for (std::size_t i = 0; i < size; i += width)
      if (!take(value_at(part.data() + i, found.tensor->dtype))) return {};
    at += size;
  }
  return {};
}

/// Rows of probabilities of a policy tensor; nothing if it holds no such.
Result<std::vector<std::vector<double>>> policy_of(CheckpointStore& store, const Manifest& manifest, const std::string& name, std::string& why_not) {
  std::vector<std::vector<double>> rows;
  const auto found = find(manifest, name);
  if (!found) {
    why_not = fmt::format("there is no tensor '{}'", name);
    return rows;
  }
  const Tensor& tensor = *found->tensor;
  const std::size_t width = width_of(tensor.dtype), row = tensor.shape.empty() ? 0 : static_cast<std::size_t>(tensor.shape.back());
  if (width == 0 || row == 0 || tensor.bytes == 0 || tensor.bytes % (width * row) != 0) {
    why_not = fmt::format("tensor '{}' ({}) holds no rows of numbers", name, tensor.dtype);
    return rows;
  }
  DROVER_CHECK(each_value(store, *found, [&](double value) {
    if (rows.empty() || rows.back().size() == row) rows.emplace_back().reserve(row);
    rows.back().push_back(value);
    return true;
  }));
  for (std::vector<double>& p : rows) {
    double sum = 0;
    bool probabilities = true;
    for (const double value : p) {
      sum += value;
      probabilities = probabilities && value >= 0;
    }
    if (probabilities && std::abs(sum - 1) < 1e-3) continue;
    const double top = *std::ranges::max_element(p);
    sum = 0;
    for (double& value : p) sum += value = std::exp(value - top);
    for (double& value : p) value /= sum;
    if (!std::isfinite(sum)) why_not = fmt::format("tensor '{}' holds a row that is not finite", name);
  }
  return rows;
}

double entropy_of(const std::vector<double>& p) {
  double sum = 0;
  for (const double value : p) sum -= value > 0 ? value * std::log(value) : 0;
  return sum;
}

}  // namespace

Result<ProbeRules> parse_probe_rules(std::string_view text) {
  ProbeRules rules;
  while (!text.empty()) {
    const auto end = std::min(text.find(';'), text.size());
    DROVER_CHECK(add_rule(rules, text.substr(0, end)));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return rules;
}

Result<std::vector<std::string>> probe(CheckpointStore& store, const CheckpointEntry& entry, const ProbeRules& rules) {
  std::vector<std::string> failed;
  const Manifest& here = entry.manifest;
  std::optional<Manifest> parent;
  if (!here.parent.empty() && (rules.norm_jump != 0 || !rules.kl.empty())) {
    auto found = store.find(here.parent);
    if (!found) return std::unexpected(std::move(found).error().with("its parent"));
    parent = std::move(found->manifest);
  }

  if (rules.finite) {
    for (const auto& [name, value] : here.metrics)
      if (!std::isfinite(value)) failed.push_back(fmt::format("metric '{}' is {}", name, value));
    for (const StoredFile& file : here.files)
      for (const Tensor& tensor : file.tensors) {
        if (width_of(tensor.dtype) == 0) continue;
        std::uint64_t index = 0;
        std::optional<double> bad;
        DROVER_CHECK(each_value(store, {&file, &tensor}, [&](double value) {
          if (!std::isfinite(value)) bad = value;
          return ++index, !bad;
        }));
        if (bad) failed.push_back(fmt::format("tensor '{}' holds {} at element {}", tensor.name, *bad, index - 1));
      }
  }
  for (const ProbeRules::OfMetric& rule : rules.metrics) {
    const auto found = here.metrics.find(rule.metric);
    if (found == here.metrics.end()) failed.push_back(fmt::format("metric '{}' was not measured", rule.metric));
    else if (!(rule.at_least ? found->second >= rule.limit : found->second <= rule.limit)) failed.push_back(fmt::format("metric '{}' is {}, must be {} {}", rule.metric, found->second, rule.at_least ? "at least" : "at most", rule.limit));
  }
  if (rules.norm_jump != 0 && parent) {
    for (const StoredFile& file : here.files)
      for (const Tensor& tensor : file.tensors) {
        const auto before = find(*parent, tensor.name);
        if (width_of(tensor.dtype) == 0 || !before || width_of(before->tensor->dtype) == 0) continue;
        double now = 0, then = 0;
        DROVER_CHECK(each_value(store, {&file, &tensor}, [&](double value) { return now += value * value, true; }));
        DROVER_CHECK(each_value(store, *before, [&](double value) { return then += value * value, true; }));
        const double ratio = std::sqrt(std::max(now, then) / std::min(now, then));
        if (then > 0 && !(ratio <= rules.norm_jump)) failed.push_back(fmt::format("the norm of tensor '{}' went from {:.4g} to {:.4g}, more than {} times", tensor.name, std::sqrt(then), std::sqrt(now), rules.norm_jump));
      }
  }
  const auto each_policy = [&](const std::vector<ProbeRules::OfTensor>& of, const auto& judge) -> Result<void> {
    for (const ProbeRules::OfTensor& rule : of) {
      std::string why_not;
      DROVER_TRY(const auto rows, policy_of(store, here, rule.tensor, why_not));
      if (why_not.empty()) DROVER_CHECK(judge(rule, rows));
      else failed.push_back(why_not);
    }
    return {};
  };
  DROVER_CHECK(each_policy(rules.share, [&](const ProbeRules::OfTensor& rule, const auto& rows) -> Result<void> {
    std::vector<double> mean(rows[0].size(), 0);
    for (const auto& row : rows)
      for (std::size_t i = 0; i < row.size(); ++i) mean[i] += row[i] / static_cast<double>(rows.size());
    const auto top = std::ranges::max_element(mean);
    if (*top > rule.limit) failed.push_back(fmt::format("tensor '{}' takes action {} in {:.1f} % of all cases, at most {:.1f} % are allowed", rule.tensor, top - mean.begin(), 100 * *top, 100 * rule.limit));
    return {};
  }));
  DROVER_CHECK(each_policy(rules.entropy, [&](const ProbeRules::OfTensor& rule, const auto& rows) -> Result<void> {
    double sum = 0;
    for (const auto& row : rows) sum += entropy_of(row);
    const double mean = sum / static_cast<double>(rows.size());
    if (mean < rule.limit) failed.push_back(fmt::format("the entropy of tensor '{}' is {:.4g} nats, must be at least {}", rule.tensor, mean, rule.limit));
    return {};
  }));
  if (parent) {
    DROVER_CHECK(each_policy(rules.kl, [&](const ProbeRules::OfTensor& rule, const auto& rows) -> Result<void> {
      std::string why_not;
      DROVER_TRY(const auto before, policy_of(store, *parent, rule.tensor, why_not));
      if (why_not.empty() && (before.size() != rows.size() || before[0].size() != rows[0].size())) why_not = fmt::format("tensor '{}' has another shape than its parent's", rule.tensor);
      if (!why_not.empty()) return failed.push_back(why_not), Result<void>();
      double sum = 0;
      for (std::size_t r = 0; r < rows.size(); ++r)
        for (std::size_t i = 0; i < rows[r].size(); ++i)
          if (before[r][i] > 0) sum += before[r][i] * std::log(before[r][i] / std::max(rows[r][i], 1e-300));
      const double mean = sum / static_cast<double>(rows.size());
      if (!(mean <= rule.limit)) failed.push_back(fmt::format("tensor '{}' is {:.4g} nats (KL) from its parent's, at most {} are allowed", rule.tensor, mean, rule.limit));
      return {};
    }));
  }
  return failed;
}

}  // namespace drover
