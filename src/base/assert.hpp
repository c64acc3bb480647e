#pragma once
/// What must never happen. On in release builds: a supervisor that goes on with a broken invariant loses or repeats tasks, one
/// that stops is resumed from its ledger.
///
///   DROVER_ASSERT(lease.epoch == task.epoch, lease.epoch, task.epoch);
/// prints `drover: scheduler.cpp:120: assertion failed: lease.epoch == task.epoch (lease.epoch, task.epoch = 3, 4)` and aborts.

#include <chrono>
#include <concepts>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>

namespace drover::detail {

[[noreturn]] void assertion_failed(const char* file, int line, const char* condition, const char* names,
                                   std::initializer_list<std::string> values) noexcept;

template <class T>
std::string assertion_value(const T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    return value ? "true" : "false";
  } else if constexpr (std::is_enum_v<T>) {
    return std::to_string(static_cast<long long>(value));
  } else if constexpr (std::is_arithmetic_v<T>) {
    return std::to_string(value);
  } else if constexpr (std::is_convertible_v<const T&, std::string_view>) {
    return std::string(std::string_view(value));
  } else if constexpr (requires { value.time_since_epoch(); }) {
    return std::to_string(value.time_since_epoch().count());
  } else if constexpr (requires { value.count(); }) {
    return std::to_string(value.count());
  } else if constexpr (requires { std::to_string(value.value); }) {  // StrongId
    return std::to_string(value.value);
  } else {
    return "?";
  }
}

template <class... Ts>
[[noreturn, gnu::cold, gnu::noinline]] void assertion_failed_with(const char* file, int line, const char* condition,
                                                                  const char* names, const Ts&... values) noexcept {
  assertion_failed(file, line, condition, names, {assertion_value(values)...});
}

}  // namespace drover::detail

#define DROVER_ASSERT(condition, ...)                                                                     \
  do {                                                                                                    \
    if (!(condition)) [[unlikely]]                                                                        \
      ::drover::detail::assertion_failed_with(__FILE__, __LINE__, #condition, #__VA_ARGS__ __VA_OPT__(, ) __VA_ARGS__); \
  } while (false)
