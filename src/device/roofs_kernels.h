// The loops behind measure_roofs, one set per instruction set.
#pragma once

#include <cstdint>

#include "device/stream.h"
#include "tensor/op_spec.h"

namespace lockstep {

struct RoofArgs {
  TensorView source;   // u8 [N], aligned to 64, N a multiple of 4096
  TensorView target;   // u8 [N], for copies
  TensorView sink;     // f32 [threads * 16]: results, so that no loop is left out
  int64_t rounds = 0;  // of 24 multiply-adds per thread, for arithmetic
};

inline constexpr OpArg kRoofArgs[] = {
    {LS_ARG(RoofArgs, source), .access = Access::kRead, .dims = "N", .rows = RowsTouched::kNone},
    {LS_ARG(RoofArgs, target), .access = Access::kWrite, .dims = "N", .rows = RowsTouched::kNone},
    {LS_ARG(RoofArgs, sink), .access = Access::kWrite, .dims = "W", .rows = RowsTouched::kNone},
    {LS_ARG(RoofArgs, rounds), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kRoofSpec{.name = "roof", .args = kRoofArgs, .args_bytes = sizeof(RoofArgs)};

// One instruction set's loops. `multiply` does 24 * rounds operations of `flop` flop per thread.
struct RoofKernels {
  Kernel<RoofArgs> read = nullptr;
  Kernel<RoofArgs> multiply = nullptr;
  int64_t flop = 0;
};

extern const RoofKernels kReferenceRoofs;
extern const RoofKernels kAvx2Roofs;
extern const RoofKernels kAvx512Roofs;

// AVX512-BF16 dot products: 24 * rounds operations of 64 flop per thread.
extern const Kernel<RoofArgs> kBf16RoofKernel;

}  // namespace lockstep
