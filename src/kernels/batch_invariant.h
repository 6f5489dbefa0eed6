// Kernels whose rows have the same bits whatever shares their batch.
#pragma once

#include "kernels/table.h"

namespace lockstep {

// The table of an instruction set without the kernels whose order of sums follows from the number of rows: on
// CPUs the table itself, on sm90 slower products of many rows.
const KernelTable& batch_invariant_table(Isa isa);

}  // namespace lockstep
