// The kernels of paged_attention, one per instruction set.
#pragma once

#include "kernels/paged_attention/paged_attention.h"

namespace lockstep::reference {
void paged_attention(const PagedAttentionArgs& args, Worker worker);
}
namespace lockstep::avx2 {
void paged_attention(const PagedAttentionArgs& args, Worker worker);
}
namespace lockstep::avx512 {
void paged_attention(const PagedAttentionArgs& args, Worker worker);
}
