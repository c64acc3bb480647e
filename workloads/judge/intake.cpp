#include "judge/intake.hpp"

namespace drover::judge {
namespace {

constexpr std::size_t kKeySize = 64;

}  // namespace

Result<Intake> Intake::open(const std::string& path, const std::function<Result<void>(const IntakeRecord&)>& each) {
  DROVER_TRY(Journal journal, Journal::open(path, [&](BytesView bytes) -> Result<void> {
    std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    IntakeRecord record{.kind = static_cast<IntakeKind>(text.front())};
    text.remove_prefix(1);
    const bool known = record.kind == IntakeKind::submission || record.kind == IntakeKind::execution || record.kind == IntakeKind::test_set;
    if (!known || (record.kind == IntakeKind::submission && text.size() < kKeySize)) return fail(ErrorCode::corrupt, "'" + path + "': a record of no kind that this drover knows");
    if (record.kind == IntakeKind::submission) {
      record.key = text.substr(0, kKeySize);
      text.remove_prefix(kKeySize);
    }
    record.text = text;
    return each(record);
  }));
  return Intake(std::move(journal));
}

Result<void> Intake::append(const IntakeRecord& record) {
  std::string bytes(1, static_cast<char>(record.kind));
  bytes.append(record.key).append(record.text);
  return journal_.append(std::as_bytes(std::span(bytes)));
}

}  // namespace drover::judge
