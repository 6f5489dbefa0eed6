// The loops behind measure_roofs, one set per instruction set.
#pragma once

#include <cstdint>

#include "device/stream.h"

namespace lockstep {

struct RoofArgs {
  const char* source = nullptr;  // [bytes], aligned to 64
  char* target = nullptr;        // [bytes], for copies
  int64_t bytes = 0;             // multiple of 4096
  int64_t rounds = 0;            // of 24 multiply-adds per thread, for arithmetic
  float* sink = nullptr;         // [threads * 16]: results, so that no loop is left out
};

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
