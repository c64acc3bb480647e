#include "solve/lineage.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace drover::solve {
namespace {

constexpr const char* kFile = "training";

std::string one_line(std::string text) {
  while (text.ends_with('\n')) text.pop_back();
  for (std::size_t at = 0; (at = text.find('\n', at)) != std::string::npos;) text.replace(at, 1, "; ");
  return text;
}

}  // namespace

Result<Lineage> Lineage::open(const LineageOptions& options, const std::string& run, const TrainingSpec& spec, const Game& game, std::uint64_t budget) {
  DROVER_TRY(CheckpointStore store, CheckpointStore::open(options.store));
  Lineage lineage(options, std::move(store), run);
  lineage.fingerprint_.config = one_line(canonical_text(spec, game));
  DROVER_TRY(lineage.lease_, lineage.store_.acquire(options.name, budget == 0 ? std::nullopt : std::optional(budget)));
  return lineage;
}

Result<std::optional<CheckpointState>> Lineage::newest() {
  auto found = store_.resume_point(options_.name, fingerprint_, run_, options_.fresh);
  if (!found) return std::unexpected(std::move(found).error().with(fmt::format("lineage '{}' of '{}'", options_.name, options_.store)));
  const std::optional<CheckpointEntry>& entry = *found;
  if (!entry) {
    root_ = options_.fresh;
    return std::nullopt;
  }
  const auto file = std::ranges::find(entry->manifest.files, kFile, &StoredFile::name);
  if (file == entry->manifest.files.end())
    return fail(ErrorCode::mismatch, fmt::format("checkpoint {} of lineage '{}' holds no file '{}': it is no training of solve", entry->id.substr(0, 12), options_.name, kFile), "name another lineage: --lineage NAME");
  DROVER_TRY(const Bytes bytes, store_.read(*file, 0, file->bytes));
  DROVER_TRY(CheckpointState state, decode_checkpoint(bytes));
  committed_ = state.position.iterations;
  return state;
}

Result<void> Lineage::commit(const Training& training, const std::optional<Certificate>& certificate) {
  const Position& at = training.position();
  if (committed_ == at.iterations) return {};
  const Bytes bytes = encode_checkpoint(training);
  const std::size_t cells = training.cells().size() * sizeof(std::int64_t);
  NewCheckpoint checkpoint{.files = {{.name = kFile,
                                      .source = BytesView(bytes),
                                      .changes_only = true,
                                      .tensors = {{.name = "cells", .dtype = "I64", .shape = {training.cells().size()}, .offset = bytes.size() - sizeof(Hash256) - cells, .bytes = cells}}}},
                           .step = at.iterations,
                           .root = root_,
                           .run = run_,
                           .fingerprint = fingerprint_,
                           .state = fmt::format(R"({{"generation":{},"next_batch":{},"digest":"{}"}})", at.generation, at.next_batch, hex(training.digest()))};
  if (certificate) {
    checkpoint.metric = -certificate->exploitability;
    checkpoint.metrics = {{"exploitability_chips", certificate->exploitability}, {"value_chips", certificate->value}};
  }
  const auto context = [&](Error error) { return std::unexpected(std::move(error).with(fmt::format("committing iteration {} to lineage '{}'", at.iterations, options_.name))); };
  if (auto entry = store_.commit(lease_, checkpoint); !entry) return context(std::move(entry).error());
  root_ = false;
  committed_ = at.iterations;
  const Retention retention{.last = static_cast<std::uint32_t>(options_.keep_last), .best = static_cast<std::uint32_t>(options_.keep_best), .every_steps = options_.keep_every};
  if (auto kept = store_.retain(options_.name, retention); !kept) return context(std::move(kept).error());
  return {};
}

}  // namespace drover::solve
