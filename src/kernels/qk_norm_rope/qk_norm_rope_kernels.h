// The kernels of rope_angles and qk_norm_rope, one per instruction set.
#pragma once

#include "kernels/qk_norm_rope/qk_norm_rope.h"

namespace lockstep::reference {
// Serves every table: it runs once per step for all layers, and libm keeps its accuracy at any position.
void rope_angles(const RopeAnglesArgs& args, Worker worker);
void qk_norm_rope(const QkNormRopeArgs& args, Worker worker);
}  // namespace lockstep::reference
namespace lockstep::avx2 {
void qk_norm_rope(const QkNormRopeArgs& args, Worker worker);
}
namespace lockstep::avx512 {
void qk_norm_rope(const QkNormRopeArgs& args, Worker worker);
}
