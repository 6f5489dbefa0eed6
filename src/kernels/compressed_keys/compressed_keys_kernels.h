// The kernels of compress_keys, one per instruction set.
#pragma once

#include "kernels/compressed_keys/compressed_keys.h"

namespace lockstep::reference {
void compress_keys(const CompressKeysArgs& args, Worker worker);
}
namespace lockstep::avx2 {
void compress_keys(const CompressKeysArgs& args, Worker worker);
}
namespace lockstep::avx512 {
void compress_keys(const CompressKeysArgs& args, Worker worker);
}
