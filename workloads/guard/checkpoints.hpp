#pragma once
/// The command's way into the checkpoint store: from its staging directory when it says so, or from files it closes anywhere. A
/// checkpoint is durable first, probed then: by rules at once, by a command of its own while the trainer goes on.

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "drover/checkpoint.hpp"
#include "drover/command.hpp"
#include "drover/probe.hpp"
#include "drover/types/error.hpp"
#include "drover/types/time.hpp"

namespace drover::guard {

struct Orders;

class Checkpoints {
 public:
  explicit Checkpoints(const Orders& orders) : orders_(orders) {}

  /// Takes the lineage over, lets what waits for its probe have it, lays the newest good one out to go on from. Errors: damaged,
  /// mismatched or none good where there were some; nothing starts afresh unless it was ordered.
  Result<void> begin(std::uint64_t attempt);
  bool on() const { return store_.has_value(); }
  std::vector<std::string> environment() const;
  std::uint64_t resume_step() const { return resume_step_; }

  // What the trainer says of the next one.
  void metric(double value) { metric_ = value; }
  void metric(std::string name, double value) { metrics_[std::move(name)] = value; }
  void state(std::string text) { state_ = std::move(text); }

  /// Commits NAME of the staging directory, a file or a directory of files. Gone afterwards = durable; NAME.refused says why not.
  Result<void> commit(const std::string& name, std::uint64_t step);
  /// A file of the watched directory was written: it is committed once it stands still.
  void written(const std::string& name, TimePoint now);
  /// Commits what stands still, moves probes on. Error: of a commit.
  Result<void> tick(TimePoint now, std::uint64_t step);
  /// The trainer has ended: what it left is committed, every probe has its word, bounded by its own time.
  Result<void> settle(std::uint64_t step);

  std::uint64_t committed() const { return committed_; }
  std::uint64_t quarantined() const { return quarantined_; }
  /// Why probes end the run: as many failures in a row as allowed; "" = they do not.
  const std::string& gave_up() const { return gave_up_; }
  /// Of staging and store together.
  std::uint64_t bytes_on_disk() const;

 private:
  struct Candidate {
    std::uint64_t size = 0;
    std::int64_t modified = 0;
    TimePoint seen{};
  };
  struct Running {
    CheckpointEntry entry;
    Command command;
    TimePoint deadline;
    std::string directory, line;
  };
  /// Its id.
  Result<std::string> store_files(std::vector<NewCheckpoint::File> files, std::uint64_t step);
  Result<void> ingest(const std::string& name, std::uint64_t step);
  Result<void> judge(const CheckpointEntry& entry);
  Result<void> passed(const CheckpointEntry& entry);
  Result<void> failed(const CheckpointEntry& entry, const std::string& why);
  Result<void> start_probe(TimePoint now);
  Result<void> watch_probe(TimePoint now, TimePoint until);
  Result<void> retain();

  const Orders& orders_;
  std::optional<CheckpointStore> store_;
  WriterLease lease_{};
  Fingerprint fingerprint_{};
  ProbeRules rules_{};
  std::string resume_;
  std::uint64_t resume_step_ = 0;
  bool root_ = false;                            ///< the next one has no parent
  std::optional<double> metric_;
  std::map<std::string, double> metrics_;
  std::string state_;
  std::map<std::string, Candidate> candidates_;  ///< of the watched directory
  std::deque<CheckpointEntry> waiting_;          ///< for the probe command, oldest first
  std::optional<Running> running_;
  std::uint64_t committed_ = 0, quarantined_ = 0, failed_in_row_ = 0;
  std::string gave_up_;
};

}  // namespace drover::guard
