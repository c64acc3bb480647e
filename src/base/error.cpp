#include "drover/types/error.hpp"

#include <cerrno>
#include <cstring>

namespace drover {

std::string_view name_of(ErrorCode code) {
  switch (code) {
    using enum ErrorCode;
    case usage: return "usage";
    case refused: return "refused";
    case not_found: return "not_found";
    case exists: return "exists";
    case busy: return "busy";
    case fenced: return "fenced";
    case limit_steps: return "limit_steps";
    case limit_checkpoints: return "limit_checkpoints";
    case mismatch: return "mismatch";
    case corrupt: return "corrupt";
    case no_space: return "no_space";
    case unavailable: return "unavailable";
    case timed_out: return "timed_out";
    case closed: return "closed";
    case system: return "system";
  }
  std::unreachable();
}

namespace {
ErrorCode code_of_errno(int errno_value) {
  switch (errno_value) {
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case ENOMEM: return ErrorCode::no_space;
    case ENOENT: return ErrorCode::not_found;
    case EEXIST: return ErrorCode::exists;
    case EBUSY:
    case EWOULDBLOCK: return ErrorCode::busy;
    case ETIMEDOUT: return ErrorCode::timed_out;
    default: return ErrorCode::system;
  }
}
}  // namespace

Error Error::from_errno(int errno_value, std::string_view what, std::string advice) {
  char buffer[128];
  const char* const text = ::strerror_r(errno_value, buffer, sizeof buffer);  // GNU form: returns the text
  Error error(code_of_errno(errno_value), std::string(what) + ": " + text, std::move(advice));
  error.errno_value_ = errno_value;
  return error;
}

}  // namespace drover
