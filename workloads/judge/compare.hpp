#pragma once
/// Does what a program printed answer a test? Pure: bytes in, yes or no.

#include <string_view>

#include "judge/submission.hpp"

namespace drover::judge {

/// exact: the same bytes. tokens: the same words between white space. floats: words that are both finite numbers may differ by
/// `absolute`, or by `relative` of the expected one; everything else as tokens.
bool agrees(std::string_view printed, const IoTest& test);

}  // namespace drover::judge
