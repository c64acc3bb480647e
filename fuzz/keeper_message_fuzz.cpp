// What the keeper does with a request before it acts on it: is_valid, then split_blob over as many strings as the request says.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "wire/keeper_message.hpp"

namespace {
void must(bool condition) {
  if (!condition) std::abort();
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace drover::wire;
  if (size < 8) return 0;
  KeeperSpawn spawn;
  std::uint32_t shape = 0, fds = 0;
  std::memcpy(&shape, data, 4);
  std::memcpy(&fds, data + 4, 4);
  data += 8;
  size -= 8;
  // Odd: the request itself is foreign. Even: an honest head over a foreign blob, or the first check would end everything.
  if (shape % 2 == 1) {
    std::memcpy(&spawn, data, size < sizeof spawn ? size : sizeof spawn);
    if (shape % 4 == 1) spawn.magic = kKeeperMagic, spawn.version = kKeeperVersion;
    const std::size_t received = shape % 8 == 1 ? keeper_fds_expected(spawn) : fds;
    if (is_valid(spawn, shape % 16 == 1 ? sizeof spawn : size, received)) {
      must(spawn.argc + spawn.envc + 1 <= spawn.blob_bytes && spawn.blob_bytes <= kKeeperBlobBytesMax);
      must(keeper_fds_expected(spawn) <= kKeeperMessageFdsMax && received <= kKeeperMessageFdsMax);
      must(spawn.rlimits <= kKeeperRlimitsMax);
    }
  } else {
    const std::size_t count = fds % 40;
    std::vector<const char*> strings(count + 1, nullptr);
    std::vector<char> blob(data, data + size);
    if (split_blob(blob.data(), blob.size(), strings.data(), count)) {
      std::size_t bytes = 0;
      for (std::size_t i = 0; i < count; ++i) bytes += std::strlen(strings[i]) + 1;
      must(bytes == size);
    }
    must(strings[count] == nullptr);
  }
  KeeperReply reply;
  if (size >= sizeof reply) {
    std::memcpy(&reply, data, sizeof reply);
    must(keeper_step_name(reply.what) != nullptr);
  }
  return 0;
}
