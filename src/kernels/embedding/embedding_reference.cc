#include <limits>

#include "kernels/common/live_rows.h"
#include "kernels/embedding/embedding_kernels.h"

namespace lockstep::reference {
namespace {

template <typename W>
void gather_row(const PackedWeight& table, int64_t id, float scale, float* out) {
  const W* row = static_cast<const W*>(table.data) + packed_offset(table, id, 0);
  constexpr int64_t kGroup = 4 / static_cast<int64_t>(sizeof(W));
  const int64_t step = table.layout == WeightLayout::kRowMajor ? kGroup : kPanelColumns * kGroup;
  for (int64_t e = 0; e < table.k; ++e) {
    out[e] = static_cast<float>(row[e / kGroup * step + e % kGroup]) * scale;
  }
}

}  // namespace

void embedding(const EmbeddingArgs& args, Worker worker) {
  const int64_t live = live_rows(args.num_rows, args.out.dim(0));
  const int64_t vocab = args.vocab > 0 ? args.vocab : args.table.n;
  const Worker::Range rows = worker.share(args.out.dim(0));
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    float* out = args.out.as<float>() + t * args.out.stride(0);
    if (t >= live) {
      for (int64_t e = 0; e < args.table.k; ++e) out[e] = 0;
      continue;
    }
    const int64_t id = args.token_ids.as<const int32_t>()[t * args.token_ids.stride(0)];
    const int64_t row = id - args.first_row;
    if (id < 0 || id >= vocab || row < 0 || row >= args.table.n) {
      const bool of_others = id >= 0 && id < vocab;
      for (int64_t e = 0; e < args.table.k; ++e)
        out[e] = of_others ? 0.0f : std::numeric_limits<float>::quiet_NaN();
      continue;
    }
    with_float_type(args.table.dtype, [&]<typename W>() { gather_row<W>(args.table, row, args.scale, out); });
  }
}

}  // namespace lockstep::reference
