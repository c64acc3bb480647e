#pragma once
/// The three static helpers, embedded in this binary (helper_images.S).

#include <cstddef>
#include <span>

extern "C" {
extern const std::byte drover_keeper_image_begin[];
extern const std::byte drover_keeper_image_end[];
extern const std::byte drover_watchdog_image_begin[];
extern const std::byte drover_watchdog_image_end[];
extern const std::byte drover_warden_image_begin[];
extern const std::byte drover_warden_image_end[];
}

namespace drover {
inline std::span<const std::byte> keeper_image() { return {drover_keeper_image_begin, drover_keeper_image_end}; }
inline std::span<const std::byte> warden_image() { return {drover_warden_image_begin, drover_warden_image_end}; }
inline std::span<const std::byte> watchdog_image() { return {drover_watchdog_image_begin, drover_watchdog_image_end}; }
}  // namespace drover
