// The kernels of count_tokens and sample, one set per instruction set, and the layout of a thread's scratch.
#pragma once

#include "kernels/sample/sample.h"

namespace lockstep {

// Byte offsets into one thread's part of the workspace, each on a cache line.
struct SampleScratch {
  int64_t values;   // f32 [V]: logits after penalties and temperature
  int64_t weights;  // f32 [V]: their exp, relative to the largest
  int64_t order;    // u64 [V]: sort keys, best largest
  int64_t bytes;    // of one thread
};

[[gnu::always_inline]] inline SampleScratch sample_scratch(int64_t vocab) {
  const int64_t padded = (vocab + 63) / 64 * 64;  // whole groups of noise
  const int64_t floats = 4 * padded;
  const int64_t longs = 8 * padded;
  return {.values = 0, .weights = floats, .order = 2 * floats, .bytes = 2 * floats + longs};
}

}  // namespace lockstep

namespace lockstep::reference {
void count_tokens(const CountTokensArgs& args, Worker worker);
void sample(const SampleArgs& args, Worker worker);
}  // namespace lockstep::reference
namespace lockstep::avx2 {
void sample(const SampleArgs& args, Worker worker);
}  // namespace lockstep::avx2
namespace lockstep::avx512 {
void sample(const SampleArgs& args, Worker worker);
}  // namespace lockstep::avx512
