#include "os/map_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>

namespace drover {

Result<Mapping> map_file(File& file, std::size_t size_bytes, bool writable) {
  const int fd = file.descriptor();
  if (fd < 0) return fail(ErrorCode::unavailable, "map: this file has no descriptor");
  void* address = ::mmap(nullptr, size_bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) return fail_errno(errno, "mmap");
  return Mapping(address, size_bytes);
}

void drop_cached(File& file) {
  if (file.descriptor() >= 0) (void)::posix_fadvise(file.descriptor(), 0, 0, POSIX_FADV_DONTNEED);
}

void start_writeback(File& file, std::uint64_t offset, std::uint64_t length) {
  const int fd = file.descriptor();
  if (fd < 0) return;
  // A hint: any error shows up in the sync() that follows.
  (void)::sync_file_range(fd, static_cast<off64_t>(offset), static_cast<off64_t>(length), SYNC_FILE_RANGE_WRITE);
}

}  // namespace drover
