#include "kernels/kv_cache/kv_layout.h"

namespace lockstep {
namespace {

constexpr int32_t kChunks[] = {4, 8, 16};

int64_t plane_elements(const KvGeometry& geometry) {
  return int64_t{geometry.page_tokens} * geometry.heads * geometry.head_dim;
}

int64_t page_stride_bytes(const KvLayout& layout, const KvGeometry& geometry) {
  return layout.pool == KvPool::kShared ? geometry.shared_page_bytes : kv_page_bytes(layout, geometry);
}

// Keys and values of a page lie alike; only where they begin differs.
KvPlane plane_at(void* data, const KvLayout& layout, const KvGeometry& geometry) {
  const int64_t tokens = geometry.page_tokens, heads = geometry.heads, width = geometry.head_dim;
  KvPlane plane{.data = data, .chunk_stride = width, .chunk = geometry.head_dim};
  plane.page_stride = page_stride_bytes(layout, geometry) / size_of(geometry.dtype);
  switch (layout.order) {
    case KvOrder::kTokenMajor:
      plane.token_stride = heads * width;
      plane.head_stride = width;
      break;
    case KvOrder::kHeadMajor:
      plane.head_stride = tokens * width;
      plane.token_stride = width;
      break;
    case KvOrder::kShuffled:
      plane.head_stride = tokens * width;
      plane.token_stride = layout.chunk;
      plane.chunk_stride = tokens * layout.chunk;
      plane.chunk = layout.chunk;
      break;
  }
  return plane;
}

Status check_shared_page(const KvLayout& layout, const KvGeometry& geometry) {
  const int64_t given = geometry.shared_page_bytes;
  if (layout.pool == KvPool::kOwn) {
    if (given == 0) return {};
    return error(Code::kInvalidArgument, "kv layout ", layout, ": shared_page_bytes is ", given,
                 "; expected 0 in an own pool");
  }
  const int64_t least = kv_page_bytes(layout, geometry);
  if (given < least) {
    return error(Code::kInvalidArgument, "kv layout ", layout, ": shared_page_bytes is ", given,
                 "; expected at least ", least, ", the bytes of one page");
  }
  if (given % size_of(geometry.dtype) != 0) {
    return error(Code::kInvalidArgument, "kv layout ", layout, ": shared_page_bytes is ", given,
                 "; expected a multiple of ", size_of(geometry.dtype), ", the bytes of one ", geometry.dtype);
  }
  return {};
}

}  // namespace

std::string id_of(const KvLayout& layout) {
  std::string id = layout.planes == KvPlanes::kApart ? "apart/" : "interleaved/";
  switch (layout.order) {
    case KvOrder::kTokenMajor: id += "token"; break;
    case KvOrder::kHeadMajor: id += "head"; break;
    case KvOrder::kShuffled: id += "shuffled" + std::to_string(layout.chunk); break;
  }
  return layout.pool == KvPool::kShared ? id + "/shared" : id;
}

std::vector<KvLayout> all_kv_layouts() {
  std::vector<KvLayout> layouts;
  for (const KvPool pool : {KvPool::kOwn, KvPool::kShared}) {
    for (const KvPlanes planes : {KvPlanes::kApart, KvPlanes::kInterleaved}) {
      layouts.push_back({planes, KvOrder::kTokenMajor, 0, pool});
      layouts.push_back({planes, KvOrder::kHeadMajor, 0, pool});
      for (const int32_t chunk : kChunks) layouts.push_back({planes, KvOrder::kShuffled, chunk, pool});
    }
  }
  return layouts;
}

Result<KvLayout> parse_kv_layout(std::string_view id) {
  for (const KvLayout& layout : all_kv_layouts()) {
    if (id_of(layout) == id) return layout;
  }
  return error(Code::kInvalidArgument, "kv layout: given \"", id,
               "\"; expected apart or interleaved, /token, /head, /shuffled4, /shuffled8 or /shuffled16, and "
               "/shared for a padded pool, as in apart/token");
}

Status check_kv_layout(const KvLayout& layout, const KvGeometry& geometry) {
  if (!is_float_weight(geometry.dtype)) {
    return error(Code::kInvalidArgument, "kv layout ", layout, ": dtype is ", geometry.dtype,
                 "; expected f32, f16 or bf16");
  }
  if (geometry.num_pages < 1 || geometry.page_tokens < 1 || geometry.heads < 1 || geometry.head_dim < 1) {
    return error(Code::kInvalidArgument, "kv layout ", layout, ": ", geometry.num_pages, " pages of ",
                 geometry.page_tokens, " tokens, ", geometry.heads, " heads of ", geometry.head_dim,
                 "; expected at least 1 of each");
  }
  if (layout.order == KvOrder::kShuffled && (layout.chunk < 1 || geometry.head_dim % layout.chunk != 0)) {
    return error(Code::kInvalidArgument, "kv layout ", layout, ": head size is ", geometry.head_dim,
                 "; expected a multiple of the chunk");
  }
  return check_shared_page(layout, geometry);
}

int64_t kv_page_bytes(const KvLayout& layout, const KvGeometry& geometry) {
  const int64_t planes = layout.planes == KvPlanes::kInterleaved ? 2 : 1;
  return planes * plane_elements(geometry) * size_of(geometry.dtype);
}

int64_t kv_cache_bytes(const KvLayout& layout, const KvGeometry& geometry) {
  const int64_t pools = layout.planes == KvPlanes::kApart ? 2 : 1;
  return pools * geometry.num_pages * page_stride_bytes(layout, geometry);
}

KvView make_kv_view(void* base, const KvLayout& layout, const KvGeometry& geometry) {
  const int64_t to_values = layout.planes == KvPlanes::kApart
                                ? geometry.num_pages * page_stride_bytes(layout, geometry)
                                : plane_elements(geometry) * size_of(geometry.dtype);
  return {.k = plane_at(base, layout, geometry),
          .v = plane_at(static_cast<char*>(base) + to_values, layout, geometry),
          .dtype = geometry.dtype,
          .num_pages = geometry.num_pages,
          .page_tokens = geometry.page_tokens,
          .heads = geometry.heads,
          .head_dim = geometry.head_dim};
}

KvPageRuns kv_page_runs(const KvLayout& layout, const KvGeometry& geometry) {
  const bool apart = layout.planes == KvPlanes::kApart;
  const int64_t stride = page_stride_bytes(layout, geometry);
  return {.page_stride_bytes = stride,
          .run_stride_bytes = apart ? geometry.num_pages * stride : 0,
          .run_bytes = kv_page_bytes(layout, geometry),
          .runs = apart ? 2 : 1};
}

}  // namespace lockstep
