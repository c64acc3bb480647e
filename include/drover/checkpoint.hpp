#pragma once
/// The checkpoint store: what a training run has reached, kept so that it cannot be lost, torn, put in the wrong order or silently
/// taken for something else. One directory for any number of lineages; many readers, and one writer a lineage.
///
/// A checkpoint is a manifest (who made it, from which parent, at which step, under which configuration and feature schema) and
/// the files it names, each stored under the hash of its bytes and never changed; of a large state that changes little, only the
/// changed chunks are written. Its id is the SHA-256 of the manifest's text.
///
/// Commit: the bytes are written without a name, synced, read back and compared, then named; the manifest likewise; then ONE
/// transaction checks the lease's epoch, the lineage's step budget and the parent, inserts the row and moves the head. On return
/// all of it survives a power failure. A writer whose lease was taken over (it was stopped, and a newer one began) can leave
/// unreferenced bytes at most: its transaction is refused.
///
/// Readers resolve the newest *good* checkpoint, never the newest: a checkpoint that waits for its probe, or failed it, is not
/// handed out. What is handed out matches the fingerprint asked for, and every byte was verified; nothing is ever loaded in part,
/// and nothing starts afresh because something was missing.
///
/// One object is used by one thread. Formats: docs/checkpoint_format.md.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "drover/types/bytes.hpp"
#include "drover/types/error.hpp"

namespace drover {

/// One input of a model as it was trained on. Order counts: columns swapped are another model.
struct FeatureColumn {
  std::string name{};
  std::string dtype{};                    ///< "float32", "int64", ...
  std::vector<std::uint64_t> shape{};     ///< per example; empty = a scalar
  double scale = 1.0;                     ///< what the raw value was divided by
  friend bool operator==(const FeatureColumn&, const FeatureColumn&) = default;
};

/// What must agree before a checkpoint may be used.
struct Fingerprint {
  std::string config{};                   ///< hash or canonical text of the configuration; "" = not compared
  std::vector<FeatureColumn> features{};  ///< in order; empty = not compared
  friend bool operator==(const Fingerprint&, const Fingerprint&) = default;
};
/// One line a difference: `feature 3: name 'rsi' here, 'macd' there`. Empty if they agree (or one side compares nothing).
std::vector<std::string> differences(const Fingerprint& here, const Fingerprint& there);
/// From JSON: {"config": TEXT, "features": [{"name", "dtype", "shape", "scale"}, ...]}; each part may be left out. Error: usage.
Result<Fingerprint> parse_fingerprint(std::string_view json);

/// Where a tensor lies in a file of a checkpoint, so that it can be probed, compared and read by another program.
struct Tensor {
  std::string name{};
  std::string dtype{};                    ///< as safetensors says it: "F64", "F32", "F16", "BF16", "I64", ... "U8", "BOOL"
  std::vector<std::uint64_t> shape{};     ///< row-major; empty = a scalar
  std::uint64_t offset = 0;               ///< of its first byte in the file
  std::uint64_t bytes = 0;
  friend bool operator==(const Tensor&, const Tensor&) = default;
};

/// A file of a checkpoint, as stored.
struct StoredFile {
  std::string name{};                     ///< relative, without `..`
  std::uint64_t bytes = 0;
  std::string sha256{};                   ///< hex; of the object that holds it, whose name in objects/ it is
  bool chunked = false;                   ///< the object holds what changed and says where the rest is; else it is the file
  std::vector<Tensor> tensors{};          ///< empty = opaque
  friend bool operator==(const StoredFile&, const StoredFile&) = default;
};

struct Manifest {
  std::string lineage{};
  std::string parent{};                   ///< id; "" = the lineage's first
  std::uint64_t epoch = 0;                ///< of the lease it was committed under
  std::uint64_t step = 0;
  std::string run{};                      ///< who made it: a job's name
  std::vector<std::string> argv{};
  std::string created{};                  ///< RFC 3339, for people; nothing is ordered by it
  Fingerprint fingerprint{};
  std::string state{};                    ///< the trainer's own: random generator, iterator; one JSON text
  std::optional<double> metric{};         ///< larger is better
  std::map<std::string, double> metrics{};///< whatever else was measured; probes look at them
  std::vector<StoredFile> files{};
  friend bool operator==(const Manifest&, const Manifest&) = default;
};

enum class CheckpointStatus : std::uint8_t { verified, good, quarantined };
std::string_view name_of(CheckpointStatus status);

struct CheckpointEntry {
  std::uint64_t number = 0;               ///< order of commit in this store: the only order there is
  std::string id{};
  CheckpointStatus status{};
  bool pinned = false;
  bool head = false;                      ///< of its lineage
  std::string reason{};                   ///< of a quarantine
  Manifest manifest{};
};

/// The right to commit to a lineage. The newest lease fences all before it.
struct WriterLease {
  std::string lineage{};
  std::uint64_t epoch = 0;
};

struct NewCheckpoint {
  struct File {
    std::string name{};
    std::variant<std::string, BytesView> source{};  ///< a path to copy from, or bytes that live until commit() returns
    bool changes_only = false;            ///< bytes only: write the 256 KiB chunks that differ from the parent's file of this name
    std::vector<Tensor> tensors{};        ///< of a `.safetensors` file they are read from its header, which must be sound
  };
  std::vector<File> files{};
  std::uint64_t step = 0;
  std::string parent{};                   ///< "" = the lineage's head, or none if there is no head
  bool root = false;                      ///< has no parent, although there is a head: an explicit fresh start
  std::string run{};
  std::vector<std::string> argv{};
  Fingerprint fingerprint{};
  std::string state{};
  std::optional<double> metric{};
  std::map<std::string, double> metrics{};
  bool probed = false;                    ///< true: stays `verified` until mark_good() or quarantine() has the probe's word
};

/// What retention keeps: the union. The head, pinned ones and the parents of what was committed last are always kept.
struct Retention {
  std::uint32_t last = 3;                 ///< newest good ones
  std::uint32_t best = 1;                 ///< by metric
  std::uint64_t every_steps = 0;          ///< those whose step is a multiple; 0 = none
  std::uint32_t quarantined = 2;          ///< newest quarantined ones, as evidence; not counted
  std::uint32_t count_max = 0;            ///< more protected ones than this: refused, nothing is deleted; 0 = no bound
};

class CheckpointStore {
 public:
  /// Makes the store where there is none. Errors: refused (a network file system, another version), corrupt (drover ckpt fsck
  /// rebuilds the database from the manifests), busy, no_space.
  static Result<CheckpointStore> open(const std::string& directory);
  CheckpointStore(CheckpointStore&&) noexcept;
  CheckpointStore& operator=(CheckpointStore&&) noexcept;
  ~CheckpointStore();

  /// Takes the lineage over: the next epoch. `steps_max` is its budget, over all its runs (0 = none); a later lease may lower it
  /// or raise it by saying so, never by restarting.
  Result<WriterLease> acquire(const std::string& lineage, std::optional<std::uint64_t> steps_max = {});
  /// Errors: fenced (a newer lease), limit_steps, not_found (the parent), no_space, corrupt (what was
  /// read back differs), system. After any error the head is what it was.
  Result<CheckpointEntry> commit(const WriterLease& lease, const NewCheckpoint& checkpoint);

  Result<void> mark_good(const std::string& id);                              ///< of a verified one; the head moves if it is newer
  Result<void> quarantine(const std::string& id, const std::string& reason);  ///< the head falls back to the newest good one before
  Result<void> pin(const std::string& id, bool pinned);
  /// Makes an older good one the head again; newer ones stay, as a branch.
  Result<void> rollback(const std::string& id);

  /// The newest good one, verified byte by byte, and matching. Errors: not_found (there is none: starting afresh is the caller's
  /// explicit decision), mismatch (the advice holds the differences), corrupt (names the file).
  Result<CheckpointEntry> newest_good(const std::string& lineage, const Fingerprint& expected);
  /// Where `run` goes on: the newest good one; nothing where the lineage begins, or where it is to begin anew (`fresh`) and its head is not yet
  /// one of this run's. Errors: as newest_good, and refused where there are checkpoints and none of them is good.
  Result<std::optional<CheckpointEntry>> resume_point(const std::string& lineage, const Fingerprint& expected, const std::string& run, bool fresh);
  /// Copies its files into `directory`, which must be empty or not exist; verified while copying, all or nothing.
  Result<void> restore(const CheckpointEntry& entry, const std::string& directory);

  /// Bytes [offset, offset + size) of a file of a checkpoint that was found good; for tensors.
  Result<Bytes> read(const StoredFile& file, std::uint64_t offset, std::size_t size);

  /// All of them, oldest first; of one lineage or of all ("").
  Result<std::vector<CheckpointEntry>> list(const std::string& lineage = {});
  Result<CheckpointEntry> find(const std::string& id_prefix);                 ///< not_found, or refused when it is ambiguous
  /// Deletes what retention does not keep: rows become tombstones in one transaction, files go afterwards. Returns the ids.
  Result<std::vector<std::string>> retain(const std::string& lineage, const Retention& retention);
  /// Reads every file again. What is damaged is quarantined; the entries are returned.
  Result<std::vector<CheckpointEntry>> verify();
  /// Removes files that no row names, left by crashes and stale writers. Returns their bytes.
  Result<std::uint64_t> collect_garbage();

 private:
  struct Impl;
  friend struct CheckpointStoreAccess;
  explicit CheckpointStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Makes the database of a store anew from its manifests, pins and quarantine; the old one is kept as `store.db.broken-N`. What is
/// damaged is quarantined. Returns how many checkpoints there are.
Result<std::size_t> rebuild_checkpoint_store(const std::string& directory);

}  // namespace drover
