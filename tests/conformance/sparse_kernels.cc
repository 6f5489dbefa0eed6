#include "conformance/sparse_kernels.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/math.h"
#include "conformance/sparse_pages.h"

namespace lockstep::conformance {
namespace {

constexpr OpArg kSelectArgs[] = {
    {LS_ARG(SelectPagesArgs, q), .access = Access::kRead, .dims = "THD", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(SelectPagesArgs, cache), .access = Access::kRead, .dims = "PKBD", .rows = RowsTouched::kOwned,
     .any_stride = true},
    {LS_ARG(SelectPagesArgs, page_table), .access = Access::kRead, .dims = "RM", .rows = RowsTouched::kOwned,
     .any_stride = true},
    {LS_ARG(SelectPagesArgs, table_rows), .access = Access::kRead, .dims = "S", .rows = RowsTouched::kLive},
    {LS_ARG(SelectPagesArgs, seq_lens), .access = Access::kRead, .dims = "S", .rows = RowsTouched::kLive},
    {LS_ARG(SelectPagesArgs, selected_counts), .access = Access::kWrite, .dims = "X",
     .rows = RowsTouched::kNone},
    {LS_ARG(SelectPagesArgs, selected_starts), .access = Access::kWrite, .dims = "Y",
     .rows = RowsTouched::kNone},
    {LS_ARG(SelectPagesArgs, selected_pages), .access = Access::kWrite, .dims = "Z",
     .rows = RowsTouched::kNone},
    {LS_ARG(SelectPagesArgs, num_seqs), .rows = RowsTouched::kNone},
};

constexpr OpArg kSparseArgs[] = {
    {LS_ARG(SparseAttentionArgs, q), .access = Access::kRead, .dims = "THD", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(SparseAttentionArgs, cache), .access = Access::kRead, .dims = "PKBD", .rows = RowsTouched::kOwned,
     .any_stride = true},
    {LS_ARG(SparseAttentionArgs, page_table), .access = Access::kRead, .dims = "RM",
     .rows = RowsTouched::kOwned, .any_stride = true},
    {LS_ARG(SparseAttentionArgs, table_rows), .access = Access::kRead, .dims = "S",
     .rows = RowsTouched::kLive},
    {LS_ARG(SparseAttentionArgs, seq_lens), .access = Access::kRead, .dims = "S", .rows = RowsTouched::kLive},
    {LS_ARG(SparseAttentionArgs, selected_starts), .access = Access::kRead, .dims = "Y",
     .rows = RowsTouched::kNone},
    {LS_ARG(SparseAttentionArgs, selected_pages), .access = Access::kRead, .dims = "Z",
     .rows = RowsTouched::kNone},
    {LS_ARG(SparseAttentionArgs, out), .access = Access::kWrite, .dims = "THD", .any_stride = true},
    {LS_ARG(SparseAttentionArgs, num_seqs), .rows = RowsTouched::kNone},
    {LS_ARG(SparseAttentionArgs, scale), .rows = RowsTouched::kNone},
};

float element(const KvView& cache, const KvPlane& plane, int64_t offset) {
  return with_float_type(cache.dtype, [&]<typename T>() {
    return static_cast<float>(static_cast<const T*>(plane.data)[offset]);
  });
}

// A sequence as both kernels see it: its pages in the page table, and how many tokens each holds.
struct Sequence {
  const KvView& cache;
  const int32_t* table;  // [pages]
  int64_t length;

  int64_t pages() const { return ceil_div(length, int64_t{cache.page_tokens}); }
  int64_t tokens(int64_t page) const {
    return std::min<int64_t>(cache.page_tokens, length - page * cache.page_tokens);
  }
};

template <typename Args>
Sequence sequence_of(const Args& args, int64_t s) {
  const int64_t row = args.table_rows.template as<const int32_t>()[s];
  return {args.cache, args.page_table.template as<const int32_t>() + row * args.page_table.stride(0),
          args.seq_lens.template as<const int32_t>()[s]};
}

double score_of(const SelectPagesArgs& args, int64_t s, const Sequence& sequence, int64_t page) {
  const int64_t per_head = args.q.dim(1) / args.cache.heads;
  double score = 0;
  for (int64_t h = 0; h < args.q.dim(1); ++h) {
    const float* q = args.q.as<const float>() + s * args.q.stride(0) + h * args.q.stride(1);
    for (int64_t token = 0; token < sequence.tokens(page); ++token) {
      for (int64_t d = 0; d < args.q.dim(2); ++d) {
        const int64_t at = args.cache.k.offset(sequence.table[page], h / per_head, token, d);
        score += static_cast<double>(q[d]) * element(args.cache, args.cache.k, at);
      }
    }
  }
  return score / static_cast<double>(sequence.tokens(page));
}

double dot(const SparseAttentionArgs& args, const float* q, int64_t page, int64_t head, int64_t token) {
  double sum = 0;
  for (int64_t d = 0; d < args.q.dim(2); ++d)
    sum += static_cast<double>(q[d]) *
           element(args.cache, args.cache.k, args.cache.k.offset(page, head, token, d));
  return sum * static_cast<double>(args.scale);
}

// One head of one row: scores first, then the weighted sum.
void attend_head(const SparseAttentionArgs& args, int64_t s, int64_t h, std::span<const int32_t> pages) {
  const Sequence sequence = sequence_of(args, s);
  const int64_t head = h / (args.q.dim(1) / args.cache.heads);
  const float* q = args.q.as<const float>() + s * args.q.stride(0) + h * args.q.stride(1);
  float* out = args.out.as<float>() + s * args.out.stride(0) + h * args.out.stride(1);
  std::vector<double> sums(static_cast<size_t>(args.q.dim(2)));
  double most = -INFINITY, total = 0;
  for (const int32_t page : pages) {
    for (int64_t token = 0; token < sequence.tokens(page); ++token)
      most = std::max(most, dot(args, q, sequence.table[page], head, token));
  }
  for (const int32_t page : pages) {
    for (int64_t token = 0; token < sequence.tokens(page); ++token) {
      const double weight = std::exp(dot(args, q, sequence.table[page], head, token) - most);
      total += weight;
      for (size_t d = 0; d < sums.size(); ++d) {
        const int64_t at = args.cache.v.offset(sequence.table[page], head, token, static_cast<int64_t>(d));
        sums[d] += weight * element(args.cache, args.cache.v, at);
      }
    }
  }
  for (size_t d = 0; d < sums.size(); ++d) out[d] = static_cast<float>(sums[d] / total);
}

}  // namespace

const OpSpec kSelectPagesSpec{
    .name = "select_pages", .args = kSelectArgs, .args_bytes = sizeof(SelectPagesArgs)};
const OpSpec kSparseAttentionSpec{
    .name = "sparse_attention", .args = kSparseArgs, .args_bytes = sizeof(SparseAttentionArgs)};

// One worker: entries follow one another.
void select_pages(const SelectPagesArgs& args, Worker worker) {
  if (worker.index != 0) return;
  auto* counts = args.selected_counts.as<int32_t>();
  auto* starts = args.selected_starts.as<int32_t>();
  auto* pages = args.selected_pages.as<int32_t>();
  const int64_t sequences = args.num_seqs->get();
  starts[0] = 0;
  for (int64_t s = 0; s < sequences; ++s) {
    const Sequence sequence = sequence_of(args, s);
    std::vector<std::pair<double, int32_t>> scored;
    for (int32_t page = 0; page < sequence.pages(); ++page)
      scored.emplace_back(-score_of(args, s, sequence, page), page);
    std::sort(scored.begin(), scored.end());
    const int32_t count = std::min<int32_t>(kTopPages, static_cast<int32_t>(scored.size()));
    for (int32_t i = 0; i < count; ++i) pages[starts[s] + i] = scored[static_cast<size_t>(i)].second;
    std::sort(pages + starts[s], pages + starts[s] + count);
    counts[s] = count;
    starts[s + 1] = starts[s] + count;
  }
  for (int64_t s = sequences; s < args.selected_counts.dim(0); ++s) counts[s] = 0;
  for (int64_t s = sequences + 1; s < args.selected_starts.dim(0); ++s) starts[s] = starts[sequences];
  for (int64_t i = starts[sequences]; i < args.selected_pages.dim(0); ++i) pages[i] = 0;
}

void sparse_attention(const SparseAttentionArgs& args, Worker worker) {
  const auto* starts = args.selected_starts.as<const int32_t>();
  const auto* pages = args.selected_pages.as<const int32_t>();
  const auto [begin, end] = worker.share(args.out.dim(0));
  for (int64_t s = begin; s < end; ++s) {
    for (int64_t h = 0; h < args.out.dim(1); ++h) {
      if (s < args.num_seqs->get()) {
        attend_head(args, s, h, {pages + starts[s], static_cast<size_t>(starts[s + 1] - starts[s])});
        continue;
      }
      float* out = args.out.as<float>() + s * args.out.stride(0) + h * args.out.stride(1);
      std::fill_n(out, args.out.dim(2), 0.0f);
    }
  }
}

}  // namespace lockstep::conformance
