// The kernels of gated_norm, one per instruction set.
#pragma once

#include "kernels/gated_norm/gated_norm.h"

namespace lockstep::reference {
void gated_norm(const GatedNormArgs& args, Worker worker);
}  // namespace lockstep::reference
namespace lockstep::avx2 {
void gated_norm(const GatedNormArgs& args, Worker worker);
}  // namespace lockstep::avx2
namespace lockstep::avx512 {
void gated_norm(const GatedNormArgs& args, Worker worker);
}  // namespace lockstep::avx512
