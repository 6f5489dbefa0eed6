// How attention is computed on one device. prepare() once per step, run() once per layer.
#pragma once

#include <string_view>
#include <variant>

#include "attention/storage.h"
#include "contract/binder.h"
#include "contract/prepared_step.h"
#include "kernels/common/launcher.h"
#include "kernels/linear/linear.h"

namespace lockstep {

// One layer's tensors; all rows of the bucket.
struct AttentionTensors {
  TensorView q;          // [T, H, D] f32, any stride of T and H
  TensorView k;          // [T, K, D] f32, any stride of T and K
  TensorView v;          // [T, K, D] f32, any stride of T and K
  TensorView out;        // [T, H, D] f32
  TensorView workspace;  // u8, at least workspace_bytes()
  float scale = 1.0f;
  MatmulInput input = MatmulInput::kF32;  // how q may enter its products
};

class AttentionBackend {
 public:
  virtual ~AttentionBackend() = default;
  // What it reads of the plan; its name is the backend's.
  virtual const ConsumerSpec& spec() const = 0;
  // Bytes of workspace for one layer.
  virtual int64_t workspace_bytes(int threads, int32_t heads, int32_t kv_heads, int32_t head_dim) const = 0;
  // Pure: reads the plan through the binder, for cache group `group`, and adds its launch to `step`.
  virtual Status prepare(const Binder& binder, GroupId group, PreparedStep& step) const = 0;
  // Stores k and v at their slots, then attends, with what it prepared for `group`. `layer` counts softmax
  // layers. Errors: kInternal (L2) when the step was prepared by another backend.
  virtual Status run(const PreparedStep& step, GroupId group, const AttentionTensors& tensors, int32_t layer,
                     const Launcher& on) const = 0;
};

// A Gated DeltaNet layer's tensors, as AttentionTensors.
struct DeltaTensors {
  TensorView qkv;                         // [T, C] f32, any row stride: raw inputs q | k | v
  TensorView b;                           // [T, Hv] f32, any row stride
  TensorView a;                           // [T, Hv] f32, any row stride
  TensorView conv;                        // [C, W] f32
  TensorView a_log;                       // [Hv]
  TensorView dt_bias;                     // [Hv]
  TensorView mixed;                       // [T, C] f32, scratch: the convolution's output
  TensorView out;                         // [T, Hv, Dv] f32
  TensorView workspace;                   // u8, at least workspace_bytes()
  MatmulInput input = MatmulInput::kF32;  // how numbers may enter products
};

// A lightning layer's.
struct LightningTensors {
  TensorView q;                           // [T, H, D] f32, any stride of T and H
  TensorView k;                           // [T, K, D] f32, any stride of T and K
  TensorView v;                           // [T, K, D] f32, any stride of T and K
  TensorView decay;                       // [H] f32: what a row leaves of the state
  TensorView out;                         // [T, H, D] f32
  TensorView workspace;                   // u8, at least workspace_bytes()
  float scale = 1.0f;                     // of the queries
  MatmulInput input = MatmulInput::kF32;  // how numbers may enter products
};

// What a recurrent layer brings, by its kind.
using RecurrentTensors = std::variant<DeltaTensors, LightningTensors>;

// What a recurrent layer's workspace depends on.
struct RecurrentSize {
  int threads = 1;
  int64_t device_rows = 0;  // of a step, where ops launch on a device; 0: they do not
  int32_t key_heads = 0;
  int32_t heads = 0;  // of states
  int32_t key_dim = 0;
  int32_t value_dim = 0;
};

// How one kind of recurrent mixer is computed on one device; as AttentionBackend.
class RecurrentBackend {
 public:
  virtual ~RecurrentBackend() = default;
  virtual const ConsumerSpec& spec() const = 0;
  virtual int64_t workspace_bytes(const RecurrentSize& size) const = 0;
  virtual Status prepare(const Binder& binder, PreparedStep& step) const = 0;
  // Runs the layer's recurrence, states in and out. `layer` counts recurrent layers.
  // Errors: kInternal (L2) when the step was prepared by another backend; kInvalidArgument for a layer of
  // another kind.
  virtual Status run(const PreparedStep& step, const RecurrentTensors& tensors, int32_t layer,
                     const Launcher& on) const = 0;
};

// The refusal of a recurrent layer of a kind that `backend` does not compute.
inline Status another_kind(const ConsumerSpec& backend) {
  return error(Code::kInvalidArgument, backend.name, ": a recurrent layer of another kind; expected one of ",
               backend.name, ", the backend that this model was given");
}

}  // namespace lockstep
