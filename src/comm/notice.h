// Notice: why a rank has closed a group, as bytes that travel to the others.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/status.h"

namespace lockstep {

// No notice is longer; texts that are too long are cut.
inline constexpr size_t kNoticeBytes = 3584;

std::vector<std::byte> pack_notice(const Status& why);
// The same failure with the same fault, or kInternal for bytes that are no notice.
Status unpack_notice(std::span<const std::byte> bytes);

}  // namespace lockstep
