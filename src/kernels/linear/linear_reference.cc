// The oracle of linear: plain loops, sums in f64.
#include "kernels/common/live_rows.h"
#include "kernels/linear/linear_kernels.h"

namespace lockstep::reference {
namespace {

float entering(float x, MatmulInput input) {
  return input == MatmulInput::kBF16 ? static_cast<float>(BFloat16(x)) : x;
}

template <typename W>
double dot(const LinearArgs& args, const float* x, int64_t column) {
  const W* weights = static_cast<const W*>(args.weight.data);
  double sum = 0;
  for (int64_t k = 0; k < args.weight.k; ++k) {
    const auto weight = static_cast<float>(weights[packed_offset(args.weight, column, k)]);
    sum += static_cast<double>(entering(x[k], args.input)) * static_cast<double>(weight);
  }
  return sum;
}

}  // namespace

void linear(const LinearArgs& args, Worker worker) {
  const int64_t rows = args.x.dim(0);
  const int64_t live = live_rows(args.num_rows, rows);
  const Worker::Range columns = worker.share(args.weight.n);
  with_float_type(args.weight.dtype, [&]<typename W>() {
    for (int64_t t = 0; t < rows; ++t) {
      const float* x = args.x.as<const float>() + t * args.x.stride(0);
      float* out = args.out.as<float>() + t * args.out.stride(0);
      for (int64_t n = columns.begin; n < columns.end; ++n) {
        out[n] = t < live ? static_cast<float>(dot<W>(args, x, n)) : 0.0f;
      }
    }
  });
}

}  // namespace lockstep::reference
