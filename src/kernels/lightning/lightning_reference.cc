// The oracle of lightning: the recurrence as plain loops in f64, row by row; between rows a state is f32, as
// it is between steps, so that where rows are cut into steps changes no bit here either.
#include "kernels/common/live_rows.h"
#include "kernels/lightning/lightning_kernels.h"

namespace lockstep::reference {
namespace {

const float* at_row(const TensorView& tensor, int64_t t, int64_t head) {
  return tensor.as<const float>() + t * tensor.stride(0) + head * tensor.stride(1);
}

// Row t of one head: from the state before it to the one behind it, which may be the same memory.
void step(const LightningArgs& args, int64_t t, int64_t head, const float* from, float* to) {
  const int64_t key_dim = args.q.dim(2), value_dim = args.v.dim(2);
  const int64_t key_head = head / (args.q.dim(1) / args.k.dim(1));
  const float* q = at_row(args.q, t, head);
  const float* k = at_row(args.k, t, key_head);
  const float* v = at_row(args.v, t, key_head);
  const double decay = args.decay.as<const float>()[head];
  float* out = args.out.as<float>() + t * args.out.stride(0) + head * args.out.stride(1);
  for (int64_t e = 0; e < value_dim; ++e) {
    double sum = 0;
    for (int64_t d = 0; d < key_dim; ++d) {
      const double old = from == nullptr ? 0.0 : decay * from[d * value_dim + e];
      const auto s = static_cast<float>(old + static_cast<double>(k[d]) * static_cast<double>(v[e]));
      to[d * value_dim + e] = s;
      sum += static_cast<double>(q[d] * args.scale) * s;
    }
    out[e] = static_cast<float>(sum);
  }
}

}  // namespace

void lightning(const LightningArgs& args, Worker worker) {
  const int64_t heads = args.q.dim(1);
  const LightningScratch at = lightning_scratch(args.q.dim(2), args.v.dim(2));
  auto* working =
      reinterpret_cast<float*>(static_cast<char*>(args.workspace.data) + worker.index * at.bytes + at.state);
  const int64_t sequences = live_seqs(args.num_seqs, args.state_read_slot.dim(0));
  const Worker::Range items = worker.share(sequences * heads);
  for (int64_t item = items.begin; item < items.end; ++item) {
    const int64_t head = item % heads;
    for_lightning_runs(args, item / heads, head,
                       [&](int64_t begin, int64_t end, const float* from, float* to) {
                         if (to == nullptr) to = working;
                         for (int64_t t = begin; t < end; ++t)
                           step(args, t, head, t == begin ? from : to, to);
                       });
  }
  const int64_t rows = args.out.dim(0);
  const int64_t live = live_rows(args.num_rows, rows);
  const Worker::Range pads = worker.share((rows - live) * heads);
  for (int64_t pad = pads.begin; pad < pads.end; ++pad) {
    float* out =
        args.out.as<float>() + (live + pad / heads) * args.out.stride(0) + pad % heads * args.out.stride(1);
    for (int64_t e = 0; e < args.out.dim(2); ++e) out[e] = 0;
  }
}

}  // namespace lockstep::reference
