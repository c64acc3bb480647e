// drover ckpt VERB [...] [--store DIR]: looks after a checkpoint store. Whatever it changes is one transaction.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/text.hpp"
#include "cli/messages.hpp"
#include "cli/program.hpp"
#include "drover/checkpoint.hpp"

namespace drover::cli {
namespace {

struct Asked {
  std::string store = "drover-store", checkpoint, other, lineage = "default", reason, to, metric;
  std::vector<std::string> files;
  std::uint64_t step = 0, every = 0;
  std::uint32_t last = 3, best = 1, quarantined = 2, most = 0;
  bool json = false, off = false, probed = false;
};

std::string short_id(const std::string& id) { return id.substr(0, 12); }

std::uint64_t bytes_of(const CheckpointEntry& entry) {
  std::uint64_t sum = 0;
  for (const StoredFile& file : entry.manifest.files) sum += file.bytes;
  return sum;
}

std::string line_of(const CheckpointEntry& e) {
  return fmt::format("{:>5}  {}  {:<12} {:>10}  {:>9}  {}{}{}{}\n", e.number, short_id(e.id), e.manifest.lineage, fmt::format("step {}", e.manifest.step), text_of_bytes(bytes_of(e)), name_of(e.status),
                     e.head ? ", head" : "", e.pinned ? ", pinned" : "", e.reason.empty() ? "" : ": " + e.reason);
}

nlohmann::ordered_json json_of(const CheckpointEntry& e) {
  nlohmann::ordered_json files = nlohmann::ordered_json::array();
  for (const StoredFile& f : e.manifest.files) files.push_back({{"name", f.name}, {"bytes", f.bytes}, {"sha256", f.sha256}, {"encoding", f.chunked ? "chunked" : "whole"}, {"tensors", f.tensors.size()}});
  return {{"number", e.number}, {"id", e.id}, {"lineage", e.manifest.lineage}, {"parent", e.manifest.parent}, {"epoch", e.manifest.epoch}, {"step", e.manifest.step}, {"status", name_of(e.status)}, {"head", e.head}, {"pinned", e.pinned}, {"reason", e.reason},
          {"metric", e.manifest.metric ? nlohmann::ordered_json(*e.manifest.metric) : nlohmann::ordered_json(nullptr)}, {"created", e.manifest.created}, {"run", e.manifest.run}, {"files", std::move(files)}};
}

Result<void> show(const std::vector<CheckpointEntry>& entries, bool json) {
  if (json) {
    nlohmann::ordered_json all = nlohmann::ordered_json::array();
    for (const CheckpointEntry& e : entries) all.push_back(json_of(e));
    print(all.dump() + "\n");
    return {};
  }
  for (const CheckpointEntry& e : entries) print(line_of(e));
  if (entries.empty()) print("no checkpoints\n");
  return {};
}

/// From the head, or the one named, back to its first ancestor that is still there.
Result<void> log(CheckpointStore& store, const Asked& asked) {
  DROVER_TRY(const std::vector<CheckpointEntry> all, store.list());
  std::string id;
  if (!asked.checkpoint.empty()) {
    DROVER_TRY(const CheckpointEntry entry, store.find(asked.checkpoint));
    id = entry.id;
  } else {
    const auto head = std::ranges::find_if(all, [&](const CheckpointEntry& e) { return e.head && e.manifest.lineage == asked.lineage; });
    if (head == all.end()) return fail(ErrorCode::not_found, fmt::format("lineage '{}' has no good checkpoint", asked.lineage));
    id = head->id;
  }
  std::vector<CheckpointEntry> line;
  for (auto at = std::ranges::find(all, id, &CheckpointEntry::id); at != all.end(); at = std::ranges::find(all, at->manifest.parent, &CheckpointEntry::id)) line.push_back(*at);
  return show(line, asked.json);
}

Result<void> diff(CheckpointStore& store, const Asked& asked) {
  DROVER_TRY(const CheckpointEntry a, store.find(asked.checkpoint));
  DROVER_TRY(const CheckpointEntry b, store.find(asked.other));
  for (const std::string& line : differences(a.manifest.fingerprint, b.manifest.fingerprint)) print(line + "\n");
  const auto sha_of = [](const Manifest& m, const std::string& name) {
    const auto at = std::ranges::find(m.files, name, &StoredFile::name);
    return at == m.files.end() ? std::string("absent") : at->sha256.substr(0, 12);
  };
  std::vector<std::string> names;
  for (const Manifest* m : {&a.manifest, &b.manifest})
    for (const StoredFile& f : m->files)
      if (std::ranges::find(names, f.name) == names.end()) names.push_back(f.name);
  for (const std::string& name : names)
    if (sha_of(a.manifest, name) != sha_of(b.manifest, name)) print(fmt::format("file {}: {} here, {} there\n", name, sha_of(a.manifest, name), sha_of(b.manifest, name)));
  print(fmt::format("step: {} here, {} there\n", a.manifest.step, b.manifest.step));
  return {};
}

Result<void> commit(CheckpointStore& store, const Asked& asked) {
  NewCheckpoint checkpoint{.step = asked.step, .run = "drover ckpt commit", .probed = asked.probed};
  for (const std::string& file : asked.files) checkpoint.files.push_back({.name = std::filesystem::path(file).filename().string(), .source = file});
  if (!asked.metric.empty()) {
    char* end = nullptr;
    checkpoint.metric = std::strtod(asked.metric.c_str(), &end);
    if (*end != '\0') return fail(ErrorCode::usage, fmt::format("--metric '{}': must be a number", asked.metric));
  }
  DROVER_TRY(const WriterLease lease, store.acquire(asked.lineage));
  DROVER_TRY(const CheckpointEntry entry, store.commit(lease, checkpoint));
  return show({entry}, asked.json);
}

struct CkptVerb {
  std::string_view name, usage, summary;
  bool takes_one = false;
  Result<void> (*run)(CheckpointStore& store, const Asked& asked);
};

constexpr std::array kCkptVerbs = {
    CkptVerb{"ls", "", "all checkpoints, in the order of their commits", false, [](CheckpointStore& s, const Asked& a) -> Result<void> {
      DROVER_TRY(const auto all, s.list());
      return show(all, a.json);
    }},
    CkptVerb{"log", "[CHECKPOINT]", "the line from the head, or from a checkpoint, back to its first", false, log},
    CkptVerb{"diff", "CHECKPOINT OTHER", "what differs between two", true, diff},
    CkptVerb{"verify", "", "read every byte again; what is damaged is quarantined", false, [](CheckpointStore& s, const Asked& a) -> Result<void> {
      DROVER_TRY(const auto damaged, s.verify());
      DROVER_CHECK(show(damaged, a.json));
      if (!damaged.empty()) return fail(ErrorCode::corrupt, fmt::format("{} damaged checkpoints were quarantined", damaged.size()), "drover ckpt ls shows what is left; the head is the newest good one");
      return {};
    }},
    CkptVerb{"pin", "CHECKPOINT [--off]", "never delete it", true, [](CheckpointStore& s, const Asked& a) -> Result<void> {
      DROVER_TRY(const auto entry, s.find(a.checkpoint));
      return s.pin(entry.id, !a.off);
    }},
    CkptVerb{"good", "CHECKPOINT", "its probe has passed: it may be handed out", true, [](CheckpointStore& s, const Asked& a) -> Result<void> {
      DROVER_TRY(const auto entry, s.find(a.checkpoint));
      return s.mark_good(entry.id);
    }},
    CkptVerb{"rollback", "CHECKPOINT", "make an older good one the head again", true, [](CheckpointStore& s, const Asked& a) -> Result<void> {
      DROVER_TRY(const auto entry, s.find(a.checkpoint));
      return s.rollback(entry.id);
    }},
    CkptVerb{"quarantine", "CHECKPOINT [--reason TEXT]", "never hand it out", true, [](CheckpointStore& s, const Asked& a) -> Result<void> {
      DROVER_TRY(const auto entry, s.find(a.checkpoint));
      return s.quarantine(entry.id, a.reason.empty() ? "by its operator" : a.reason);
    }},
    CkptVerb{"retain", "[--last N] [--best N] [--every N] [--quarantined N] [--most N]", "delete what need not be kept", false, [](CheckpointStore& s, const Asked& a) -> Result<void> {
      DROVER_TRY(const auto gone, s.retain(a.lineage, {.last = a.last, .best = a.best, .every_steps = a.every, .quarantined = a.quarantined, .count_max = a.most}));
      print(fmt::format("{} deleted\n", gone.size()));
      return {};
    }},
    CkptVerb{"gc", "", "remove files that no checkpoint names", false, [](CheckpointStore& s, const Asked&) -> Result<void> {
      DROVER_TRY(const auto bytes, s.collect_garbage());
      print(fmt::format("{} freed\n", text_of_bytes(bytes)));
      return {};
    }},
    CkptVerb{"fsck", "", "make the database anew from the manifests", false, nullptr},
    CkptVerb{"export", "CHECKPOINT --to DIR", "copy its files out, verified, all or nothing", true, [](CheckpointStore& s, const Asked& a) -> Result<void> {
      if (a.to.empty()) return fail(ErrorCode::usage, "--to is missing: must be a directory that is empty or does not exist");
      DROVER_TRY(const auto entry, s.find(a.checkpoint));
      return s.restore(entry, a.to);
    }},
    CkptVerb{"commit", "--step N -- FILE...", "store files as a new checkpoint", false, commit},
};

int usage_of_all() {
  std::string text = "drover ckpt VERB [CHECKPOINT] [--store DIR] [--lineage NAME] [--json]\nLooks after a checkpoint store. CHECKPOINT: a number, or the first digits of an id.\n\n";
  for (const CkptVerb& verb : kCkptVerbs) text += fmt::format("  {:<58} {}\n", fmt::format("drover ckpt {} {}", verb.name, verb.usage), verb.summary);
  return print(text) ? kDone : kFault;
}

}  // namespace

int ckpt(const Program&, const Words& words) {
  if (words.empty() || words.front() == "--help" || words.front() == "help") {
    usage_of_all();
    return words.empty() ? kRefused : kDone;
  }
  const auto verb = std::ranges::find(kCkptVerbs, words.front(), &CkptVerb::name);
  if (verb == kCkptVerbs.end()) {
    std::vector<std::string_view> names;
    for (const CkptVerb& one : kCkptVerbs) names.push_back(one.name);
    const auto near = nearest_name(words.front(), names);
    return complain("ckpt", Error(ErrorCode::usage, fmt::format("unknown word '{}'", words.front()), near ? fmt::format("did you mean 'drover ckpt {}'?", *near) : std::string("`drover ckpt --help` lists what there is")));
  }
  Asked asked;
  Schema schema;
  const std::string name = fmt::format("ckpt {}", verb->name);
  if (verb->takes_one || verb->name == "log") schema.text("checkpoint", asked.checkpoint, "a number, or the first digits of an id").positional(verb->takes_one);
  if (verb->name == "diff") schema.text("other", asked.other, "the same").positional(true);
  schema.text("store", asked.store, "directory of the store");
  if (verb->name == "log" || verb->name == "retain" || verb->name == "commit") schema.text("lineage", asked.lineage, "which line of checkpoints");
  if (verb->name == "pin") schema.flag("off", asked.off, "take the pin away");
  if (verb->name == "quarantine") schema.text("reason", asked.reason, "for those who come after");
  if (verb->name == "export") schema.text("to", asked.to, "directory that is empty or does not exist");
  if (verb->name == "retain") {
    schema.integer("last", asked.last, {}, "newest good ones to keep").integer("best", asked.best, {}, "best by metric to keep").integer("every", asked.every, {}, "keep those whose step is a multiple; 0: none");
    schema.integer("quarantined", asked.quarantined, {}, "newest quarantined ones to keep as evidence");
    schema.integer("most", asked.most, {}, "refuse when more are protected; 0: no bound");
  }
  if (verb->name == "commit") {
    schema.integer("step", asked.step, {}, "of the training").text("metric", asked.metric, "larger is better").flag("probed", asked.probed, "wait for `drover ckpt good` before it is handed out");
    schema.words("files", asked.files, "what to store");
  }
  schema.flag("json", asked.json, "print JSON");
  if (const auto done = read_words(name, std::string(verb->usage), std::string(verb->summary), Words(words.begin() + 1, words.end()), schema)) return *done;
  if (verb->run == nullptr) {
    const auto count = rebuild_checkpoint_store(asked.store);
    if (!count) return complain(name, count.error());
    return print(fmt::format("{} checkpoints; those nobody went on from are `verified` and wait for drover ckpt good\n", *count)) ? kDone : kFault;
  }
  if (verb->name != "commit" && !std::filesystem::exists(asked.store))
    return complain(name, Error(ErrorCode::not_found, fmt::format("there is no store '{}'", asked.store), "name one with --store"));
  auto store = CheckpointStore::open(asked.store);
  if (!store) return complain(name, store.error());
  if (auto done = verb->run(*store, asked); !done) return complain(name, done.error());
  return kDone;
}

}  // namespace drover::cli
