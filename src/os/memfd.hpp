#pragma once
/// Memory shared with other processes through a sealed descriptor, and its mappings.
///
/// Who holds the descriptor can map it; nobody can shrink or grow it (seals), so a mapping of ours can never fault because
/// of what another process does. The last mapping or descriptor anywhere frees the memory.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "drover/types/error.hpp"
#include "os/unique_fd.hpp"

namespace drover {

/// Unmaps on destruction. Moves; the address stays.
class Mapping {
 public:
  Mapping() = default;
  Mapping(void* address, std::size_t size) : address_(address), size_(size) {}
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  std::byte* data() const { return static_cast<std::byte*>(address_); }
  std::size_t size() const { return size_; }
  std::span<std::byte> bytes() const { return {data(), size_}; }
  bool valid() const { return address_ != nullptr; }

 private:
  void* address_ = nullptr;
  std::size_t size_ = 0;
};

enum class MemfdUse : std::uint8_t {
  shared,     ///< rings and arenas: both sides map it writable; sealed against size changes and further seals at once
  published,  ///< written by its maker, then read by all: seal_writes() after the last map_writable()
};

class Memfd {
 public:
  /// Zeroed, `size` bytes (more than 0). `name` is what /proc shows, up to 200 characters.
  /// Errors: no_space when memory or descriptors are used up.
  static Result<Memfd> create(std::string_view name, std::size_t size, MemfdUse use = MemfdUse::shared);
  /// Takes over a received descriptor. ErrorCode::refused unless it is a memfd that is sealed against shrinking.
  static Result<Memfd> adopt(UniqueFd fd);

  Result<Mapping> map_writable() const;
  Result<Mapping> map_read_only() const;  ///< writing through it is SIGSEGV
  /// From here on no new writable mapping and no write() by anyone, us included; mappings that exist stay writable.
  Result<void> seal_writes();
  /// Gives the pages of [offset, offset + length) back to the system, for all mappings; they read as zeros. Only whole pages
  /// inside the range. Not after seal_writes().
  Result<void> punch_hole(std::uint64_t offset, std::uint64_t length) const;

  int fd() const { return fd_.get(); }
  std::size_t size() const { return size_; }
  UniqueFd release() { return std::move(fd_); }

 private:
  Memfd(UniqueFd fd, std::size_t size) : fd_(std::move(fd)), size_(size) {}
  UniqueFd fd_;
  std::size_t size_ = 0;
};

}  // namespace drover
