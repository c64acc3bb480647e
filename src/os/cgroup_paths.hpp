#pragma once
/// Where this process stands in the control group hierarchies of this host.

#include <string>
#include <string_view>
#include <vector>

namespace drover {

struct CgroupMount {
  bool is_v2 = false;
  std::string mount_point;
  std::string root;                      ///< which directory of the hierarchy is mounted there, "/" outside containers
  std::vector<std::string> controllers;  ///< v1: of the mount; v2: of our own directory (cgroup.controllers)
  std::string own_directory;             ///< ours, below mount_point; mount_point itself if it cannot be told

  bool has(std::string_view controller) const;
  std::vector<std::string> own_directory_and_parents() const;  ///< innermost first, mount_point last
};

/// Every cgroup mount this process sees, v2 first. Read anew each time.
std::vector<CgroupMount> cgroup_mounts();

}  // namespace drover
