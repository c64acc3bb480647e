#pragma once
// Short and long forms of a suite: ./test runs the short one, ./test --long the full numbers.

#include <cstdlib>

namespace drover::test {

inline bool long_run() {
  const char* asked = std::getenv("DROVER_TEST_LONG");
  return asked != nullptr && *asked != '\0';
}

/// `short_form` under ./test, `long_form` under ./test --long.
template <class T>
T scaled(T short_form, T long_form) {
  return long_run() ? long_form : short_form;
}

}  // namespace drover::test
