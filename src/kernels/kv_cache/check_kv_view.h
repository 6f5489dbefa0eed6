// What every op that reads or writes a cache checks of its view.
#pragma once

#include <string_view>

#include "base/status.h"
#include "kernels/kv_cache/kv_view.h"

namespace lockstep {

// Errors: kInvalidArgument for a dtype that is no float, an extent < 1, a plane without memory, or a chunk
// that does not divide the head size.
Status check_kv_view(std::string_view op, const KvView& cache);

}  // namespace lockstep
