// drover audit [DIRECTORY] [--watch TIME] [--json]: names every process that holds or writes files of a store and is not drover.

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "cli/messages.hpp"
#include "cli/program.hpp"
#include "os/foreign_files.hpp"

namespace drover::cli {

int audit(const Program&, const Words& words) {
  std::string directory = "drover-store";
  Nanos watch{};
  bool json = false;
  Schema schema;
  schema.text("directory", directory, "of the checkpoint store, or any other").positional(false);
  schema.duration("watch", watch, {Nanos(0), Seconds(86400)}, "go on watching for so long: who writes, however shortly, is named (needs root)");
  schema.flag("json", json, "one JSON object (docs/json.md)");
  if (const auto done = read_words("audit", "[DIRECTORY] [--watch TIME] [--json]", "Names every process that holds or writes files of a store and is not drover", words, schema)) return *done;
  std::error_code error;
  const std::string path = std::filesystem::canonical(directory, error);
  if (error) return complain("audit", Error(ErrorCode::not_found, fmt::format("'{}': {}", directory, error.message()), "name the store's directory"));

  using Clock = std::chrono::steady_clock;
  std::optional<WriteWatch> writes;
  if (watch > Nanos(0)) {
    auto made = WriteWatch::create(path);
    if (!made) return complain("audit", made.error());  // half a watch would be taken for a whole one
    writes.emplace(std::move(*made));
  }
  std::map<std::tuple<pid_t, std::string>, FileHolder> foreign;
  const auto note = [&](const std::vector<FileHolder>& holders) {
    for (const FileHolder& one : holders) {
      if (one.ours) continue;
      FileHolder& known = foreign.try_emplace({one.pid, one.path}, one).first->second;
      known.writes = known.writes || one.writes;
      if (known.command == "(gone)") known.command = one.command;
    }
  };
  std::uint32_t unreadable = 0;
  for (const auto end = Clock::now() + watch;;) {
    const Holders now = holders_of(path);
    note(now.holders);
    unreadable = now.unreadable;
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
    if (!writes || left <= 0) break;
    pollfd wait{.fd = writes->fd(), .events = POLLIN, .revents = 0};
    ::poll(&wait, 1, static_cast<int>(std::min<long>(left, 200)));
    note(writes->take());
  }
  if (writes) note(writes->take());

  if (json) {
    nlohmann::ordered_json holders = nlohmann::ordered_json::array();
    for (const auto& [key, one] : foreign) holders.push_back({{"pid", one.pid}, {"command", one.command}, {"path", one.path}, {"writes", one.writes}});
    const nlohmann::ordered_json out{{"directory", path}, {"watched_seconds", static_cast<double>(watch.count()) * 1e-9}, {"foreign", std::move(holders)}, {"unreadable_processes", unreadable}};
    if (!print(out.dump() + "\n")) return kFault;
  } else {
    std::string text;
    for (const auto& [key, one] : foreign) text += fmt::format("{:>8}  {:<16} {}  {}\n", one.pid, one.command, one.writes ? "writes" : "reads ", one.path);
    if (foreign.empty()) text = fmt::format("nobody but drover is at '{}'{}\n", path, unreadable == 0 ? "" : fmt::format(", as far as {} processes of other users could not be looked into", unreadable));
    if (!print(text)) return kFault;
  }
  // Who could not be looked at was not found innocent.
  if (!foreign.empty()) return kFault;
  return unreadable == 0 ? kDone : kIncomplete;
}

}  // namespace drover::cli
