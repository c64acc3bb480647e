#pragma once
/// Small files the kernel makes up while they are read (/proc, /sys): whole, in one go, at most 64 KiB.

#include <string>

#include "drover/types/error.hpp"

namespace drover {

Result<std::string> read_proc_file(const std::string& path);
/// One write(2), which is how the kernel takes a value. `path` must exist.
Result<void> write_proc_file(const std::string& path, std::string_view text);

}  // namespace drover
