// The memory of the caches: pages of keys and values, recurrent states, page tables. Ids come from the plan;
// only the storage knows where they lie.
#pragma once

#include <vector>

#include "device/arena.h"
#include "kernels/kv_cache/kv_cache.h"
#include "kernels/kv_cache/kv_layout.h"

namespace lockstep {

// A recurrent layer's states: a matrix per value head and, where the mixer convolves, the inputs before.
struct StateGeometry {
  int32_t slots = 0;          // N, the reserved pad slot 0 included
  int32_t conv_channels = 0;  // 0: no convolution
  int32_t conv_width = 1;     // W; the state holds W - 1 inputs
  int32_t value_heads = 0;
  int32_t key_dim = 0;
  int32_t value_dim = 0;

  int64_t conv_bytes() const { return int64_t{conv_channels} * (conv_width - 1) * 4; }
  int64_t memory_bytes() const { return int64_t{value_heads} * key_dim * value_dim * 4; }
};

// One layer's states, as ops read them.
struct StateView {
  TensorView conv;    // [N, C, W - 1] f32
  TensorView memory;  // [N, Hv, Dk, Dv] f32
};

// One layer's compressed keys (kernels/compressed_keys), as ops read them.
struct CompressedView {
  TensorView k1;  // [P, K, B / 16, D] of the keys' type
  TensorView k2;  // [P, K, B / 64, D]
};

// What a model needs of cache memory.
struct CacheGeometry {
  KvLayout layout;
  KvGeometry kv;  // of one softmax layer; shared_page_bytes is filled in by the storage
  int32_t softmax_layers = 0;
  StateGeometry state;  // of one recurrent layer
  int32_t recurrent_layers = 0;
  int32_t compressed_pages = 0;   // of compressed keys, of as many tokens as those of keys; 0: none
  int32_t table_rows = 0;         // R, the pad row 0 included
  int32_t max_pages_per_seq = 0;  // M
};

// Thread: one owner. Lives as long as the arena it was made from.
class CacheStorage {
 public:
  // Bytes of arena that `create` takes. Errors: kInvalidArgument for a layout that cannot hold the geometry,
  // a shared pool with fewer pages
  // than state slots, or compressed keys of pages that are no multiple of 64 tokens; kResourceExhausted for
  // more than 2^60 bytes.
  static Result<int64_t> footprint(const CacheGeometry& geometry);
  static Result<CacheStorage> create(const CacheGeometry& geometry, Arena& arena);

  // Keys and values of the i-th softmax layer, states of the i-th recurrent layer.
  const KvView& kv(int32_t layer) const { return kv_[static_cast<size_t>(layer)]; }
  const StateView& state(int32_t layer) const { return states_[static_cast<size_t>(layer)]; }
  const TensorView& page_table() const { return page_table_; }  // [R, M] i32; null without softmax layers
  // Compressed keys of the i-th softmax layer, and the page table of their group.
  const CompressedView& compressed(int32_t layer) const { return compressed_[static_cast<size_t>(layer)]; }
  const TensorView& compressed_table() const { return compressed_table_; }  // [R, M] i32; null without them
  const CacheGeometry& geometry() const { return geometry_; }

  // Runs the copies of one step: whole pages of every softmax layer.
  Status copy_pages(const Launcher& on, const TensorView& copies, const int32_t* num_copies) const;
  // Whole pages of compressed keys of every softmax layer.
  Status copy_compressed(const Launcher& on, const TensorView& copies, const int32_t* num_copies) const;
  // And whole states of every recurrent layer.
  Status copy_states(const Launcher& on, const TensorView& copies, const int32_t* num_copies) const;

 private:
  CacheGeometry geometry_;
  std::vector<KvView> kv_;
  std::vector<void*> kv_base_;  // of each softmax layer's cache
  std::vector<StateView> states_;
  TensorView page_table_;
  std::vector<CompressedView> compressed_;
  TensorView compressed_table_;
};

}  // namespace lockstep
