#include <cmath>

#include "kernels/gate/gate_kernels.h"

namespace lockstep::reference {
namespace {

// exp(-x) overflows to infinity for very negative x, and 1 / infinity is the right limit.
float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

}  // namespace

void sigmoid_gate(const SigmoidGateArgs& args, Worker worker) {
  const int64_t heads = args.x.dim(1), width = args.x.dim(2);
  const auto [begin, end] = worker.share(args.x.dim(0));
  for (int64_t t = begin; t < end; ++t) {
    for (int64_t h = 0; h < heads; ++h) {
      const float* x = args.x.as<const float>() + t * args.x.stride(0) + h * args.x.stride(1);
      const float* gate = args.gate.as<const float>() + t * args.gate.stride(0) + h * args.gate.stride(1);
      float* out = args.out.as<float>() + t * args.out.stride(0) + h * args.out.stride(1);
      const bool live = t < args.num_rows->get();
      for (int64_t i = 0; i < width; ++i) out[i] = live ? x[i] * sigmoid(gate[i]) : 0.0f;
    }
  }
}

void gated_add(const GatedAddArgs& args, Worker worker) {
  const int64_t width = args.y.dim(1);
  const auto [begin, end] = worker.share(args.y.dim(0));
  for (int64_t t = begin; t < end; ++t) {
    const float* y = args.y.as<const float>() + t * args.y.stride(0);
    float* out = args.out.as<float>() + t * args.out.stride(0);
    const bool live = t < args.num_rows->get();
    const float gate =
        live && args.gate ? sigmoid(args.gate.as<const float>()[t * args.gate.stride(0)]) : 1.0f;
    for (int64_t i = 0; i < width; ++i) out[i] = live ? out[i] + gate * y[i] : 0.0f;
  }
}

}  // namespace lockstep::reference
