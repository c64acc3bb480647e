#pragma once
/// The first line of main. Workers are this same program executed again: in a worker `init` never returns.

#include <initializer_list>

#include "drover/task.hpp"

namespace drover {

/// Call before anything else, from main's thread, with every task function this program runs. Prints one clear line and exits
/// with status 4 if it is a worker that cannot start. A pool without it fails with a message naming this function.
void init(int argc, char** argv, std::initializer_list<const TaskFunction*> tasks);
void init(int argc, char** argv, std::span<const TaskFunction* const> tasks);

}  // namespace drover
