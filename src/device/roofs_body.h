// The loops of measure_roofs over one instruction set's vectors:
//   Ints, Floats                           registers of kBytes bytes
//   zero, load, join                       of Ints
//   none, one, hide, multiply_add, store   of Floats
#pragma once

#include "device/roofs_kernels.h"

namespace lockstep {

// Four independent streams of loads within one stretch: latency hidden, addresses as a prefetcher likes them.
template <typename V>
void roof_read(const RoofArgs& args, Worker worker) {
  const Worker::Range mine = worker.share(args.source.dim(0), 4096);
  const auto* source = static_cast<const char*>(args.source.data);
  auto a = V::zero(), b = V::zero(), c = V::zero(), d = V::zero();
  for (const char *at = source + mine.begin, *end = source + mine.end; at < end; at += 4 * V::kBytes) {
    a = V::join(a, V::load(at));
    b = V::join(b, V::load(at + V::kBytes));
    c = V::join(c, V::load(at + 2 * V::kBytes));
    d = V::join(d, V::load(at + 3 * V::kBytes));
  }
  V::store(static_cast<float*>(args.sink.data) + worker.index * 16, V::join(V::join(a, b), V::join(c, d)));
}

// `Sums` chains of multiply-adds on registers. `hide` keeps the compiler from folding the constants.
template <typename V, int Sums>
void roof_multiply(const RoofArgs& args, Worker worker) {
  typename V::Floats sums[Sums];
  for (int i = 0; i < Sums; ++i) sums[i] = V::none();
  auto x = V::one();
  for (int64_t round = 0; round < args.rounds * 24 / Sums; ++round) {
    V::hide(x);
#pragma GCC unroll 24
    for (int i = 0; i < Sums; ++i) sums[i] = V::multiply_add(sums[i], x);
  }
  for (int i = 1; i < Sums; ++i) sums[0] = V::add(sums[0], sums[i]);
  V::store(static_cast<float*>(args.sink.data) + worker.index * 16, sums[0]);
}

}  // namespace lockstep
