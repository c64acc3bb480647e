#pragma once
/// How much the ledger keeps and what a commit survives; named in every result and benchmark.

#include <cstdint>
#include <string_view>

namespace drover {

/// What a commit survives. power: fsync'ed before it is acknowledged (SQLite WAL, synchronous=FULL). process: kill -9 of
/// everything; a power loss may take the last commits but never corrupts (synchronous=NORMAL).
enum class Durability : std::uint8_t { power, process };
/// rows: one row a task, its result kept. ranges: one row per contiguous run of plain completions (first attempt, no stored
/// result); every other outcome, retry or stored result has its own row.
enum class Grain : std::uint8_t { rows, ranges };

std::string_view name_of(Durability durability);
std::string_view name_of(Grain grain);

}  // namespace drover
