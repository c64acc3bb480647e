#include "solve/schedule.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>

namespace drover::solve {

std::string canonical_text(const Schedule& s) {
  return fmt::format("batches={} first_batch={} batch_max={} growth={} discounted={}", s.batches, s.first_batch, s.batch_max,
                     s.growth, s.discounted);
}

Result<Schedule> parse_schedule(std::string_view text) {
  Schedule s;
  std::string_view rest = text;
  const auto take = [&rest](std::string_view key, std::uint64_t& value) {
    if (!rest.starts_with(key)) return false;
    rest.remove_prefix(key.size());
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
    if (error != std::errc()) return false;
    rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
    return true;
  };
  if (take("batches=", s.batches) && take(" first_batch=", s.first_batch) && take(" batch_max=", s.batch_max) &&
      take(" growth=", s.growth) && take(" discounted=", s.discounted) && rest.empty() && s.batches > 0 &&
      s.first_batch > 0 && s.batch_max > 0 && s.growth > 0)
    return s;
  return fail(ErrorCode::usage, fmt::format("'{}' is not a schedule", text),
              fmt::format("it looks like '{}'", canonical_text(Schedule{})));
}

Generation generation_at(const Schedule& schedule, const Position& at, std::uint64_t iterations_max) {
  Generation generation{.start = at};
  if (at.iterations >= iterations_max) return generation;
  const std::uint64_t left = iterations_max - at.iterations;
  const std::uint64_t wanted = at.iterations / schedule.growth / schedule.batches;
  const std::uint64_t batch =
      std::min({std::max(wanted, std::min(schedule.first_batch, schedule.batch_max)), schedule.batch_max, left});
  generation.batch_iterations = batch;
  generation.batches = std::min(schedule.batches, (left + batch - 1) / batch);
  generation.last_batch_iterations = std::min(batch, left - (generation.batches - 1) * batch);
  return generation;
}

void discount(std::span<std::int64_t> cells, std::uint64_t numerator, std::uint64_t denominator) {
  const auto small_numerator = static_cast<std::int64_t>(numerator), small_denominator = static_cast<std::int64_t>(denominator);
  for (std::int64_t& cell : cells) {
    std::int64_t product = 0;
    if (!__builtin_mul_overflow(cell, small_numerator, &product)) {  // nearly always: a tenth of the cost of 128 bits
      cell = product / small_denominator;
      continue;
    }
    cell = static_cast<std::int64_t>(static_cast<__int128>(cell) * static_cast<__int128>(numerator) /
                                     static_cast<__int128>(denominator));
  }
}

}  // namespace drover::solve
