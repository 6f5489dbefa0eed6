// How many of a step's rows are live, for kernels.
#pragma once

#include <cstdint>

#include "base/units.h"

namespace lockstep {

// Rows of T that belong to a sequence: *num_rows held to [0, T]. Inlined by force: it stands in files of
// different instruction sets.
[[gnu::always_inline]] inline int64_t live_rows(const LiveRows* num_rows, int64_t rows) {
  const int64_t live = num_rows->get();
  return live < 0 ? 0 : live < rows ? live : rows;
}

}  // namespace lockstep
