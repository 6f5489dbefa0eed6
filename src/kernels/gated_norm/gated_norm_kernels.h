// The kernels of gated_norm, one per instruction set.
#pragma once

#include "kernels/gated_norm/gated_norm.h"

namespace lockstep::reference {
void gated_norm(const GatedNormArgs& args, Worker worker);
}  // namespace lockstep::reference
