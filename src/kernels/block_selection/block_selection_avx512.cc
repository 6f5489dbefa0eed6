#include "kernels/block_selection/block_selection_body.h"
#include "kernels/common/simd_avx512.h"

namespace lockstep::avx512 {

void select_blocks(const SelectBlocksArgs& args, Worker worker) { select_blocks_body<Simd>(args, worker); }

}  // namespace lockstep::avx512
