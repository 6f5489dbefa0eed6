#include <cstring>

#include "kernels/common/elements.h"
#include "kernels/kv_cache/kv_cache_kernels.h"

namespace lockstep::reference {

void store_kv(const StoreKvArgs& args, Worker worker) {
  const KvView& cache = args.cache;
  const auto* slots = args.slot_mapping.as<const int64_t>();
  const auto [begin, end] = worker.share(args.k.dim(0));
  for (int64_t t = begin; t < end && (args.num_rows == nullptr || t < args.num_rows->get()); ++t) {
    const int64_t slot = slots[t * args.slot_mapping.stride(0)];
    if (slot < 0) continue;
    const int64_t page = slot / cache.page_tokens, token = slot % cache.page_tokens;
    for (int64_t h = 0; h < cache.heads; ++h) {
      const float* k = args.k.as<const float>() + t * args.k.stride(0) + h * args.k.stride(1);
      const float* v = args.v.as<const float>() + t * args.v.stride(0) + h * args.v.stride(1);
      for (int64_t d = 0; d < cache.head_dim; ++d) {
        store_element(cache.k.data, cache.dtype, cache.k.offset(page, h, token, d), k[d]);
        store_element(cache.v.data, cache.dtype, cache.v.offset(page, h, token, d), v[d]);
      }
    }
  }
}

// One worker, so that a later edit of the same entry wins.
void table_edits(const TableEditsArgs& args, Worker worker) {
  if (worker.index != 0) return;
  const auto* edits = args.edits.as<const int32_t>();
  auto* table = args.page_table.as<int32_t>();
  for (int64_t n = 0; n < *args.num_edits && n < args.edits.dim(0); ++n) {
    const int32_t* edit = edits + n * args.edits.stride(0);
    table[edit[0] * args.page_table.stride(0) + edit[1]] = edit[2];
  }
}

// Each worker makes all copies, in order, of its own byte range of every segment: a page that is copied on
// in the same step is right whatever the number of workers.
void copy_pages(const CopyPagesArgs& args, Worker worker) {
  const auto* copies = args.copies.as<const int32_t>();
  auto* base = static_cast<char*>(args.base);
  const auto [begin, end] = worker.share(args.segment_bytes, 64);
  for (int64_t n = 0; n < *args.num_copies && n < args.copies.dim(0); ++n) {
    const int32_t* copy = copies + n * args.copies.stride(0);
    const bool known = copy[0] >= 0 && copy[0] < args.num_pages && copy[1] >= 0 && copy[1] < args.num_pages;
    if (!known || copy[0] == copy[1]) continue;
    for (int64_t s = 0; s < args.segments; ++s) {
      const char* from = base + copy[0] * args.page_stride_bytes + s * args.segment_stride_bytes;
      char* to = base + copy[1] * args.page_stride_bytes + s * args.segment_stride_bytes;
      std::memcpy(to + begin, from + begin, static_cast<size_t>(end - begin));
    }
  }
}

}  // namespace lockstep::reference
