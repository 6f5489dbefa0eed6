// The oracle of swiglu: plain loops, exp in f64.
#include <cmath>

#include "kernels/common/live_rows.h"
#include "kernels/swiglu/swiglu_kernels.h"

namespace lockstep::reference {

void swiglu(const SwigluArgs& args, Worker worker) {
  const int64_t live = live_rows(args.num_rows, args.out.dim(0));
  const int64_t width = args.out.dim(1);
  const Worker::Range rows = worker.share(args.out.dim(0));
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    const float* gate = args.gate_up.as<const float>() + t * args.gate_up.stride(0);
    float* out = args.out.as<float>() + t * args.out.stride(0);
    for (int64_t f = 0; f < width; ++f) {
      if (t >= live) {
        out[f] = 0;
        continue;
      }
      const double g = gate[f];
      out[f] = static_cast<float>(g / (1.0 + std::exp(-g)) * static_cast<double>(gate[width + f]));
    }
  }
}

}  // namespace lockstep::reference
