#pragma once
/// A FileSystem that does what the one below does, but lets the k-th call fail, or stop the machine before or after it. Calls are
/// counted over files and names alike, reads included, so that "for every k" reaches every line of an error path.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "os/file_system.hpp"

namespace drover::sim {

struct Fault {
  std::uint64_t at_call = 0;            ///< from 1; 0 never
  int errno_value = 0;                  ///< what it fails with
  std::uint64_t calls = 1;              ///< how many calls in a row; ~0 for good
  bool half_write = false;              ///< a write puts the first half in place before it fails
  bool flips_a_bit = false;             ///< a write at that call succeeds and puts one wrong bit in place
  bool writes_only = false;             ///< only calls that change something count
  std::function<void()> instead{};      ///< called at the call instead of failing (stop the machine, raise a signal); the call then goes on
};

class FaultFileSystem final : public FileSystem {
 public:
  explicit FaultFileSystem(FileSystem& below) : below_(below) {}

  void arm(Fault fault) {
    fault_ = std::move(fault);
    calls_ = 0;
    hit_ = false;
    names_.clear();
  }
  std::uint64_t calls() const { return calls_; }
  bool hit() const { return hit_; }                                   ///< the fault happened
  const std::vector<std::string>& names() const { return names_; }    ///< `write '/a/b'`, in order, for a failing test's message

  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode, std::uint32_t permissions) override;
  Result<std::unique_ptr<File>> open_unnamed(const std::string& directory, std::uint32_t permissions) override;
  Result<void> link_unnamed(File& file, const std::string& path) override;
  Result<void> rename(const std::string& from, const std::string& to) override;
  Result<void> rename_no_replace(const std::string& from, const std::string& to) override;
  Result<void> unlink(const std::string& path) override;
  Result<void> make_directory(const std::string& path, std::uint32_t permissions) override;
  Result<void> remove_directory(const std::string& path) override;
  Result<void> sync_directory(const std::string& directory) override;
  Result<std::vector<std::string>> list(const std::string& directory) override;
  Result<FileStat> stat(const std::string& path) override;
  Result<SpaceStat> space(const std::string& path) override;
  Result<bool> is_network(const std::string& path) override { return network_ ? Result<bool>(true) : below_.is_network(path); }
  void pretend_network(bool network) { network_ = network; }

 private:
  friend class FaultFile;
  /// Counts, and fails if it is this call's turn.
  Result<void> step(const char* verb, const std::string& path, bool writes);

  FileSystem& below_;
  Fault fault_{};
  std::uint64_t calls_ = 0;
  bool hit_ = false;
  bool network_ = false;
  std::vector<std::string> names_;
};

}  // namespace drover::sim
