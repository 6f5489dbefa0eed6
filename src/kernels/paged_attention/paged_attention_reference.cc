#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/common/elements.h"
#include "kernels/paged_attention/paged_attention_kernels.h"

namespace lockstep::reference {
namespace {

// Element d of key or value `position` of the sequence whose pages are `pages`.
double cached(const KvView& cache, const KvPlane& plane, const int32_t* pages, int64_t position, int64_t head,
              int64_t d) {
  const int64_t page = pages[position / cache.page_tokens], token = position % cache.page_tokens;
  return static_cast<double>(load_element(plane.data, cache.dtype, plane.offset(page, head, token, d)));
}

// One query row of one head over positions [0, visible): out = softmax(scale q K) V, all in f64.
void attend(const PagedAttentionArgs& args, const int32_t* pages, int64_t row, int64_t head,
            int64_t visible) {
  const KvView& cache = args.cache;
  const int64_t kv_head = head / (args.q.dim(1) / cache.heads);
  const float* q = args.q.as<const float>() + row * args.q.stride(0) + head * args.q.stride(1);
  float* out = args.out.as<float>() + row * args.out.stride(0) + head * args.out.stride(1);
  std::vector<double> weights(static_cast<size_t>(visible)), sums(static_cast<size_t>(cache.head_dim), 0.0);
  double top = -INFINITY, total = 0.0;
  for (int64_t j = 0; j < visible; ++j) {
    double dot = 0.0;
    for (int64_t d = 0; d < cache.head_dim; ++d)
      dot += static_cast<double>(q[d]) * cached(cache, cache.k, pages, j, kv_head, d);
    weights[static_cast<size_t>(j)] = dot * static_cast<double>(args.scale);
    top = std::max(top, weights[static_cast<size_t>(j)]);
  }
  for (int64_t j = 0; j < visible; ++j) {
    const double score = weights[static_cast<size_t>(j)];
    const double weight = score == -INFINITY ? 0.0 : std::exp(score - top);
    total += weight;
    for (int64_t d = 0; d < cache.head_dim; ++d)
      sums[static_cast<size_t>(d)] += weight * cached(cache, cache.v, pages, j, kv_head, d);
  }
  for (int64_t d = 0; d < cache.head_dim; ++d)
    out[d] = total == 0.0 ? 0.0f : static_cast<float>(sums[static_cast<size_t>(d)] / total);
}

// The live sequence that owns a row, or -1.
int64_t owner_of(const PagedAttentionArgs& args, int64_t row) {
  if (row >= args.num_rows->get()) return -1;
  const auto* starts = args.query_start_loc.as<const int32_t>();
  for (int64_t s = 0; s < args.num_seqs->get(); ++s) {
    if (starts[s] <= row && row < starts[s + 1]) return s;
  }
  return -1;
}

}  // namespace

void paged_attention(const PagedAttentionArgs& args, Worker worker) {
  const auto* starts = args.query_start_loc.as<const int32_t>();
  const auto [begin, end] = worker.share(args.q.dim(0));
  for (int64_t row = begin; row < end; ++row) {
    const int64_t s = owner_of(args, row);
    int64_t visible = 0;
    const int32_t* pages = nullptr;
    if (s >= 0) {
      visible = std::max<int64_t>(0, args.seq_lens.as<const int32_t>()[s] - (starts[s + 1] - 1 - row));
      pages = args.page_table.as<const int32_t>() +
              args.table_rows.as<const int32_t>()[s] * args.page_table.stride(0);
    }
    for (int64_t h = 0; h < args.q.dim(1); ++h) {
      if (visible > 0) {
        attend(args, pages, row, h, visible);
        continue;
      }
      float* out = args.out.as<float>() + row * args.out.stride(0) + h * args.out.stride(1);
      for (int64_t d = 0; d < args.out.dim(2); ++d) out[d] = 0.0f;
    }
  }
}

}  // namespace lockstep::reference
