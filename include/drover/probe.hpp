#pragma once
/// Whether a durable checkpoint is fit to be gone on from and served: rules over its tensors and metrics, beside its parent's.
/// A rule that cannot be applied (the tensor is missing, its type has no numbers) fails: "did not look" is never "good".

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "drover/checkpoint.hpp"

namespace drover {

struct ProbeRules {
  /// About a tensor that holds a policy: its rows (last dimension) are probabilities, or logits where they do not add up to 1.
  struct OfTensor {
    std::string tensor;
    double limit = 0;
  };
  struct OfMetric {
    std::string metric;
    bool at_least = true;                    ///< else at most
    double limit = 0;
  };
  bool finite = false;                       ///< no NaN or infinity in any floating-point tensor or metric
  double norm_jump = 0;                      ///< L2 norm of a tensor over its parent's, or the reverse, at most; 0 = not looked at
  std::vector<OfTensor> kl{};                ///< mean KL(parent || this) over the rows, in nats, at most
  std::vector<OfTensor> share{};             ///< share of the most frequent action over all rows, at most: a collapse onto HOLD
  std::vector<OfTensor> entropy{};           ///< mean entropy of a row, in nats, at least
  std::vector<OfMetric> metrics{};
  bool empty() const { return !finite && norm_jump == 0 && kl.empty() && share.empty() && entropy.empty() && metrics.empty(); }
};

/// From text: rules separated by ';': `finite; norm 10; kl policy 0.5; share policy 0.9; entropy policy 0.05; metric reward >= 0`.
/// Error usage names the rule.
Result<ProbeRules> parse_probe_rules(std::string_view text);

/// What of the rules does not hold, one line each, the first first; empty = it passes. The parent is the manifest's; a checkpoint
/// without one passes the rules that compare. Error: what cannot be read.
Result<std::vector<std::string>> probe(CheckpointStore& store, const CheckpointEntry& entry, const ProbeRules& rules);

}  // namespace drover
