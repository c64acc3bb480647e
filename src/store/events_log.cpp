#include "store/events_log.hpp"

#include <charconv>
#include <chrono>
#include <utility>

#include "base/bytes.hpp"

namespace drover::store {
namespace {

constexpr std::size_t kGather = 32 * 1024;

void append_number(std::string& to, std::int64_t value) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  to.append(digits, end);
}
void append_unsigned(std::string& to, std::uint64_t value) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  to.append(digits, end);
}
void append_padded(std::string& to, unsigned value, int width) {
  char digits[8];
  for (int i = width; i-- > 0; value /= 10) digits[i] = static_cast<char>('0' + value % 10);
  to.append(digits, static_cast<std::size_t>(width));
}

/// JSON string, RFC 8259. Bytes that are not UTF-8 become U+FFFD: causes may quote what a worker printed.
void append_string(std::string& to, std::string_view text) {
  static constexpr char kDigits[] = "0123456789abcdef";
  to += '"';
  for (std::size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '"' || c == '\\') {
      to += '\\';
      to += static_cast<char>(c);
      ++i;
    } else if (c == '\n') {
      to += "\\n";
      ++i;
    } else if (c < 0x20 || c == 0x7f) {
      to += "\\u00";
      to += kDigits[c >> 4];
      to += kDigits[c & 15];
      ++i;
    } else if (c < 0x80) {
      to += static_cast<char>(c);
      ++i;
    } else {
      const std::size_t length = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
      bool good = c >= 0xc2 && c <= 0xf4 && i + length <= text.size();
      for (std::size_t k = 1; good && k < length; ++k) good = (static_cast<unsigned char>(text[i + k]) & 0xc0) == 0x80;
      if (good && length > 2) {  // overlong forms, surrogates, beyond U+10FFFF
        const auto d = static_cast<unsigned char>(text[i + 1]);
        good = !(c == 0xe0 && d < 0xa0) && !(c == 0xed && d >= 0xa0) && !(c == 0xf0 && d < 0x90) && !(c == 0xf4 && d >= 0x90);
      }
      if (good) {
        to.append(text, i, length);
        i += length;
      } else {
        to += "\xef\xbf\xbd";
        ++i;
      }
    }
  }
  to += '"';
}

}  // namespace

struct EventsLog::Impl {
  FileSystem* fs = nullptr;
  std::string path;
  EventsLogOptions options;
  std::unique_ptr<File> file;
  std::uint64_t size = 0;         // of the current file
  std::uint64_t seq = 0, written = 0, dropped = 0;
  std::string pending;
  std::uint64_t pending_lines = 0;
  bool torn = false;              // a failed write may have left half a line
  std::int64_t date_of = -1;      // cached calendar day, in days since the epoch
  std::string date;

  std::string rotated(std::uint32_t n) const {  // events.jsonl -> events.3.jsonl
    const auto dot = path.rfind('.');
    return path.substr(0, dot) + "." + std::to_string(n) + path.substr(dot);
  }

  Result<> reopen() {
    DROVER_TRY(file, fs->open(path, OpenMode::append));
    DROVER_TRY(const FileStat stat, file->stat());
    size = stat.size_bytes;
    return {};
  }

  void rotate() {
    // Whatever fails here, the bound holds: if the current file cannot be moved away it is not written to any more.
    if (options.files_max <= 1) {
      (void)fs->unlink(path);
    } else {
      for (std::uint32_t n = options.files_max - 1; n > 1; --n) (void)fs->rename(rotated(n - 1), rotated(n));
      (void)fs->rename(path, rotated(1));
    }
    file.reset();
    if (!reopen()) file.reset();
  }

  void append_wall() {
    const auto now = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
    const auto day = std::chrono::floor<std::chrono::days>(now);
    if (day.time_since_epoch().count() != date_of) {
      date_of = day.time_since_epoch().count();
      const std::chrono::year_month_day ymd(day);
      date.clear();
      append_padded(date, static_cast<unsigned>(static_cast<int>(ymd.year())), 4);
      date += '-';
      append_padded(date, static_cast<unsigned>(ymd.month()), 2);
      date += '-';
      append_padded(date, static_cast<unsigned>(ymd.day()), 2);
      date += 'T';
    }
    const auto ms = static_cast<unsigned>((now - day).count());
    pending += date;
    append_padded(pending, ms / 3'600'000, 2);
    pending += ':';
    append_padded(pending, ms / 60'000 % 60, 2);
    pending += ':';
    append_padded(pending, ms / 1000 % 60, 2);
    pending += '.';
    append_padded(pending, ms % 1000, 3);
    pending += 'Z';
  }

  void flush() {
    if (pending.empty()) return;
    if (file == nullptr && !reopen()) file.reset();
    if (file != nullptr && size > 0 && size + pending.size() > options.bytes_max) rotate();
    bool done = false;
    if (file != nullptr && size + pending.size() <= std::max<std::uint64_t>(options.bytes_max, pending.size())) {
      if (torn) pending.insert(pending.begin(), '\n');  // closes the half line, which a reader skips
      if (file->write_at(0, bytes_of(pending))) {
        done = true;
        torn = false;
        size += pending.size();
      } else {
        torn = true;
        file.reset();             // the size is unknown now: look again next time
      }
    }
    (done ? written : dropped) += pending_lines;
    pending.clear();
    pending_lines = 0;
  }
};

EventsLog::EventsLog(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
EventsLog::EventsLog(EventsLog&&) noexcept = default;
EventsLog& EventsLog::operator=(EventsLog&& other) noexcept {
  if (this != &other) {
    if (impl_) impl_->flush();
    impl_ = std::move(other.impl_);
  }
  return *this;
}
EventsLog::~EventsLog() {
  if (impl_) impl_->flush();
}

Result<EventsLog> EventsLog::open(FileSystem& fs, const std::string& path, const EventsLogOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->fs = &fs;
  impl->path = path;
  impl->options = options;
  impl->pending.reserve(kGather + 4096);
  DROVER_CHECK(impl->reopen());
  // A run that was killed may have left half a line; a newline costs nothing when it did not (readers skip empty lines).
  impl->torn = impl->size > 0;
  return EventsLog(std::move(impl));
}

void EventsLog::add(const JobEvent& event) {
  Impl& log = *impl_;
  std::string& line = log.pending;
  line += "{\"mono_ns\":";
  append_number(line, event.at.time_since_epoch().count());
  line += ",\"wall\":\"";
  log.append_wall();
  line += "\",\"seq\":";
  append_unsigned(line, ++log.seq);
  line += ",\"run\":";
  append_unsigned(line, log.options.run);
  if (event.slot) line += ",\"slot\":", append_unsigned(line, event.slot->value);
  if (event.incarnation) line += ",\"incarnation\":", append_unsigned(line, event.incarnation->value);
  if (event.task) line += ",\"task\":", append_unsigned(line, event.task->value);
  if (event.epoch) line += ",\"epoch\":", append_unsigned(line, event.epoch->value);
  line += ",\"kind\":";
  append_string(line, event.kind.substr(0, 64));
  if (!event.cause.empty()) {
    line += ",\"cause\":";
    append_string(line, event.cause.substr(0, 1024));
  }
  line += "}\n";
  ++log.pending_lines;
  if (line.size() >= kGather) log.flush();
}

void EventsLog::flush() { impl_->flush(); }
std::uint64_t EventsLog::dropped() const { return impl_->dropped; }
std::uint64_t EventsLog::written() const { return impl_->written; }

}  // namespace drover::store
