// The kernels of select_blocks, one per instruction set.
#pragma once

#include "kernels/block_selection/block_selection.h"

namespace lockstep::reference {
void select_blocks(const SelectBlocksArgs& args, Worker worker);
}
namespace lockstep::avx2 {
void select_blocks(const SelectBlocksArgs& args, Worker worker);
}
namespace lockstep::avx512 {
void select_blocks(const SelectBlocksArgs& args, Worker worker);
}
