#include "solve/checkpoint_payload.hpp"

#include <fmt/core.h>

#include <charconv>
#include <cstring>

namespace drover::solve {
namespace {

constexpr std::string_view kMagic = "drover-solve-checkpoint ";
constexpr std::uint32_t kVersion = 1;

std::string_view as_text(BytesView bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

/// Reads `key: value\n` lines in the order they were written.
class HeadReader {
 public:
  explicit HeadReader(std::string_view text) : rest_(text) {}
  /// Empty if the next line is not `key`.
  std::string_view take(std::string_view key) {
    const std::size_t end = rest_.find('\n');
    if (end == std::string_view::npos || !rest_.starts_with(key) || rest_.substr(key.size(), 2) != ": ") return {};
    const std::string_view value = rest_.substr(key.size() + 2, end - key.size() - 2);
    rest_.remove_prefix(end + 1);
    return value;
  }
  bool take(std::string_view key, std::uint64_t& value) {
    const std::string_view text = take(key);
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return !text.empty() && error == std::errc() && end == text.data() + text.size();
  }
  std::string_view rest() const { return rest_; }

 private:
  std::string_view rest_;
};

Error corrupt(std::string what) {
  return Error(ErrorCode::corrupt, std::move(what), "use an older checkpoint of this job");
}

}  // namespace

Bytes encode_checkpoint(const Training& training) {
  const Position& at = training.position();
  const auto cells = std::as_bytes(training.cells());
  const std::string head =
      fmt::format("{}{}\n{}iterations: {}\ngeneration: {}\nnext_batch: {}\ncells: {}\ndigest: {}\n\n", kMagic, kVersion,
                  canonical_text(training.spec(), training.game()), at.iterations, at.generation, at.next_batch,
                  training.cells().size(), hex(training.digest()));
  Bytes bytes(head.size() + cells.size() + sizeof(Hash256));
  std::memcpy(bytes.data(), head.data(), head.size());
  if (!cells.empty()) std::memcpy(bytes.data() + head.size(), cells.data(), cells.size());
  const Hash256 hash = sha256(BytesView(bytes).first(head.size() + cells.size()));
  std::memcpy(bytes.data() + head.size() + cells.size(), hash.data(), hash.size());
  return bytes;
}

Result<CheckpointState> decode_checkpoint(BytesView bytes) {
  const std::string_view text = as_text(bytes);
  if (!text.starts_with(kMagic)) return std::unexpected(corrupt("these bytes are no solve checkpoint: they do not begin with its name"));
  std::uint32_t version = 0;
  std::from_chars(text.data() + kMagic.size(), text.data() + text.size(), version);
  if (version != kVersion)
    return fail(ErrorCode::mismatch, fmt::format("checkpoint format {}, this program reads {}", version, kVersion),
                "use the program version that wrote it");
  if (bytes.size() < sizeof(Hash256)) return std::unexpected(corrupt("the checkpoint is cut off"));
  const std::size_t body = bytes.size() - sizeof(Hash256);
  Hash256 written{};
  std::memcpy(written.data(), bytes.data() + body, written.size());
  const Hash256 computed = sha256(bytes.first(body));
  if (written != computed)
    return std::unexpected(corrupt(fmt::format("the checkpoint is damaged: its SHA-256 is {}, its content's is {}", hex(written), hex(computed))));

  // From here on only a program that writes other bytes under this version can fail.
  HeadReader head(text.substr(0, body).substr(text.find('\n') + 1));
  CheckpointState state;
  DROVER_TRY(state.spec.game, parse_game(head.take("game")));
  const std::string game_sha256(head.take("game_sha256")), layout_sha256(head.take("layout_sha256"));
  DROVER_TRY(state.spec.algorithm, algorithm_named(head.take("algorithm")));
  const std::string_view mode = head.take("mode");
  state.spec.mode = mode == name_of(Mode::shared) ? Mode::shared : Mode::exact;
  DROVER_TRY(state.spec.schedule, parse_schedule(head.take("schedule")));
  std::uint64_t cells = 0;
  const bool complete = mode == name_of(state.spec.mode) && head.take("seed", state.spec.seed) &&
                        head.take("iterations", state.position.iterations) && head.take("generation", state.position.generation) &&
                        head.take("next_batch", state.position.next_batch) && head.take("cells", cells);
  const std::string digest(head.take("digest"));
  if (!complete || digest.empty() || !head.rest().starts_with('\n') || (head.rest().size() - 1) / 8 != cells ||
      (head.rest().size() - 1) % 8 != 0)
    return std::unexpected(corrupt("the checkpoint's head does not fit its content"));
  if (game_sha256 != hex(game_hash(state.spec.game)))
    return fail(ErrorCode::mismatch, fmt::format("the checkpoint is of game {}, this program's '{}' is {}", game_sha256,
                                                 canonical_text(state.spec.game), hex(game_hash(state.spec.game))));
  DROVER_TRY(const Game game, Game::build(state.spec.game));
  if (layout_sha256 != hex(game.layout_hash()) || cells != game.cell_count())
    return fail(ErrorCode::mismatch, fmt::format("the checkpoint has layout {}, this program lays '{}' out as {}", layout_sha256,
                                                 canonical_text(state.spec.game), hex(game.layout_hash())),
                "use the program version that wrote it");
  state.cells.resize(cells);
  if (cells > 0) std::memcpy(state.cells.data(), head.rest().data() + 1, cells * 8);
  const Training training(game, state.spec, state.position, state.cells);
  if (hex(training.digest()) != digest)
    return std::unexpected(corrupt(fmt::format("the checkpoint says digest {}, its state has {}", digest, hex(training.digest()))));
  return state;
}

Result<void> check_same_training(const TrainingSpec& found, const TrainingSpec& expected) {
  const auto differ = [](std::string_view what, std::string_view theirs, std::string_view ours, std::string advice) {
    return fail(ErrorCode::mismatch, fmt::format("the checkpoint is of another {}: it has {}, this job has {}", what, theirs, ours),
                std::move(advice));
  };
  const std::string advice = "start a new job, or give the options the checkpoint was made with";
  if (found.game != expected.game)
    return differ("game", fmt::format("'{}' ({})", canonical_text(found.game), hex(game_hash(found.game))),
                  fmt::format("'{}' ({})", canonical_text(expected.game), hex(game_hash(expected.game))), advice);
  if (found.algorithm != expected.algorithm) return differ("algorithm", name_of(found.algorithm), name_of(expected.algorithm), advice);
  if (found.mode != expected.mode) return differ("mode", name_of(found.mode), name_of(expected.mode), advice);
  if (found.schedule != expected.schedule)
    return differ("schedule", canonical_text(found.schedule), canonical_text(expected.schedule), advice);
  if (found.seed != expected.seed) return differ("seed", std::to_string(found.seed), std::to_string(expected.seed), advice);
  return {};
}

}  // namespace drover::solve
