#pragma once
/// Words shared by the readers and writers of options: canonical texts of values, lists, near names.

#include <string>
#include <string_view>
#include <vector>

#include "drover/config.hpp"

namespace drover::config {

std::string duration_word(Nanos value);         ///< `1h30m`, `250ms`, `none`; parse_duration gives the same value back
std::string bytes_word(std::uint64_t value);    ///< `512MiB`, `4097`; parse_bytes gives the same value back
std::string real_word(double value);            ///< shortest text with the same value
bool is_utf8(std::string_view text);
std::string list_of(const std::vector<std::string>& words);  ///< `es, os or dcfr`
/// `did you mean '--workers'?`, or nothing if no candidate is near.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates, std::string_view prefix);
std::string placeholder(const Option& option);  ///< `N`, `TIME`; for a positional its name in capitals

}  // namespace drover::config
