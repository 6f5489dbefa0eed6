#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include "kernels/common/elements.h"
#include "kernels/paged_attention/paged_attention.h"
#include "kernels/sparse_attention/sparse_attention_kernels.h"

namespace lockstep::reference {
namespace {

// What one query vector sees.
struct Seen {
  const int32_t* pages = nullptr;
  int64_t kv_head = 0;
  std::vector<int64_t> positions;  // ascending
};

double cached(const KvView& cache, const KvPlane& plane, const Seen& seen, int64_t position, int64_t d) {
  const int64_t page = seen.pages[position / cache.page_tokens], token = position % cache.page_tokens;
  return static_cast<double>(
      load_element(plane.data, cache.dtype, plane.offset(page, seen.kv_head, token, d)));
}

// out = softmax(scale q K) V over the positions that are seen, all in f64.
void attend(const SparseAttentionArgs& args, const Seen& seen, const float* q, float* out) {
  const KvView& cache = args.cache;
  std::vector<double> scores, sums(static_cast<size_t>(cache.head_dim), 0.0);
  double top = -INFINITY, total = 0.0;
  for (const int64_t position : seen.positions) {
    double dot = 0.0;
    for (int64_t d = 0; d < cache.head_dim; ++d)
      dot += static_cast<double>(q[d]) * cached(cache, cache.k, seen, position, d);
    scores.push_back(dot * static_cast<double>(args.scale));
    top = std::max(top, scores.back());
  }
  for (size_t i = 0; i < scores.size(); ++i) {
    const double weight = scores[i] == -INFINITY ? 0.0 : std::exp(scores[i] - top);
    total += weight;
    for (int64_t d = 0; d < cache.head_dim; ++d)
      sums[static_cast<size_t>(d)] += weight * cached(cache, cache.v, seen, seen.positions[i], d);
  }
  for (int64_t d = 0; d < cache.head_dim; ++d)
    out[d] = total == 0.0 ? 0.0f : static_cast<float>(sums[static_cast<size_t>(d)] / total);
}

// The live sequence that owns a row, or -1.
int64_t owner_of(const SparseAttentionArgs& args, int64_t row) {
  if (row >= args.num_rows->get()) return -1;
  const auto* starts = args.query_start_loc.as<const int32_t>();
  for (int64_t s = 0; s < args.num_seqs->get(); ++s) {
    if (starts[s] <= row && row < starts[s + 1]) return s;
  }
  return -1;
}

// Tokens of the blocks of the list, or of all blocks, that stand before `visible`.
std::vector<int64_t> positions_of(std::span<const int32_t> list, int64_t visible) {
  std::vector<int64_t> positions;
  if (list.empty()) {
    positions.resize(static_cast<size_t>(std::max<int64_t>(0, visible)));
    std::iota(positions.begin(), positions.end(), 0);
  }
  for (const int64_t block : list) {
    const int64_t end = std::min((block + 1) * kAttentionBlock, visible);
    for (int64_t position = block * kAttentionBlock; position < end; ++position)
      positions.push_back(position);
  }
  return positions;
}

}  // namespace

void sparse_attention(const SparseAttentionArgs& args, Worker worker) {
  const auto* begins = args.query_start_loc.as<const int32_t>();
  const auto* starts = args.starts.as<const int32_t>();
  const int64_t kv_heads = args.cache.heads, group = args.q.dim(1) / kv_heads;
  const auto [begin, end] = worker.share(args.q.dim(0));
  for (int64_t row = begin; row < end; ++row) {
    const int64_t s = owner_of(args, row);
    for (int64_t head = 0; head < args.q.dim(1); ++head) {
      Seen seen{.pages = nullptr, .kv_head = head / group, .positions = {}};
      if (s >= 0) {
        const int32_t* list = starts + row * kv_heads + seen.kv_head;
        seen.positions =
            positions_of({args.blocks.as<const int32_t>() + list[0], static_cast<size_t>(list[1] - list[0])},
                         args.seq_lens.as<const int32_t>()[s] - (begins[s + 1] - 1 - row));
        seen.pages = args.page_table.as<const int32_t>() +
                     args.table_rows.as<const int32_t>()[s] * args.page_table.stride(0);
      }
      attend(args, seen, args.q.as<const float>() + row * args.q.stride(0) + head * args.q.stride(1),
             args.out.as<float>() + row * args.out.stride(0) + head * args.out.stride(1));
    }
  }
}

}  // namespace lockstep::reference
