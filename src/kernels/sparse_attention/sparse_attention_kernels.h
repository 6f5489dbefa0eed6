// The kernels of sparse_attention, one per instruction set.
#pragma once

#include "kernels/sparse_attention/sparse_attention.h"

namespace lockstep::reference {
void sparse_attention(const SparseAttentionArgs& args, Worker worker);
}
namespace lockstep::avx2 {
void sparse_attention(const SparseAttentionArgs& args, Worker worker);
}
namespace lockstep::avx512 {
void sparse_attention(const SparseAttentionArgs& args, Worker worker);
}
