#include "os/trainer_page.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace drover {
namespace {
constexpr std::size_t kBytes = 4096, kBeats = 8, kStep = 16, kPhase = 24, kStop = 28;
constexpr std::uint64_t kMagic = 0x31726e7274767264;  // "drvtrnr1"
}  // namespace

Result<TrainerPage> TrainerPage::create(const std::string& path) {
  DROVER_CHECK(NamedFile::clear(path));
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return fail_errno(errno, "make '" + path + "'");
  std::array<std::byte, kBytes> page{};
  std::memcpy(page.data(), &kMagic, sizeof kMagic);
  if (::pwrite(fd.get(), page.data(), page.size(), 0) != static_cast<ssize_t>(page.size())) return fail_errno(errno, "write '" + path + "'");
  return TrainerPage(NamedFile(std::move(fd), path));
}

TrainerPage::Said TrainerPage::read() const {
  std::array<std::byte, 32> head{};
  if (::pread(file_.get(), head.data(), head.size(), 0) != static_cast<ssize_t>(head.size())) return {};
  Said said;
  std::memcpy(&said.beats, head.data() + kBeats, sizeof said.beats);
  std::memcpy(&said.step, head.data() + kStep, sizeof said.step);
  std::memcpy(&said.phase, head.data() + kPhase, sizeof said.phase);
  return said;
}

void TrainerPage::ask_to_stop() {
  constexpr std::uint32_t one = 1;
  (void)!::pwrite(file_.get(), &one, sizeof one, kStop);  // it is told by a signal too
}

}  // namespace drover
