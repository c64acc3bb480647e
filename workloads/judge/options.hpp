#pragma once
/// The words of a verb, read the same way by all of judge's.

#include <string>
#include <string_view>
#include <vector>

#include "drover/config.hpp"

namespace drover::judge {

/// False: help was asked for, and printed behind `usage`. Error usage: all that is wrong with the words, in one line.
Result<bool> read_options(const std::vector<std::string>& words, Schema& schema, std::string_view usage);

/// `a,b,c`, without empty words.
std::vector<std::string> split_list(std::string_view text);

}  // namespace drover::judge
