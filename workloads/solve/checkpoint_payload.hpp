#pragma once
/// The bytes of a checkpoint: the whole training state behind a head that `head -n 14` shows. Writing them durably and
/// choosing the newest is the runtime's duty; refusing what does not belong is ours.
///
///   payload = "drover-solve-checkpoint 1\n" head "\n" cells sha256
///   head    = canonical_text(TrainingSpec) "iterations: N\n" "generation: N\n" "next_batch: N\n" "cells: N\n" "digest: HEX\n"
///   cells   = N * int64 little-endian          sha256 = 32 bytes over everything before
/// `digest` is Training::digest of the state: the number a finished job prints.

#include <cstdint>
#include <vector>

#include "drover/types/bytes.hpp"
#include "drover/types/error.hpp"
#include "solve/training.hpp"

namespace drover::solve {

struct CheckpointState {
  TrainingSpec spec;
  Position position;
  std::vector<std::int64_t> cells;
};

Bytes encode_checkpoint(const Training& training);

/// Errors: corrupt (not a checkpoint, cut off, or its SHA-256 does not fit), mismatch (another format version).
Result<CheckpointState> decode_checkpoint(BytesView bytes);

/// Nothing, or mismatch: the first thing in which `found` is not what `expected` wants, with both values, hashes for game and
/// layout. A job resumes only what is its own.
Result<void> check_same_training(const TrainingSpec& found, const TrainingSpec& expected);

}  // namespace drover::solve
