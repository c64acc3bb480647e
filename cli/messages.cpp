#include "cli/messages.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "cli/program.hpp"
#include "report/table.hpp"

namespace drover::cli {

int exit_status_of(const Error& error) {
  switch (error.code()) {
    using enum ErrorCode;
    case usage:
    case refused:
    case not_found:
    case exists:
    case busy:
    case fenced:
    case limit_steps:
    case limit_checkpoints:
    case mismatch: return kRefused;
    case corrupt:
    case no_space:
    case unavailable:
    case timed_out:
    case closed: return kFault;
    case system:
      switch (error.errno_value()) {  // the path the caller named is not one drover may use
        case EACCES:
        case EPERM:
        case EROFS:
        case ENOTDIR:
        case EISDIR:
        case ELOOP:
        case ENAMETOOLONG: return kRefused;
        default: return kFault;
      }
  }
  std::unreachable();
}

namespace {

void print_error(std::string_view verb, const Error& error) {
  const std::string what = report::printable(error.what());
  std::fputs(verb.empty() ? fmt::format("drover: {}\n", what).c_str() : fmt::format("drover: {}: {}\n", verb, what).c_str(), stderr);
  if (!error.advice().empty()) std::fputs(fmt::format("  {}\n", report::printable(error.advice())).c_str(), stderr);
}

std::string generic_advice(std::string_view verb, const Error& error) {
  switch (error.code()) {
    using enum ErrorCode;
    case usage: return verb.empty() ? "see `drover help`" : fmt::format("see `drover {} --help`", verb);
    case corrupt: return "nothing was changed; look at the file named above";
    case no_space: return "make room, then do the same again";
    case system:
      if (error.errno_value() == EACCES || error.errno_value() == EPERM || error.errno_value() == EROFS) return "name a place you may write to, or change its permissions";
      [[fallthrough]];
    default: return "`drover doctor` shows what this host allows";
  }
}

}  // namespace

int complain(std::string_view verb, const Error& error) {
  print_error(verb, error.advice().empty() ? Error(error).advise(generic_advice(verb, error)) : error);
  return exit_status_of(error);
}

int complain(std::string_view verb, const std::vector<Error>& errors) {
  if (errors.size() == 1) return complain(verb, errors.front());
  int status = kDone;
  for (const Error& error : errors) {
    print_error(verb, error);
    status = std::max(status, exit_status_of(error));
  }
  if (!errors.empty() && errors.back().advice().empty()) std::fputs(fmt::format("  {}\n", generic_advice(verb, errors.back())).c_str(), stderr);
  return status;
}

void say(std::string_view verb, std::string_view text) { std::fputs(fmt::format("drover: {}: {}\n", verb, text).c_str(), stderr); }

bool asks_for_help(const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    if (word == "--") return false;
    if (word == "--help" || word == "-h") return true;
  }
  return false;
}

std::optional<int> read_words(std::string_view verb, std::string_view usage, std::string_view summary, const std::vector<std::string>& words, Schema& schema) {
  if (asks_for_help(words)) {
    print(fmt::format("drover {}{}{}\n{}.\n\n{}", verb, usage.empty() ? "" : " ", usage, summary, help_of(schema)));
    return kDone;
  }
  if (const std::vector<Error> errors = apply_words(words, schema); !errors.empty()) return complain(verb, errors);
  return std::nullopt;
}

bool print(std::string_view text) {
  const bool done = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  if (!done && errno != EPIPE) complain("", Error::from_errno(errno, "cannot write to the standard output"));
  return done;
}

}  // namespace drover::cli
