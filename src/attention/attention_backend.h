// How attention is computed on one device. prepare() once per step, run() once per layer.
#pragma once

#include <string_view>

#include "attention/storage.h"
#include "contract/binder.h"
#include "kernels/common/launcher.h"

namespace lockstep {

// What one step's attention reads of the plan, as device views. The same for all layers of a group.
struct AttentionLaunch {
  TensorView slot_mapping;     // [T]
  TensorView table_rows;       // [S]
  TensorView query_start_loc;  // [S + 1]
  TensorView seq_lens;         // [S]
  const LiveRows* num_rows = nullptr;
  const LiveSeqs* num_seqs = nullptr;
};

// One layer's tensors; all rows of the bucket.
struct AttentionTensors {
  TensorView q;          // [T, H, D] f32, any stride of T and H
  TensorView k;          // [T, K, D] f32, any stride of T and K
  TensorView v;          // [T, K, D] f32, any stride of T and K
  TensorView out;        // [T, H, D] f32
  TensorView workspace;  // u8, at least workspace_bytes()
  float scale = 1.0f;
};

class AttentionBackend {
 public:
  virtual ~AttentionBackend() = default;
  virtual std::string_view name() const = 0;
  // Bytes of workspace for one layer.
  virtual int64_t workspace_bytes(int threads, int32_t heads, int32_t kv_heads, int32_t head_dim) const = 0;
  // Pure: reads the plan through the binder, for cache group `group`.
  virtual Result<AttentionLaunch> prepare(const Binder& binder, GroupId group) const = 0;
  // Stores k and v at their slots, then attends. `layer` counts softmax layers.
  virtual Status run(const AttentionLaunch& launch, const AttentionTensors& tensors, int32_t layer,
                     const Launcher& on) const = 0;
};

// How recurrent mixers are computed on one device; as AttentionBackend.
struct RecurrentLaunch {
  TensorView query_start_loc;    // [S + 1]
  TensorView state_read_slot;    // [S]
  TensorView state_write_slots;  // [T]
  TensorView has_initial_state;  // [S]
  const LiveRows* num_rows = nullptr;
  const LiveSeqs* num_seqs = nullptr;
};

struct RecurrentTensors {
  TensorView qkv;        // [T, C] f32, any row stride: raw inputs q | k | v
  TensorView b;          // [T, Hv] f32, any row stride
  TensorView a;          // [T, Hv] f32, any row stride
  TensorView conv;       // [C, W] f32
  TensorView a_log;      // [Hv]
  TensorView dt_bias;    // [Hv]
  TensorView mixed;      // [T, C] f32, scratch: the convolution's output
  TensorView out;        // [T, Hv, Dv] f32
  TensorView workspace;  // u8, at least workspace_bytes()
};

class RecurrentBackend {
 public:
  virtual ~RecurrentBackend() = default;
  virtual std::string_view name() const = 0;
  virtual int64_t workspace_bytes(int threads, int32_t key_dim, int32_t value_dim) const = 0;
  virtual Result<RecurrentLaunch> prepare(const Binder& binder) const = 0;
  // Convolves, then runs the delta rule, states in and out. `layer` counts delta layers.
  virtual Status run(const RecurrentLaunch& launch, const RecurrentTensors& tensors, int32_t layer,
                     const Launcher& on) const = 0;
};

}  // namespace lockstep
