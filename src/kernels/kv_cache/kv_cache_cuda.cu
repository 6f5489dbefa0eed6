#include "kernels/common/device_math.cuh"
#include "kernels/cuda_kernels.h"
#include "kernels/kv_cache/kv_plane.cuh"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 256;

template <typename T>
__global__ void __launch_bounds__(kThreads) store_rows(const __grid_constant__ StoreKvArgs args) {
  const KvView& cache = args.cache;
  const int64_t t = blockIdx.x;
  await_launches();
  if (args.num_rows != nullptr && t >= live(args.num_rows, dim(args.k, 0))) return;
  const int64_t slot = *row<const int64_t>(args.slot_mapping, t);
  if (slot < 0) return;
  const int64_t page = slot / cache.page_tokens, token = slot % cache.page_tokens;
  for (int64_t i = threadIdx.x; i < int64_t{cache.heads} * cache.head_dim; i += kThreads) {
    const int64_t h = i / cache.head_dim, d = i % cache.head_dim;
    const int64_t k = head_at(cache.k, page, h, token) + within_head(cache.k, d);
    const int64_t v = head_at(cache.v, page, h, token) + within_head(cache.v, d);
    static_cast<T*>(cache.k.data)[k] = from_float<T>(at<const float>(args.k, t, h)[d]);
    static_cast<T*>(cache.v.data)[v] = from_float<T>(at<const float>(args.v, t, h)[d]);
  }
}

// The last edit of an entry wins, so that the order of threads does not matter.
__global__ void __launch_bounds__(kThreads) edit_tables(const __grid_constant__ TableEditsArgs args) {
  const int64_t room = dim(args.edits, 0), count = *args.num_edits < room ? *args.num_edits : room;
  for (int64_t n = threadIdx.x; n < count; n += kThreads) {
    const int32_t* edit = row<const int32_t>(args.edits, n);
    bool last = true;
    for (int64_t m = n + 1; m < count && last; ++m) {
      const int32_t* later = row<const int32_t>(args.edits, m);
      last = later[0] != edit[0] || later[1] != edit[1];
    }
    if (last) row<int32_t>(args.page_table, edit[0])[edit[1]] = edit[2];
  }
}

// Each thread makes all copies, in order, of its own bytes of a segment: a page that is copied on in the same
// step is right.
template <typename Word>
__global__ void __launch_bounds__(kThreads) copy_segments(const __grid_constant__ CopyPagesArgs args) {
  const int64_t room = dim(args.copies, 0), count = *args.num_copies < room ? *args.num_copies : room;
  const int64_t at_byte = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * static_cast<int64_t>(sizeof(Word));
  if (at_byte >= args.segment_bytes) return;
  char* base = static_cast<char*>(args.base) + blockIdx.y * args.segment_stride_bytes + at_byte;
  for (int64_t n = 0; n < count; ++n) {
    const int32_t* copy = row<const int32_t>(args.copies, n);
    const int64_t from = copy[0], to = copy[1];
    const bool known = from >= 0 && from < args.num_pages && to >= 0 && to < args.num_pages;
    if (!known || from == to) continue;
    *reinterpret_cast<Word*>(base + to * args.page_stride_bytes) =
        *reinterpret_cast<const Word*>(base + from * args.page_stride_bytes);
  }
}

template <typename Word>
void copy_by(const CopyPagesArgs& args, const Worker& worker) {
  const int64_t words = args.segment_bytes / static_cast<int64_t>(sizeof(Word));
  launch_grid(worker, copy_segments<Word>,
              {blocks_of((words + kThreads - 1) / kThreads, args.segments), kThreads}, args);
}

}  // namespace

void store_kv(const StoreKvArgs& args, Worker worker) {
  with_element(args.cache.dtype, [&]<typename T>() {
    launch_early(worker, store_rows<T>, {blocks_of(args.k.dim(0)), kThreads}, args);
  });
}

void table_edits(const TableEditsArgs& args, Worker worker) {
  launch_grid(worker, edit_tables, {blocks_of(1), kThreads}, args);
}

void copy_pages(const CopyPagesArgs& args, Worker worker) {
  const int64_t all = static_cast<int64_t>(reinterpret_cast<uintptr_t>(args.base)) | args.page_stride_bytes |
                      args.segment_stride_bytes | args.segment_bytes;
  if (all % static_cast<int64_t>(sizeof(uint4)) == 0) {
    copy_by<uint4>(args, worker);
  } else {
    copy_by<char>(args, worker);
  }
}

}  // namespace lockstep::cuda
