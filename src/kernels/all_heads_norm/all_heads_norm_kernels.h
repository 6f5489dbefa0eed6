// The kernels of head_squares and all_heads_norm, one pair per instruction set.
#pragma once

#include "kernels/all_heads_norm/all_heads_norm.h"

namespace lockstep::reference {
void head_squares(const HeadSquaresArgs& args, Worker worker);
void all_heads_norm(const AllHeadsNormArgs& args, Worker worker);
}  // namespace lockstep::reference
namespace lockstep::avx2 {
void head_squares(const HeadSquaresArgs& args, Worker worker);
void all_heads_norm(const AllHeadsNormArgs& args, Worker worker);
}  // namespace lockstep::avx2
namespace lockstep::avx512 {
void head_squares(const HeadSquaresArgs& args, Worker worker);
void all_heads_norm(const AllHeadsNormArgs& args, Worker worker);
}  // namespace lockstep::avx512
