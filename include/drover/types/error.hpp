#pragma once
/// What may go wrong, as a value. `Result<T>` is returned by everything that can fail for a reason a caller can act on;
/// what must never happen is DROVER_ASSERT (base/assert.hpp); how a worker ended is an Outcome, which is data and never an Error.

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace drover {

/// Sorted by the reader's next move, not by the place that failed.
enum class ErrorCode {
  usage,        ///< the caller's words are off: correct them (exit status 2)
  refused,      ///< understood, and not done on purpose: the message says what would make it possible (exit status 2)
  not_found,    ///< the named thing does not exist
  exists,       ///< the named thing exists and must not be replaced
  busy,         ///< somebody else holds it now: later may work
  fenced,       ///< a newer writer has taken over: this one must end
  limit_steps,  ///< beyond the lineage's budget of steps
  limit_checkpoints,  ///< more checkpoints are protected than may be kept
  mismatch,     ///< two things that must agree do not; the message shows both
  corrupt,      ///< bytes that fail their check; never used, never repaired silently
  no_space,     ///< disk, memory or descriptors are used up
  unavailable,  ///< this host cannot do it
  timed_out,    ///< the deadline passed
  closed,       ///< the other side is gone or shutting down
  system,       ///< a system call failed for another reason; errno is in the message
};

std::string_view name_of(ErrorCode code);

/// One clear line (`what`), and one line on what to do (`advice`, may be empty). Context is put in front on the way up:
/// `open 'a.toml': No such file or directory` becomes `loading the job: open 'a.toml': No such file or directory`.
class Error {
 public:
  Error(ErrorCode code, std::string what, std::string advice = {})
      : code_(code), what_(std::move(what)), advice_(std::move(advice)) {}

  /// `what: strerror(errno_value)`; ENOSPC, EDQUOT, EMFILE, ENFILE and ENOMEM become no_space, ENOENT not_found,
  /// EEXIST exists, EBUSY and EWOULDBLOCK busy, ETIMEDOUT timed_out, the rest system.
  static Error from_errno(int errno_value, std::string_view what, std::string advice = {});

  ErrorCode code() const { return code_; }
  const std::string& what() const { return what_; }
  const std::string& advice() const { return advice_; }
  int errno_value() const { return errno_value_; }

  Error with(std::string_view context) && {
    what_ = std::string(context) + ": " + what_;
    return std::move(*this);
  }
  Error advise(std::string advice) && {
    advice_ = std::move(advice);
    return std::move(*this);
  }

 private:
  ErrorCode code_;
  int errno_value_ = 0;
  std::string what_;
  std::string advice_;
};

template <class T = void>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(ErrorCode code, std::string what, std::string advice = {}) {
  return std::unexpected<Error>(Error(code, std::move(what), std::move(advice)));
}
inline std::unexpected<Error> fail_errno(int errno_value, std::string_view what, std::string advice = {}) {
  return std::unexpected<Error>(Error::from_errno(errno_value, what, std::move(advice)));
}

}  // namespace drover

#define DROVER_CONCAT_2(a, b) a##b
#define DROVER_CONCAT(a, b) DROVER_CONCAT_2(a, b)

/// `DROVER_TRY(UniqueFd fd, open(path));` returns the error of the expression, or declares `fd` with its value.
#define DROVER_TRY(declaration, ...)                                                     \
  auto DROVER_CONCAT(drover_try_, __LINE__) = (__VA_ARGS__);                             \
  if (!DROVER_CONCAT(drover_try_, __LINE__))                                             \
    return std::unexpected(std::move(DROVER_CONCAT(drover_try_, __LINE__)).error());     \
  declaration = std::move(*DROVER_CONCAT(drover_try_, __LINE__))

/// The same for Result<void>.
#define DROVER_CHECK(...)                                                                \
  do {                                                                                   \
    if (auto drover_check_ = (__VA_ARGS__); !drover_check_)                              \
      return std::unexpected(std::move(drover_check_).error());                          \
  } while (false)
