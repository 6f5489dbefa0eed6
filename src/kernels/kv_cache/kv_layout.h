// Layouts of a paged key/value cache as data: three axes, a canonical id, and the one place where strides and
// sizes come from. Storage, copies and tests all ask here.
#pragma once

#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "kernels/kv_cache/kv_view.h"

namespace lockstep {

enum class KvPlanes : uint8_t {
  kApart,       // a pool of keys, then a pool of values
  kInterleaved  // a page holds its keys, then its values
};

// How one plane of one page lies, outermost first.
enum class KvOrder : uint8_t {
  kTokenMajor,  // [B, K, D]
  kHeadMajor,   // [K, B, D]
  kShuffled     // [K, D / chunk, B, chunk]
};

enum class KvPool : uint8_t {
  kOwn,    // page follows page without a gap
  kShared  // pages lie further apart than they need, because other things (recurrent states) have their size
};

struct KvLayout {
  KvPlanes planes = KvPlanes::kApart;
  KvOrder order = KvOrder::kTokenMajor;
  int32_t chunk = 0;  // kShuffled: 4, 8 or 16 elements that stay together; else 0
  KvPool pool = KvPool::kOwn;
  bool operator==(const KvLayout&) const = default;
};

// "apart/token", "interleaved/head", "apart/shuffled8", "interleaved/token/shared".
std::string id_of(const KvLayout& layout);
inline std::ostream& operator<<(std::ostream& out, const KvLayout& layout) { return out << id_of(layout); }

// The layout of an id. Errors: kInvalidArgument, naming the id and what ids look like.
Result<KvLayout> parse_kv_layout(std::string_view id);

// Every layout there is, each once: what tests and conformance walk.
std::vector<KvLayout> all_kv_layouts();

// The cache of one layer.
struct KvGeometry {
  DType dtype = DType::kF32;  // f32, f16, bf16
  int32_t num_pages = 0;      // P, the reserved pad page 0 included
  int32_t page_tokens = 0;    // B
  int32_t heads = 0;          // K
  int32_t head_dim = 0;       // D
  // kShared: bytes from one page to the next, at least kv_page_bytes, a multiple of the element. kOwn: 0.
  int64_t shared_page_bytes = 0;
};

// Whether the layout can hold the geometry.
// Errors: kInvalidArgument for a dtype, an extent < 1, a head size that is no multiple of the chunk, or a
// shared page that is too small, no multiple of the element, or given for an own pool.
Status check_kv_layout(const KvLayout& layout, const KvGeometry& geometry);

// The functions below need a geometry that check_kv_layout accepts.

// Bytes that the contents of one page take in one pool: both planes when interleaved, one plane when apart.
int64_t kv_page_bytes(const KvLayout& layout, const KvGeometry& geometry);

// Bytes of one layer's cache: all pages of all its pools, gaps included. A multiple of the element only;
// whoever places layers one after another rounds up.
int64_t kv_cache_bytes(const KvLayout& layout, const KvGeometry& geometry);

// The cache that begins at `base`.
KvView make_kv_view(void* base, const KvLayout& layout, const KvGeometry& geometry);

// What one page of a layer is made of, for copies of whole pages: `runs` runs of `run_bytes`, of page p at
// base + p * page_stride_bytes + i * run_stride_bytes. Gaps belong to no run.
struct KvPageRuns {
  int64_t page_stride_bytes = 0;
  int64_t run_stride_bytes = 0;
  int64_t run_bytes = 0;
  int64_t runs = 0;
};
KvPageRuns kv_page_runs(const KvLayout& layout, const KvGeometry& geometry);

}  // namespace lockstep
