#pragma once
/// What a slot is made with: the sandbox's profile and demands, languages, the interpreter. One set for all workers, told them as JSON.

#include <string>
#include <string_view>
#include <vector>

#include "drover/config.hpp"
#include "drover/sandbox.hpp"
#include "judge/language.hpp"

namespace drover::judge {

struct SlotOptions {
  std::string profile{};  ///< of SandboxProfile, or "" = the strongest this host allows
  std::string require{};  ///< layers without which nothing is judged
  std::string languages_file{};         ///< of the command line; complete() makes `languages` of it
  std::vector<Language> languages{};    ///< beside, or instead of, those of language.hpp
  std::string python = "/usr/bin/python3";  ///< of candidates and of the tests' process; an interpreter elsewhere has its prefix bound read-only
  std::string preload{};  ///< modules, comma separated, that its zygote loads beside the usual ones
  std::string leave_out{};///< layers not to use: for `judge attack`
  bool repeat_later = false;  ///< what a limit's edge or a starved run asks to be repeated is not, but told (Measured::repeat)
  bool stop_cancels = false;  ///< a submission whose task is cancelled ends at once as `cancelled`
};
/// By name: of `languages`, or of the table; null if there is none.
const Language* find_language(const SlotOptions& options, std::string_view name);
std::string json_of(const SlotOptions& options);
Result<SlotOptions> parse_slot_options(std::string_view json);
/// The options of every verb that makes a sandbox: profile, require, languages, python, preload.
void describe(Schema& schema, SlotOptions& options);
/// After they are set: reads the languages' file. Error usage.
Result<void> complete(SlotOptions& options);
enum class SandboxFor : std::uint8_t { any, candidates, tests };  ///< the last two with a zygote of the programs they run, where python is
Result<Sandbox> make_sandbox(const SlotOptions& options, SandboxFor use = SandboxFor::any);

}  // namespace drover::judge
