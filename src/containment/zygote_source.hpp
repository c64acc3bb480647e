#pragma once
/// The zygote's program (zygote.py), embedded in this binary (zygote_source.S).

#include <string_view>

extern "C" {
extern const char drover_zygote_begin[], drover_zygote_end[];
}

namespace drover {
inline std::string_view zygote_source() { return {drover_zygote_begin, drover_zygote_end}; }
}  // namespace drover
