// A request on a job's control socket, from anybody who may open it.

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "supervisor/control_server.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace drover;
  const std::string_view message(reinterpret_cast<const char*>(data), size);
  const auto parsed = ControlServer::parse(message, TimePoint(Nanos(123)));
  // One meaning, or an error that fits an answer.
  const int meanings = parsed.stop.has_value() + parsed.status + !parsed.error.empty();
  if (meanings != 1) std::abort();
  if (parsed.stop && parsed.stop->deadline < TimePoint(Nanos(123))) std::abort();
  return 0;
}
