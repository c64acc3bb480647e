#include "drover/types/ledger.hpp"
#include "drover/types/limits.hpp"

#include <utility>

namespace drover {

std::string_view name_of(LimitLayer layer) {
  switch (layer) {
    using enum LimitLayer;
    case absent: return "absent";
    case polling: return "polling";
    case rlimit: return "rlimit";
    case cgroup_v1: return "cgroup_v1";
    case cgroup_v2: return "cgroup_v2";
    case pid_namespace: return "pid_namespace";
    case user_pid_namespace: return "user_pid_namespace";
  }
  std::unreachable();
}

std::string_view name_of(Durability durability) {
  switch (durability) {
    case Durability::process: return "process";
    case Durability::power: return "power";
  }
  std::unreachable();
}

std::string_view name_of(Grain grain) {
  switch (grain) {
    case Grain::rows: return "rows";
    case Grain::ranges: return "ranges";
  }
  std::unreachable();
}

}  // namespace drover
