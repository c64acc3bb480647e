#pragma once
/// What Ledger and its writer share. Private to store.

#include <string>

#include "os/file_system.hpp"
#include "store/ledger.hpp"
#include "store/sqlite.hpp"

namespace drover::store {

struct Ledger::Impl {
  FileSystem* fs = nullptr;
  std::string path;
  LedgerOptions options;
  JobHeader header;
  Database database;
};

/// Over every column of a row that a bit flip could change unnoticed (SQLite has no page checksums); kept beside it.
std::uint64_t check_of_task(std::uint64_t id, std::uint64_t spec_hash, std::uint64_t epoch, std::uint64_t attempts, std::string_view outcome, bool final,
                            bool has_result, std::string_view result_file, std::uint64_t result_bytes, std::uint64_t result_hash);
std::uint64_t check_of_range(std::uint64_t first, std::uint64_t last, std::uint64_t fold);

}  // namespace drover::store
