#include "attention/storage.h"

#include <algorithm>

#include "base/math.h"
#include "kernels/compressed_keys/compressed_keys.h"

namespace lockstep {
namespace {

int64_t padded(int64_t bytes) { return round_up(bytes, Arena::kAlignment); }

int64_t state_bytes(const StateGeometry& state) {
  return padded(state.conv_bytes()) + padded(state.memory_bytes());
}

bool shared(const CacheGeometry& geometry) { return geometry.layout.pool == KvPool::kShared; }

// Recurrent layers whose states lie behind the pages of one softmax layer in a shared pool.
int32_t states_per_page(const CacheGeometry& geometry) {
  return geometry.softmax_layers > 0 ? ceil_div(geometry.recurrent_layers, geometry.softmax_layers) : 0;
}

// In a shared pool a page is followed by the states of slot = page; without states, by one line of padding.
KvGeometry with_shared_pages(const CacheGeometry& geometry) {
  KvGeometry kv = geometry.kv;
  if (!shared(geometry)) return kv;
  const int64_t gap = states_per_page(geometry) * state_bytes(geometry.state);
  kv.shared_page_bytes = padded(kv_page_bytes(geometry.layout, kv)) + (gap > 0 ? gap : Arena::kAlignment);
  return kv;
}

// Elements of one page of compressed keys: K1 of every head, then K2.
int64_t compressed_elements(const CacheGeometry& geometry) {
  const KvGeometry& kv = geometry.kv;
  const int64_t rows = kv.page_tokens / kFineWindows.stride + kv.page_tokens / kCoarseWindows.stride;
  return rows * kv.heads * kv.head_dim;
}
int64_t compressed_bytes(const CacheGeometry& geometry) {
  return geometry.compressed_pages * compressed_elements(geometry) * size_of(geometry.kv.dtype);
}

CompressedView compressed_view(char* base, const CacheGeometry& geometry) {
  const KvGeometry& kv = geometry.kv;
  const int64_t fine = kv.page_tokens / kFineWindows.stride, coarse = kv.page_tokens / kCoarseWindows.stride;
  const int64_t pages = geometry.compressed_pages;
  CompressedView view;
  view.k1 = dense_view(base, kv.dtype, {pages, kv.heads, fine, kv.head_dim});
  view.k2 = dense_view(base + fine * kv.heads * kv.head_dim * size_of(kv.dtype), kv.dtype,
                       {pages, kv.heads, coarse, kv.head_dim});
  view.k1.strides[0] = view.k2.strides[0] = compressed_elements(geometry);
  return view;
}

// Views of one layer's states whose slots lie `stride` bytes apart.
StateView state_view(char* base, int64_t stride, const StateGeometry& state) {
  const int64_t slot_elements = stride / 4;
  StateView view;
  view.conv = dense_view(base, DType::kF32, {state.slots, state.conv_channels, state.conv_width - 1});
  view.conv.strides[0] = slot_elements;
  view.memory = dense_view(base + padded(state.conv_bytes()), DType::kF32,
                           {state.slots, state.value_heads, state.key_dim, state.value_dim});
  view.memory.strides[0] = slot_elements;
  return view;
}

// An estimate in floating point comes before sums in 64 bits: the numbers are a user's.
Status check_sizes(const CacheGeometry& geometry) {
  const KvGeometry& kv = geometry.kv;
  const double page = 1.0 * kv.page_tokens * kv.heads * kv.head_dim * static_cast<double>(size_of(kv.dtype)) +
                      static_cast<double>(2 * Arena::kAlignment);
  const double states = 1.0 * geometry.recurrent_layers * static_cast<double>(state_bytes(geometry.state));
  const bool in_pages = shared(geometry) && geometry.softmax_layers > 0;
  const double slots = in_pages ? 4.0 * kv.num_pages : geometry.state.slots;
  const int64_t most_pages = std::max(kv.num_pages, geometry.compressed_pages);
  if (2.0 * geometry.softmax_layers * static_cast<double>(most_pages) * page + slots * states < 0x1p60)
    return {};
  return error(Code::kResourceExhausted, "cache: ", kv.num_pages, " pages of ", kv.page_tokens,
               " tokens and ", geometry.state.slots,
               " states take more than 2^60 bytes; lower --num-pages, --page-size or --num-state-slots");
}

}  // namespace

Result<int64_t> CacheStorage::footprint(const CacheGeometry& geometry) {
  LS_TRY(check_sizes(geometry));
  const KvGeometry kv = with_shared_pages(geometry);
  int64_t bytes = 0;
  if (geometry.softmax_layers > 0) {
    LS_TRY(check_kv_layout(geometry.layout, kv));
    bytes += geometry.softmax_layers * padded(kv_cache_bytes(geometry.layout, kv)) +
             Arena::footprint(DType::kI32, {geometry.table_rows, geometry.max_pages_per_seq});
  }
  if (geometry.compressed_pages > 0) {
    if (kv.page_tokens % kCoarseWindows.stride != 0) {
      return error(Code::kInvalidArgument, "compressed keys: pages have ", kv.page_tokens,
                   " tokens; expected a multiple of ", kCoarseWindows.stride, "; choose another --page-size");
    }
    bytes += geometry.softmax_layers * padded(compressed_bytes(geometry)) +
             Arena::footprint(DType::kI32, {geometry.table_rows, geometry.max_pages_per_seq});
  }
  if (!shared(geometry) || geometry.softmax_layers == 0) {
    bytes += geometry.recurrent_layers * geometry.state.slots * state_bytes(geometry.state);
  } else if (geometry.recurrent_layers > 0 && geometry.state.slots > kv.num_pages) {
    return error(Code::kInvalidArgument, "kv layout ", geometry.layout, ": ", geometry.state.slots,
                 " state slots; expected at most as many as the ", kv.num_pages,
                 " pages they lie behind; lower --num-state-slots or raise --num-pages");
  }
  return bytes;
}

Result<CacheStorage> CacheStorage::create(const CacheGeometry& geometry, Arena& arena) {
  CacheStorage storage;
  storage.geometry_ = geometry;
  storage.geometry_.kv = with_shared_pages(geometry);
  const KvGeometry& kv = storage.geometry_.kv;
  for (int32_t i = 0; i < geometry.softmax_layers; ++i) {
    const TensorView bytes =
        LS_TRY(arena.allocate("kv cache", DType::kU8, {kv_cache_bytes(geometry.layout, kv)}));
    storage.kv_base_.push_back(bytes.data);
    storage.kv_.push_back(make_kv_view(bytes.data, geometry.layout, kv));
  }
  const int64_t own_bytes = state_bytes(geometry.state);
  for (int32_t i = 0; i < geometry.recurrent_layers; ++i) {
    if (shared(geometry) && geometry.softmax_layers > 0) {
      auto* page = static_cast<char*>(storage.kv_base_[static_cast<size_t>(i % geometry.softmax_layers)]);
      char* base =
          page + padded(kv_page_bytes(geometry.layout, kv)) + i / geometry.softmax_layers * own_bytes;
      storage.states_.push_back(state_view(base, kv.shared_page_bytes, geometry.state));
    } else {
      const TensorView bytes =
          LS_TRY(arena.allocate("recurrent states", DType::kU8, {geometry.state.slots * own_bytes}));
      storage.states_.push_back(state_view(static_cast<char*>(bytes.data), own_bytes, geometry.state));
    }
  }
  if (geometry.softmax_layers > 0) {
    storage.page_table_ =
        LS_TRY(arena.allocate("page table", DType::kI32, {geometry.table_rows, geometry.max_pages_per_seq}));
  }
  if (geometry.compressed_pages == 0) return storage;
  for (int32_t i = 0; i < geometry.softmax_layers; ++i) {
    const TensorView bytes =
        LS_TRY(arena.allocate("compressed keys", DType::kU8, {compressed_bytes(geometry)}));
    storage.compressed_.push_back(compressed_view(static_cast<char*>(bytes.data), geometry));
  }
  storage.compressed_table_ = LS_TRY(arena.allocate("compressed page table", DType::kI32,
                                                    {geometry.table_rows, geometry.max_pages_per_seq}));
  return storage;
}

Status CacheStorage::copy_pages(const Launcher& on, const TensorView& copies,
                                const int32_t* num_copies) const {
  const KvPageRuns runs = kv_page_runs(geometry_.layout, geometry_.kv);
  for (void* base : kv_base_) {
    LS_TRY(lockstep::copy_pages(on,
                                {.copies = copies,
                                 .num_copies = num_copies,
                                 .base = base,
                                 .num_pages = geometry_.kv.num_pages,
                                 .page_stride_bytes = runs.page_stride_bytes,
                                 .segment_stride_bytes = runs.run_stride_bytes,
                                 .segment_bytes = runs.run_bytes,
                                 .segments = runs.runs},
                                "copy_pages"));
  }
  return {};
}

Status CacheStorage::copy_compressed(const Launcher& on, const TensorView& copies,
                                     const int32_t* num_copies) const {
  const int64_t page = compressed_elements(geometry_) * size_of(geometry_.kv.dtype);
  for (const CompressedView& each : compressed_) {
    LS_TRY(lockstep::copy_pages(on,
                                {.copies = copies,
                                 .num_copies = num_copies,
                                 .base = each.k1.data,
                                 .num_pages = geometry_.compressed_pages,
                                 .page_stride_bytes = page,
                                 .segment_stride_bytes = 0,
                                 .segment_bytes = page,
                                 .segments = 1},
                                "copy_compressed"));
  }
  return {};
}

Status CacheStorage::copy_states(const Launcher& on, const TensorView& copies,
                                 const int32_t* num_copies) const {
  for (const StateView& state : states_) {
    LS_TRY(lockstep::copy_pages(on,
                                {.copies = copies,
                                 .num_copies = num_copies,
                                 .base = state.conv.data,
                                 .num_pages = geometry_.state.slots,
                                 .page_stride_bytes = state.conv.stride(0) * 4,
                                 .segment_stride_bytes = 0,
                                 .segment_bytes = state_bytes(geometry_.state),
                                 .segments = 1},
                                "copy_states"));
  }
  return {};
}

}  // namespace lockstep
