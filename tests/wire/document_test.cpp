// Goal: docs/wire_format.md is true. Method: read its tables and its hex blocks, and compare them with the structs as compiled and
// with what the real writers write for the example it describes.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "wire/keeper_message.hpp"
#include "wire/support.hpp"
#include "wire/watchdog_message.hpp"

namespace drover::test {
namespace {

using Place = std::pair<std::uint64_t, std::uint64_t>;  // offset, size

#define PLACE(type, field) {#type "." #field, {offsetof(wire::type, field), sizeof(wire::type::field)}}
const std::map<std::string, Place>& places() {
  static const std::map<std::string, Place> all = {
      PLACE(ControlPage, magic), PLACE(ControlPage, version), PLACE(ControlPage, slot), PLACE(ControlPage, incarnation), PLACE(ControlPage, has_shared_segment),
      PLACE(ControlPage, arena_bytes), PLACE(ControlPage, pool_bytes), PLACE(ControlPage, shared_bytes), PLACE(ControlPage, job_seed),
      PLACE(ControlPage, functions_hash), PLACE(ControlPage, warm_up), PLACE(ControlPage, submission_tail), PLACE(ControlPage, stop),
      PLACE(ControlPage, supervisor_sleeping), PLACE(ControlPage, completion_tail), PLACE(ControlPage, worker_sleeping), PLACE(ControlPage, ready),
      PLACE(ControlPage, progress), PLACE(ControlPage, skipped_upto), PLACE(ControlPage, start_error), PLACE(ControlPage, death_word),
      PLACE(Slot, task), PLACE(Slot, epoch), PLACE(Slot, claim), PLACE(Slot, broadcast), PLACE(Slot, length), PLACE(Slot, granule),
      PLACE(Slot, function_or_extent), PLACE(Slot, kind), PLACE(Slot, inline_size), PLACE(Slot, inline_bytes),
      PLACE(PoolPage, magic), PLACE(PoolPage, setup_offset), PLACE(PoolPage, setup_length), PLACE(PoolPage, broadcasts),
      PLACE(BroadcastEntry, version), PLACE(BroadcastEntry, reserved), PLACE(BroadcastEntry, offset), PLACE(BroadcastEntry, length),
      PLACE(KeeperSpawn, magic), PLACE(KeeperSpawn, version), PLACE(KeeperSpawn, slot), PLACE(KeeperSpawn, incarnation), PLACE(KeeperSpawn, flags),
      PLACE(KeeperSpawn, argc), PLACE(KeeperSpawn, envc), PLACE(KeeperSpawn, blob_bytes), PLACE(KeeperSpawn, cgroups), PLACE(KeeperSpawn, fds),
      PLACE(KeeperSpawn, rlimits), PLACE(KeeperSpawn, nice), PLACE(KeeperSpawn, rlimit),
      PLACE(KeeperReply, magic), PLACE(KeeperReply, kind), PLACE(KeeperReply, slot), PLACE(KeeperReply, incarnation), PLACE(KeeperReply, what),
      PLACE(KeeperReply, value), PLACE(KeeperReply, user_ns), PLACE(KeeperReply, system_ns), PLACE(KeeperReply, rss_max_bytes),
      PLACE(WatchdogOrder, magic), PLACE(WatchdogOrder, kind), PLACE(WatchdogWord, magic), PLACE(WatchdogWord, kind),
      PLACE(BeatPage, beat), PLACE(BeatPage, armed), PLACE(BeatPage, reserved), PLACE(BeatPage, disarmed_at_ns),
      {"parts.control", {0, wire::kSubmissionOffset}},
      {"parts.submissions", {wire::kSubmissionOffset, wire::kSlots * sizeof(wire::Slot)}},
      {"parts.completions", {wire::kCompletionOffset, wire::kSlots * sizeof(wire::Slot)}},
      {"parts.released", {wire::kReleasedOffset, wire::kArenaOffset - wire::kReleasedOffset}},
  };
  return all;
}
#undef PLACE

std::vector<std::string> lines() {
  std::ifstream in(std::string(DROVER_SOURCE_DIR) + "/docs/wire_format.md");
  std::vector<std::string> all;
  for (std::string line; std::getline(in, line);) all.push_back(line);
  return all;
}

std::vector<std::string> cells(const std::string& row) {
  std::vector<std::string> out;
  std::stringstream in(row.substr(1));
  for (std::string cell; std::getline(in, cell, '|');) {
    const auto begin = cell.find_first_not_of(" `");
    const auto end = cell.find_last_not_of(" `");
    out.push_back(begin == std::string::npos ? "" : cell.substr(begin, end - begin + 1));
  }
  return out;
}

TEST(Document, EveryFieldIsWhereThePageSays) {
  std::set<std::string> seen;
  std::string section;
  for (const std::string& line : lines()) {
    if (line.starts_with("#")) section = line.substr(line.find_first_not_of("# "));
    if (!line.starts_with("| `")) continue;
    const auto row = cells(line);
    if (row.size() < 3 || row[1].empty() || row[1].find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string prefix = section == "ControlPage" || section == "Slot" ? section + "." : section == "Incarnation memory" ? "parts." : "";
    const std::string name = prefix + row[0];
    if (name == "parts.arena") {
      EXPECT_EQ(row[1], std::to_string(wire::kArenaOffset));
      continue;
    }
    const auto place = places().find(name);
    ASSERT_NE(place, places().end()) << line << "\n  there is no such field";
    EXPECT_EQ(row[1], std::to_string(place->second.first)) << line;
    EXPECT_EQ(row[2], std::to_string(place->second.second)) << line;
    EXPECT_TRUE(seen.insert(name).second) << name << " is described twice";
  }
  for (const auto& [name, place] : places()) EXPECT_TRUE(seen.contains(name)) << name << " is not described";
}

TEST(Document, ThePageCountsEveryByteOfTheStructsItDescribes) {
  // A field that was added to a struct but not to the table above would leave a hole or a longer struct.
  std::map<std::string, std::uint64_t> ends;
  for (const auto& [name, place] : places()) {
    auto& end = ends[name.substr(0, name.find('.'))];
    end = std::max(end, place.first + place.second);
  }
  EXPECT_EQ(ends["Slot"], sizeof(wire::Slot));
  EXPECT_EQ(ends["PoolPage"], sizeof(wire::PoolPage));
  EXPECT_EQ(ends["BroadcastEntry"], sizeof(wire::BroadcastEntry));
  EXPECT_EQ(ends["KeeperSpawn"], sizeof(wire::KeeperSpawn));
  EXPECT_EQ(ends["KeeperReply"], sizeof(wire::KeeperReply));
  EXPECT_EQ(ends["WatchdogOrder"], sizeof(wire::WatchdogOrder));
  EXPECT_EQ(ends["WatchdogWord"], sizeof(wire::WatchdogWord));
  EXPECT_EQ(ends["BeatPage"], sizeof(wire::BeatPage));
  EXPECT_EQ((ends["ControlPage"] + 63) / 64 * 64, sizeof(wire::ControlPage));
}

std::vector<std::byte> hex_block(const std::string& name) {
  std::vector<std::byte> bytes;
  bool inside = false;
  for (const std::string& line : lines()) {
    if (line == "```hex " + name) inside = true;
    else if (inside && line == "```") break;
    else if (inside) {
      EXPECT_EQ(std::stoul(line.substr(0, 2), nullptr, 16), bytes.size()) << line;
      std::stringstream in(line.substr(2));
      std::string word;
      for (int i = 0; i < 16 && in >> word; ++i) bytes.push_back(static_cast<std::byte>(std::stoul(word, nullptr, 16)));
    }
  }
  return bytes;
}
std::vector<std::byte> bytes_of(const wire::Slot& slot) {
  const auto* first = reinterpret_cast<const std::byte*>(&slot);
  return {first, first + sizeof slot};
}

TEST(Document, TheWorkedExampleIsWhatTheWritersWrite) {
  const auto link = make_link(4096);
  const auto view = link->memory()->view();
  wire::Payload hello;
  hello.length = hello.inline_size = 5;
  std::memcpy(hello.inline_bytes.data(), "hello", 5);
  ASSERT_TRUE(link->lease(TaskId(42), Epoch(3), 2, 1, hello));
  link->publish();
  EXPECT_EQ(bytes_of(view.submissions()[0]), hex_block("submission"));

  wire::SubmissionReader reader(view);
  const wire::Slot* slot = reader.claim_next();
  ASSERT_NE(slot, nullptr);
  EXPECT_EQ(static_cast<unsigned>(bytes_of(*slot)[0x0c]), 2u);

  wire::ResultArena arena(view, 4096);
  const auto earlier = arena.allocate(150);
  const auto extent = arena.allocate(100);
  ASSERT_TRUE(earlier && extent);
  wire::Completion c;
  c.task = slot->task;
  c.epoch = slot->epoch;
  c.kind = static_cast<std::uint8_t>(wire::SlotKind::completed);
  c.length = 100;
  c.extent = extent->index;
  c.granule = extent->granule;
  wire::CompletionWriter writer(view);
  (void)writer.publish(c);
  EXPECT_EQ(bytes_of(view.completions()[0]), hex_block("completion"));

  std::array<wire::Completion, 1> out;
  ASSERT_EQ(link->read(out).count, 1u);
  EXPECT_EQ(link->bytes(out[0]).data() - view.arena(), 192);
  EXPECT_EQ(link->bytes(out[0]).size(), 100u);
  link->hold(out[0].extent).reset();
  EXPECT_EQ(view.released()[1].load(), 1u);
}

TEST(Document, TheMagicWordsReadAsThePageSays) {
  const auto text = [](auto word) { return std::string(reinterpret_cast<const char*>(&word), sizeof word); };
  std::string all;
  for (const std::string& line : lines()) all += line + "\n";
  for (const std::string& magic : {text(wire::kMagic), text(wire::kKeeperMagic), text(wire::kWatchdogMagic)}) EXPECT_NE(all.find("the bytes `" + magic + "`"), std::string::npos) << magic;
}

}  // namespace
}  // namespace drover::test
