#include "guard/orders.hpp"

#include <charconv>
#include <concepts>
#include <limits>
#include <span>
#include <string_view>

#include "drover/config.hpp"

namespace drover::guard {
namespace {

/// Every field, in the order it travels in. `visit` takes each by reference.
template <class AnyOrders, class Visit>
void each_field(AnyOrders& o, const Visit& visit) {
  visit(o.command), visit(o.directory), visit(o.log), visit(o.evidence), visit(o.notify_directory), visit(o.progress_regex), visit(o.progress_file);
  visit(o.store), visit(o.lineage), visit(o.staging), visit(o.run), visit(o.fingerprint), visit(o.probe_rules), visit(o.ingest), visit(o.phase_times);
  visit(o.probe_command), visit(o.log_bytes_max), visit(o.memory_bytes_max), visit(o.steps_max), visit(o.stall), visit(o.stop_grace), visit(o.release), visit(o.probe_time);
  visit(o.probe_failures), visit(o.disk_bytes_max), visit(o.fresh), visit(o.spare), visit(o.keep_last), visit(o.keep_best), visit(o.keep_every), visit(o.checkpoints_max);
  visit(o.policy.restart), visit(o.policy.intensity), visit(o.policy.period), visit(o.policy.no_progress_max), visit(o.policy.delay_first), visit(o.policy.delay_max);
}

std::string text_of(const std::string& field) { return field; }
std::string text_of(const std::vector<std::string>& words) { return join_words(words); }
std::string text_of(Nanos time) { return std::to_string(time.count()); }
std::string text_of(Restart restart) { return std::to_string(static_cast<unsigned>(restart)); }
template <std::integral T>
std::string text_of(T number) { return std::to_string(number); }

template <std::integral T>
bool set(T& number, std::string_view text) {
  std::int64_t whole = 0;
  std::uint64_t natural = 0;
  const char* const end = text.data() + text.size();
  if (std::from_chars(text.data(), end, natural).ptr == end && natural <= std::numeric_limits<T>::max()) return number = static_cast<T>(natural), true;
  if (!std::is_signed_v<T> || std::from_chars(text.data(), end, whole).ptr != end) return false;
  return number = static_cast<T>(whole), true;
}
bool set(bool& flag, std::string_view text) { return flag = text == "1", text == "0" || text == "1"; }
bool set(std::string& field, std::string_view text) { return field = text, true; }
bool set(std::vector<std::string>& words, std::string_view text) {
  auto split = split_words(text);
  if (split) words = std::move(*split);
  return split.has_value();
}
bool set(Nanos& time, std::string_view text) {
  std::int64_t count = 0;
  const bool good = set(count, text);
  time = Nanos(count);
  return good;
}
bool set(Restart& restart, std::string_view text) {
  std::uint8_t number = 0;
  const bool good = set(number, text) && number <= static_cast<std::uint8_t>(Restart::temporary);
  if (good) restart = static_cast<Restart>(number);
  return good;
}

}  // namespace

// One text, fields ended by NUL: no field may hold one (the options refuse it).
Bytes encode(const Orders& orders) {
  std::string text;
  each_field(orders, [&](const auto& field) { text.append(text_of(field)).push_back('\0'); });
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

Result<Orders> decode_orders(BytesView bytes) {
  std::string_view left(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  Orders orders;
  bool good = true;
  each_field(orders, [&](auto& field) {
    const auto end = left.find('\0');
    good = good && end != left.npos && set(field, left.substr(0, end));
    left.remove_prefix(end == left.npos ? left.size() : end + 1);
  });
  if (!good || !left.empty()) return fail(ErrorCode::corrupt, "guard orders: a field is missing or is no such");
  return orders;
}

}  // namespace drover::guard
