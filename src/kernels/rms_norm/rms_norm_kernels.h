// The kernels of rms_norm, one per instruction set.
#pragma once

#include "kernels/rms_norm/rms_norm.h"

namespace lockstep::reference {
void rms_norm(const RmsNormArgs& args, Worker worker);
}
namespace lockstep::avx2 {
void rms_norm(const RmsNormArgs& args, Worker worker);
}
namespace lockstep::avx512 {
void rms_norm(const RmsNormArgs& args, Worker worker);
}
