#include "cli/terminal.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdlib>

#include "report/table.hpp"

namespace drover::cli {
namespace {

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;  // a terminal that went away is nobody's error
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

winsize size_of(int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) size = {.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
  return size;
}

constexpr std::string_view kBeginSync = "\x1b[?2026h", kEndSync = "\x1b[?2026l";

/// Cut to `width` columns; a multi-byte character counts as one and is never split.
std::string clipped(std::string_view line, std::size_t width) {
  std::string out;
  std::size_t columns = 0;
  for (std::size_t i = 0; i < line.size();) {
    std::size_t length = 1;
    while (i + length < line.size() && (static_cast<unsigned char>(line[i + length]) & 0xC0) == 0x80) ++length;
    if (++columns > width) break;
    out += line.substr(i, length);
    i += length;
  }
  return out;
}

}  // namespace

Screen::Screen(int fd, Use use) : fd_(fd), use_(use) {
  const char* const term = std::getenv("TERM");
  terminal_ = ::isatty(fd) == 1 && term != nullptr && std::string_view(term) != "dumb";
}

Screen::~Screen() {
  if (opened_ && use_ == Use::whole) write_all(fd_, "\x1b[?25h\x1b[?1049l");
}

std::size_t Screen::width() const { return size_of(fd_).ws_col; }
std::size_t Screen::height() const { return size_of(fd_).ws_row; }

void Screen::draw(const std::vector<std::string>& lines) {
  if (!terminal_) {
    for (const std::string& line : lines) write_all(fd_, line + "\n");
    return;
  }
  const winsize size = size_of(fd_);
  std::string out(kBeginSync);
  if (use_ == Use::whole) {
    if (!opened_) out += "\x1b[?1049h\x1b[?25l";
    out += "\x1b[H";
  } else if (drawn_ > 0) {
    out += fmt::format("\x1b[{}A\r", drawn_);
  }
  opened_ = true;
  drawn_ = 0;
  for (const std::string& line : lines) {
    if (drawn_ + 1 >= size.ws_row) break;
    out += clipped(report::printable(line), size.ws_col) + "\x1b[K\n";
    ++drawn_;
  }
  out += "\x1b[J";
  out += kEndSync;
  write_all(fd_, out);
}

void Screen::draw_text(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const auto end = text.find('\n');
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
  }
  draw(lines);
}

void Screen::clear() {
  if (terminal_ && use_ == Use::below && drawn_ > 0) write_all(fd_, fmt::format("\x1b[{}A\r\x1b[J", drawn_));
  drawn_ = 0;
}

void pause_for(Nanos duration) {
  const timespec time{.tv_sec = duration.count() / 1'000'000'000, .tv_nsec = duration.count() % 1'000'000'000};
  ::ppoll(nullptr, 0, &time, nullptr);
}

std::string short_number(double value) {
  const double size = std::fabs(value);
  if (size >= 1e12) return fmt::format("{:.3g} T", value / 1e12);
  if (size >= 1e9) return fmt::format("{:.3g} G", value / 1e9);
  if (size >= 1e6) return fmt::format("{:.3g} M", value / 1e6);
  if (size >= 1e4) return fmt::format("{:.3g} k", value / 1e3);
  if (size >= 100 || value == std::floor(value)) return fmt::format("{:.0f}", value);
  return fmt::format("{:.3g}", value);
}

}  // namespace drover::cli
