#include "os/cgroup_paths.hpp"

#include <sys/stat.h>

#include <algorithm>

#include "os/proc_file.hpp"

namespace drover {
namespace {

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const auto end = text.find(separator);
    if (const auto part = text.substr(0, end); !part.empty()) parts.emplace_back(part);
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return parts;
}

bool is_directory(const std::string& path) {
  struct stat facts{};
  return ::stat(path.c_str(), &facts) == 0 && S_ISDIR(facts.st_mode);
}

/// Lines of /proc/self/cgroup: "0::/path" (v2) and "4:memory:/path" (v1).
std::string path_in_hierarchy(const std::vector<std::string>& lines, const CgroupMount& mount) {
  for (const std::string& line : lines) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (mount.is_v2
            ? controllers.empty()
            : (!controllers.empty() && std::ranges::any_of(split(controllers, ','), [&](const auto& name) { return mount.has(name); })))
      return path;
  }
  return "/";
}

}  // namespace

bool CgroupMount::has(std::string_view controller) const { return std::ranges::find(controllers, controller) != controllers.end(); }

std::vector<std::string> CgroupMount::own_directory_and_parents() const {
  std::vector<std::string> directories;
  std::string directory = own_directory;
  while (directory.size() > mount_point.size()) {
    directories.push_back(directory);
    directory.resize(directory.find_last_of('/'));
  }
  directories.push_back(mount_point);
  return directories;
}

std::vector<CgroupMount> cgroup_mounts() {
  std::vector<CgroupMount> mounts;
  const auto own_lines = split(read_proc_file("/proc/self/cgroup").value_or(""), '\n');
  // "24 30 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw" (man 5 proc_pid_mountinfo): root is field 4, mount point 5, after
  // " - " come type, source and super options, where v1 names its controllers.
  for (const std::string& line : split(read_proc_file("/proc/self/mountinfo").value_or(""), '\n')) {
    const auto dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    const auto before = split(std::string_view(line).substr(0, dash), ' ');
    const auto behind = split(std::string_view(line).substr(dash + 3), ' ');
    if (before.size() < 5 || behind.size() < 3 || (behind[0] != "cgroup" && behind[0] != "cgroup2")) continue;
    CgroupMount mount;
    mount.is_v2 = behind[0] == "cgroup2";
    mount.root = before[3];
    mount.mount_point = before[4];
    if (!mount.is_v2) mount.controllers = split(behind[2], ',');
    std::string path = path_in_hierarchy(own_lines, mount);
    if (mount.root != "/" && path.starts_with(mount.root)) path.erase(0, mount.root.size());
    mount.own_directory = path == "/" || path.empty() ? mount.mount_point : mount.mount_point + path;
    if (!is_directory(mount.own_directory)) mount.own_directory = mount.mount_point;
    if (mount.is_v2) {
      auto text = read_proc_file(mount.own_directory + "/cgroup.controllers").value_or("");
      std::ranges::replace(text, '\n', ' ');
      mount.controllers = split(text, ' ');
    }
    mounts.push_back(std::move(mount));
  }
  std::ranges::stable_partition(mounts, [](const CgroupMount& mount) { return mount.is_v2; });
  return mounts;
}

}  // namespace drover
