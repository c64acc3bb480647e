#pragma once
/// Columns for people: padded to the widest cell, cut to a terminal's width; and durations in few characters.

#include <cstddef>
#include <string>
#include <vector>

namespace drover::report {

class Table {
 public:
  explicit Table(std::vector<std::string> titles) : rows_{std::move(titles)} {}
  void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  std::size_t rows() const { return rows_.size() - 1; }
  /// The titles and one line a row; `width` 0 does not cut.
  std::vector<std::string> lines(std::size_t width) const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

/// `35 ms`, `12.4 s`, `3 m 20 s`, `2 h 5 m`, `4 d 2 h`.
std::string short_duration(double seconds);
/// Control characters, which could drive a terminal, become `?`: what workers and files say is not trusted.
std::string printable(std::string_view text);

}  // namespace drover::report
