#pragma once
/// What drover says to people when something is off: `drover: VERB: what 'which': why`, then one line on what to do.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "drover/config.hpp"
#include "drover/types/error.hpp"

namespace drover::cli {

/// Prints it to stderr and returns the exit status that goes with it.
int complain(std::string_view verb, const Error& error);
int complain(std::string_view verb, const std::vector<Error>& errors);
void say(std::string_view verb, std::string_view text);  ///< `drover: VERB: text`

/// 2 for what the caller can put right (words, names, permissions, a job that is busy), 4 for what is this host's or ours.
int exit_status_of(const Error& error);

/// Reads the words of a verb. `--help` prints and yields 0; mistakes are printed and yield 2; otherwise nothing: go on.
std::optional<int> read_words(std::string_view verb, std::string_view usage, std::string_view summary, const std::vector<std::string>& words, Schema& schema);
bool asks_for_help(const std::vector<std::string>& words);

/// To stdout, whole or not at all; false (and a complaint) when it cannot be written.
bool print(std::string_view text);

}  // namespace drover::cli
