#include "os/memfd.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "base/assert.hpp"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

namespace drover {

Mapping::Mapping(Mapping&& other) noexcept : address_(std::exchange(other.address_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    if (address_ != nullptr) ::munmap(address_, size_);
    address_ = std::exchange(other.address_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

Mapping::~Mapping() {
  if (address_ != nullptr) ::munmap(address_, size_);
}

Result<Memfd> Memfd::create(std::string_view name, std::size_t size, MemfdUse use) {
  DROVER_ASSERT(size > 0, size);
  const std::string text(name.substr(0, 200));
  // Memory for data is never to be executed; kernels before 6.3 do not know the flag.
  int raw = ::memfd_create(text.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
  if (raw < 0 && errno == EINVAL) raw = ::memfd_create(text.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (raw < 0) return fail_errno(errno, "create shared memory '" + text + "'");
  UniqueFd fd(raw);
  if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) return fail_errno(errno, "size shared memory '" + text + "'");
  int seals = F_SEAL_SHRINK | F_SEAL_GROW;
  if (use == MemfdUse::shared) seals |= F_SEAL_SEAL;
  if (::fcntl(fd.get(), F_ADD_SEALS, seals) != 0) return fail_errno(errno, "seal shared memory '" + text + "'");
  return Memfd(std::move(fd), size);
}

Result<Memfd> Memfd::adopt(UniqueFd fd) {
  const int seals = ::fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0)
    return fail(ErrorCode::refused, "adopt shared memory: the descriptor is not a memfd sealed against shrinking");
  struct stat facts{};
  if (::fstat(fd.get(), &facts) != 0) return fail_errno(errno, "adopt shared memory");
  return Memfd(std::move(fd), static_cast<std::size_t>(facts.st_size));
}

Result<Mapping> Memfd::map_writable() const {
  void* address = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
  if (address == MAP_FAILED) return fail_errno(errno, "map shared memory for writing");
  return Mapping(address, size_);
}

Result<Mapping> Memfd::map_read_only() const {
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd_.get(), 0);
  if (address == MAP_FAILED) return fail_errno(errno, "map shared memory for reading");
  return Mapping(address, size_);
}

Result<void> Memfd::seal_writes() {
  if (::fcntl(fd_.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0)
    return fail_errno(errno, "seal shared memory against writes");
  return {};
}

Result<void> Memfd::punch_hole(std::uint64_t offset, std::uint64_t length) const {
  if (::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0)
    return fail_errno(errno, "give shared memory back");
  return {};
}

}  // namespace drover
