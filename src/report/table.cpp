#include "report/table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace drover::report {

std::vector<std::string> Table::lines(std::size_t width) const {
  std::vector<std::size_t> widths(rows_.front().size(), 0);
  for (const auto& cells : rows_) {
    for (std::size_t i = 0; i < widths.size() && i < cells.size(); ++i) widths[i] = std::max(widths[i], cells[i].size());
  }
  std::vector<std::string> out;
  for (const auto& cells : rows_) {
    std::string line;
    for (std::size_t i = 0; i < widths.size() && i < cells.size(); ++i) {
      const std::string cell = printable(cells[i]);
      line += i + 1 == widths.size() ? cell : fmt::format("{:<{}}  ", cell, widths[i]);
    }
    while (line.ends_with(' ')) line.pop_back();
    if (width != 0 && line.size() > width) line.resize(width);
    out.push_back(std::move(line));
  }
  return out;
}

std::string short_duration(double seconds) {
  if (!(seconds > 0)) return "0 s";
  if (seconds < 0.9995) return fmt::format("{:.0f} ms", seconds * 1e3);
  if (seconds < 59.95) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<std::uint64_t>(std::llround(std::min(seconds, 1e15)));
  if (whole < 3600) return fmt::format("{} m {} s", whole / 60, whole % 60);
  if (whole < 86400) return fmt::format("{} h {} m", whole / 3600, whole % 3600 / 60);
  return fmt::format("{} d {} h", whole / 86400, whole % 86400 / 3600);
}

std::string printable(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) == 0x7F) c = '?';
  }
  return out;
}

}  // namespace drover::report
