#include "kernels/common/elements.h"
#include "kernels/compressed_keys/compressed_keys_kernels.h"

namespace lockstep::reference {
namespace {

int64_t page_of(const TensorView& table, const TensorView& rows, int64_t s, int64_t index) {
  const int64_t row = rows.as<const int32_t>()[s];
  return table.as<const int32_t>()[row * table.stride(0) + index];
}

// Window j of sequence s, every head, into its row.
void compress(const CompressKeysArgs& args, int64_t s, const KeyWindows& windows, const TensorView& out,
              int64_t j) {
  const KvView& cache = args.cache;
  const int64_t row = j + 1, per_page = out.dim(2);
  const int64_t page = page_of(args.compressed_table, args.compressed_rows, s, row / per_page);
  for (int64_t head = 0; head < cache.heads; ++head) {
    for (int64_t d = 0; d < cache.head_dim; ++d) {
      float sum = 0.0f;
      for (int64_t token = j * windows.stride; token < windows.end(j); ++token) {
        const int64_t from = page_of(args.page_table, args.table_rows, s, token / cache.page_tokens);
        sum +=
            load_element(cache.k.data, cache.dtype, cache.k.offset(from, head, token % cache.page_tokens, d));
      }
      const int64_t to = page * out.stride(0) + head * out.stride(1) + row % per_page * out.stride(2) + d;
      store_element(out.data, out.dtype, to, sum / static_cast<float>(windows.tokens));
    }
  }
}

}  // namespace

void compress_keys(const CompressKeysArgs& args, Worker worker) {
  const auto* spans = args.spans.as<const int32_t>();
  const auto [begin, end] = worker.share(args.num_seqs->get() / args.parts);
  for (int64_t s = begin; s < end; ++s) {
    const int64_t before = spans[2 * s], after = before + spans[2 * s + 1];
    for (int64_t j = kFineWindows.complete(before); j < kFineWindows.complete(after); ++j)
      compress(args, s, kFineWindows, args.k1, j);
    for (int64_t j = kCoarseWindows.complete(before); j < kCoarseWindows.complete(after); ++j)
      compress(args, s, kCoarseWindows, args.k2, j);
  }
}

}  // namespace lockstep::reference
