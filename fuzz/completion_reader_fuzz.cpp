// The supervisor's reader of a worker's ring: bytes become stores into every word a worker can write, between any calls of the
// supervisor. Whatever is stored, reading gives good endings inside the arena or one complaint.

#include <cstdlib>
#include <cstring>

#include "supervisor/worker_link.hpp"

namespace {

constexpr std::uint64_t kArena = 4096;

struct Input {
  const std::uint8_t* data;
  std::size_t left;
  std::uint64_t take(std::size_t bytes) {
    std::uint64_t value = 0;
    const std::size_t n = bytes < left ? bytes : left;
    std::memcpy(&value, data, n);
    data += n;
    left -= n;
    return value;
  }
};
void must(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace drover;
  auto made = WorkerLink::create({.slot = SlotId(0), .incarnation = Incarnation(1), .arena_bytes = kArena});
  must(made.has_value());
  WorkerLink& link = **made;
  const auto view = link.memory()->view();
  wire::ControlPage& control = link.control();
  Input in{data, size};
  std::uint64_t next_task = 0, read_total = 0;
  while (in.left > 0) {
    switch (in.take(1) % 12) {
      case 0: {
        wire::Payload payload;
        payload.length = payload.inline_size = 1;
        if (link.lease(TaskId(next_task), Epoch(1), 0, 0, payload)) ++next_task;
        break;
      }
      case 1: link.publish(); break;
      case 2: control.completion_tail.store(in.take(8)); break;
      case 3: control.completion_tail.store(read_total + in.take(1) % 4); break;
      case 4: {  // a slot, byte for byte
        auto* slot = reinterpret_cast<std::byte*>(&view.completions()[in.take(1)]);
        for (std::size_t i = 0; i < sizeof(wire::Slot); i += 8) {
          const std::uint64_t word = in.take(8);
          std::memcpy(slot + i, &word, 8);
        }
        break;
      }
      case 5: {  // the next one, nearly right
        wire::Slot& slot = view.completions()[read_total % wire::kSlots];
        slot.task = read_total;
        slot.epoch = 1;
        slot.kind = static_cast<std::uint8_t>(in.take(1));
        slot.function_or_extent = static_cast<std::uint16_t>(in.take(2));
        slot.granule = static_cast<std::uint32_t>(in.take(4));
        slot.inline_size = static_cast<std::uint8_t>(in.take(1));
        slot.length = static_cast<std::uint32_t>(in.take(4));
        control.completion_tail.store(read_total + 1);
        break;
      }
      case 6: view.submissions()[in.take(1)].claim.store(static_cast<std::uint32_t>(in.take(4))); break;
      case 7: control.skipped_upto.store(in.take(8)); break;
      case 8: view.released()[in.take(1) % wire::kExtents].store(static_cast<std::uint32_t>(in.take(4))); break;
      case 9: control.worker_sleeping.store(static_cast<std::uint32_t>(in.take(4))); break;
      case 10: (void)link.revoke(TaskId(in.take(1)), Epoch(1)); break;
      default: (void)link.started(); break;
    }
    const std::size_t before = link.leases();
    std::array<wire::Completion, 8> out;
    const auto read = link.read(out);
    must(read.count <= out.size() && link.leases() == before - read.count);
    for (std::size_t i = 0; i < read.count; ++i) {
      must(out[i].task < next_task);
      if (out[i].extent == wire::kNoExtent) {
        must(out[i].inline_size <= wire::kInlineBytes);
        continue;
      }
      const auto hold = link.hold(out[i].extent);
      const BytesView bytes = link.bytes(out[i]);
      must(bytes.data() >= view.arena() && bytes.data() + bytes.size() <= view.arena() + kArena);
    }
    read_total += read.count;
    if (read.complaint != nullptr) break;
  }
  return 0;
}
