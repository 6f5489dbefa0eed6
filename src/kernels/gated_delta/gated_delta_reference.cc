// The oracle of gated_delta: the recurrence as plain loops in f64, row by row, whatever the lengths.
#include <cmath>

#include "kernels/common/live_rows.h"
#include "kernels/gated_delta/gated_delta_kernels.h"

namespace lockstep::reference {
namespace {

// One value head of one sequence: where its rows begin and how its state is held between them.
struct Head {
  const GatedDeltaArgs& args;
  int64_t value_head;
  int64_t key_head;
  double* state;  // [Dk, Dv]

  const float* row_of(const TensorView& tensor, int64_t t, int64_t head) const {
    return tensor.as<const float>() + t * tensor.stride(0) + head * tensor.stride(1);
  }
};

double inverse_norm(const float* x, int64_t size) {
  double squares = 0;
  for (int64_t d = 0; d < size; ++d) squares += static_cast<double>(x[d]) * static_cast<double>(x[d]);
  return 1.0 / std::sqrt(squares + 1e-6);
}

double softplus(double x) { return x > 20 ? x : std::log1p(std::exp(x)); }

void step(const Head& head, int64_t t) {
  const GatedDeltaArgs& args = head.args;
  const int64_t key_dim = args.q.dim(2);
  const int64_t value_dim = args.v.dim(2);
  const float* q = head.row_of(args.q, t, head.key_head);
  const float* k = head.row_of(args.k, t, head.key_head);
  const float* v = head.row_of(args.v, t, head.value_head);
  const double beta = 1.0 / (1.0 + std::exp(-static_cast<double>(*head.row_of(args.b, t, head.value_head))));
  const double a = static_cast<double>(*head.row_of(args.a, t, head.value_head)) +
                   static_cast<double>(args.dt_bias.as<const float>()[head.value_head]);
  const double rate = std::exp(static_cast<double>(args.a_log.as<const float>()[head.value_head]));
  const double decay = std::exp(-rate * softplus(a));
  const double k_scale = inverse_norm(k, key_dim);
  const double q_scale = inverse_norm(q, key_dim) / std::sqrt(static_cast<double>(key_dim));
  float* out = args.out.as<float>() + t * args.out.stride(0) + head.value_head * args.out.stride(1);
  for (int64_t e = 0; e < value_dim; ++e) {
    double memory = 0;
    for (int64_t d = 0; d < key_dim; ++d) {
      double& s = head.state[d * value_dim + e];
      s *= decay;
      memory += s * k[d] * k_scale;
    }
    const double delta = beta * (static_cast<double>(v[e]) - memory);
    double sum = 0;
    for (int64_t d = 0; d < key_dim; ++d) {
      double& s = head.state[d * value_dim + e];
      s += k[d] * k_scale * delta;
      sum += s * q[d] * q_scale;
    }
    out[e] = static_cast<float>(sum);
  }
}

void run_head(const Head& head, int64_t sequence) {
  const GatedDeltaArgs& args = head.args;
  const int64_t size = args.q.dim(2) * args.v.dim(2);
  const auto slot_of = [&](int64_t slot) {
    return args.state.as<float>() + slot * args.state.stride(0) + head.value_head * size;
  };
  const bool has_state = args.has_initial_state.as<const int32_t>()[sequence] != 0;
  const float* from = has_state ? slot_of(args.state_read_slot.as<const int32_t>()[sequence]) : nullptr;
  for (int64_t i = 0; i < size; ++i) head.state[i] = from != nullptr ? from[i] : 0;
  const SequenceRows own = rows_of(args.query_start_loc, sequence);
  for (int64_t t = own.begin; t < own.end; ++t) {
    step(head, t);
    const int64_t slot = args.state_write_slots.as<const int32_t>()[t];
    if (slot < 0) continue;
    for (int64_t i = 0; i < size; ++i) slot_of(slot)[i] = static_cast<float>(head.state[i]);
  }
}

}  // namespace

void gated_delta(const GatedDeltaArgs& args, Worker worker) {
  const int64_t heads = args.v.dim(1);
  const int64_t group = heads / args.q.dim(1);
  const GatedDeltaScratch at = gated_delta_scratch(args.q.dim(2), args.v.dim(2));
  char* scratch = static_cast<char*>(args.workspace.data) + worker.index * at.bytes + at.state;
  const int64_t sequences = live_seqs(args.num_seqs, args.state_read_slot.dim(0));
  const Worker::Range items = worker.share(sequences * heads);
  for (int64_t item = items.begin; item < items.end; ++item) {
    const int64_t head = item % heads;
    run_head({args, head, head / group, reinterpret_cast<double*>(scratch)}, item / heads);
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
