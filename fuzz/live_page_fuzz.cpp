// The live page of a job, as a file somebody else wrote: a snapshot whose rows are within bounds, or an error.

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "store/live_page.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace drover;
  if (size < 2) return 0;
  const int fd = ::memfd_create("live", MFD_CLOEXEC);
  if (fd < 0) std::abort();
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  // Even: the bytes as they are. Odd: an honest head, the bytes from the third word on.
  const std::uint64_t shape = (std::uint64_t{1} << 32) | (std::uint64_t{sizeof(store::LiveSlot)} << 16) | sizeof(store::LiveJob);
  const std::uint64_t head[2] = {0x4556494c564f5244, shape};
  std::vector<std::uint8_t> page(data + 1, data + size);
  if (data[0] % 2 == 1) {
    page.insert(page.begin(), reinterpret_cast<const std::uint8_t*>(head), reinterpret_cast<const std::uint8_t*>(head) + sizeof head);
    page.resize(std::max<std::size_t>(page.size(), 4096));
  }
  if (::write(fd, page.data(), page.size()) != static_cast<ssize_t>(page.size())) std::abort();
  for (const bool torn : {false, true}) {
    const auto read = torn ? store::read_live_page_torn(posix_file_system(), path) : store::read_live_page(posix_file_system(), path);
    if (!read) continue;
    if (read->slots.size() > store::kLiveSlotsMax) std::abort();
    (void)store::text_in(read->job.workload);
    (void)store::name_of(read->job.state);
    for (const auto& slot : read->slots) {
      (void)store::name_of(slot.state);
      (void)store::text_in(slot.last_fault);
    }
  }
  ::close(fd);
  return 0;
}
