#include "os/host.hpp"

#include <errno.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <optional>
#include <string_view>

#include "os/cgroup_paths.hpp"
#include "os/proc_file.hpp"

namespace drover {
namespace {

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

std::optional<std::int64_t> number_in(std::string_view text) {
  std::int64_t value = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc{}) return std::nullopt;
  return value;
}

std::optional<std::int64_t> number_in_file(const std::string& path) {
  const auto text = read_proc_file(path);
  return text ? number_in(*text) : std::nullopt;
}

std::uint64_t meminfo_bytes(std::string_view text, std::string_view label) {
  const auto at = text.find(label);
  if (at == std::string_view::npos) return 0;
  const auto digit = text.find_first_of("0123456789", at + label.size());
  if (digit == std::string_view::npos) return 0;
  return static_cast<std::uint64_t>(number_in(text.substr(digit)).value_or(0)) * 1024;
}

/// CPUs granted by one cgroup directory, or nothing.
std::optional<double> quota_of(const CgroupMount& mount, const std::string& directory) {
  if (mount.is_v2) {
    const auto text = read_proc_file(directory + "/cpu.max");  // "max 100000" or "150000 100000"
    if (!text || text->starts_with("max")) return std::nullopt;
    const auto space = text->find(' ');
    if (space == std::string::npos) return std::nullopt;
    const auto quota = number_in(*text);
    const auto period = number_in(std::string_view(*text).substr(space + 1));
    if (!quota || !period || *period <= 0) return std::nullopt;
    return static_cast<double>(*quota) / static_cast<double>(*period);
  }
  const auto quota = number_in_file(directory + "/cpu.cfs_quota_us");
  const auto period = number_in_file(directory + "/cpu.cfs_period_us");
  if (!quota || *quota <= 0 || !period || *period <= 0) return std::nullopt;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

}  // namespace

std::uint32_t usable_cores() {
  double cores = 1;
  // The mask of a large machine does not fit cpu_set_t: grow until the kernel is content.
  for (std::size_t cpus = 1024; cpus <= 64 * 1024; cpus *= 2) {
    cpu_set_t* set = CPU_ALLOC(cpus);
    if (set == nullptr) break;
    const std::size_t size = CPU_ALLOC_SIZE(cpus);
    const int result = ::sched_getaffinity(0, size, set);
    const int error = errno;
    if (result == 0) cores = CPU_COUNT_S(size, set);
    CPU_FREE(set);
    if (result == 0 || error != EINVAL) break;
  }
  for (const CgroupMount& mount : cgroup_mounts()) {
    if (!mount.is_v2 && !mount.has("cpu")) continue;
    for (const std::string& directory : mount.own_directory_and_parents())
      if (const auto quota = quota_of(mount, directory)) cores = std::min(cores, *quota);
  }
  const auto whole = static_cast<std::uint32_t>(cores);
  const std::uint32_t rounded_up = static_cast<double>(whole) < cores ? whole + 1 : whole;
  return std::max(1u, rounded_up);
}

HostMemory host_memory() {
  HostMemory memory;
  const std::string info = read_proc_file("/proc/meminfo").value_or("");
  memory.total_bytes = meminfo_bytes(info, "MemTotal:");
  memory.available_bytes = meminfo_bytes(info, "MemAvailable:");
  for (const CgroupMount& mount : cgroup_mounts()) {
    if (!mount.is_v2 && !mount.has("memory")) continue;
    const char* limit_file = mount.is_v2 ? "/memory.max" : "/memory.limit_in_bytes";
    const char* usage_file = mount.is_v2 ? "/memory.current" : "/memory.usage_in_bytes";
    for (const std::string& directory : mount.own_directory_and_parents()) {
      const auto limit = number_in_file(directory + limit_file);  // "max" is not a number; v1 says 2^63 rounded to pages
      if (!limit || *limit <= 0 || static_cast<std::uint64_t>(*limit) >= memory.total_bytes) continue;
      const auto bound = static_cast<std::uint64_t>(*limit);
      const auto used = static_cast<std::uint64_t>(number_in_file(directory + usage_file).value_or(0));
      memory.limited_by_cgroup = true;
      memory.total_bytes = bound;
      memory.available_bytes = std::min(memory.available_bytes, used < bound ? bound - used : 0);
    }
  }
  return memory;
}

std::string boot_id() { return trimmed(read_proc_file("/proc/sys/kernel/random/boot_id").value_or("")); }

std::string host_name() {
  utsname names{};
  return ::uname(&names) == 0 ? names.nodename : "";
}

std::string kernel_release() {
  utsname names{};
  return ::uname(&names) == 0 ? names.release : "";
}

std::string executable_path() {
  std::array<char, 4096> path;
  const ssize_t size = ::readlink("/proc/self/exe", path.data(), path.size());
  return size > 0 ? std::string(path.data(), static_cast<std::size_t>(size)) : "";
}

namespace {
struct KnownFileSystem {
  std::uint32_t magic;
  const char* name;
  bool network;
};
constexpr std::array kFileSystems = std::to_array<KnownFileSystem>({
    {EXT4_SUPER_MAGIC, "ext4", false},
    {TMPFS_MAGIC, "tmpfs", false},
    {OVERLAYFS_SUPER_MAGIC, "overlayfs", false},
    {BTRFS_SUPER_MAGIC, "btrfs", false},
    {XFS_SUPER_MAGIC, "xfs", false},
    {F2FS_SUPER_MAGIC, "f2fs", false},
    {0x2fc12fc1u, "zfs", false},
    {RAMFS_MAGIC, "ramfs", false},
    {NFS_SUPER_MAGIC, "nfs", true},
    {SMB_SUPER_MAGIC, "smb", true},
    {0xff534d42u, "cifs", true},
    {0xfe534d42u, "smb2", true},
    {V9FS_MAGIC, "9p", true},
    {0x65735546u, "fuse", true},
    {CEPH_SUPER_MAGIC, "ceph", true},
    {AFS_SUPER_MAGIC, "afs", true},
    {CODA_SUPER_MAGIC, "coda", true},
    {0x0bd00bd0u, "lustre", true},
    {0x47504653u, "gpfs", true},
    {0x7461636fu, "ocfs2", true},
    {0x01161970u, "gfs2", true},
});

Result<std::uint32_t> magic_of(const std::string& path) {
  struct statfs facts{};
  if (::statfs(path.c_str(), &facts) != 0) return fail_errno(errno, "find the file system of '" + path + "'");
  return static_cast<std::uint32_t>(facts.f_type);
}
}  // namespace

Result<bool> is_network_filesystem(const std::string& path) {
  DROVER_TRY(const std::uint32_t magic, magic_of(path));
  return std::ranges::any_of(kFileSystems, [magic](const KnownFileSystem& known) { return known.magic == magic && known.network; });
}

Result<std::string> filesystem_name(const std::string& path) {
  DROVER_TRY(const std::uint32_t magic, magic_of(path));
  for (const KnownFileSystem& known : kFileSystems)
    if (known.magic == magic) return std::string(known.name);
  std::array<char, 16> text;
  std::snprintf(text.data(), text.size(), "0x%x", magic);
  return std::string(text.data());
}

}  // namespace drover
