// What a step must move and multiply at least, by op: the roofline that benchmarks are held against. Counted:
// weights, keys, values, recurrent states. Not counted: activations, which may stay in caches, and the
// arithmetic of norms, rotations and activation functions, which the products hide.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "device/roofs.h"
#include "model/model.h"
#include "plan/step_plan.h"

namespace lockstep {

// One sequence of a step.
struct SequenceShape {
  int64_t rows = 0;    // of this step
  int64_t length = 0;  // tokens it may look at, this step's included
};

struct StepShape {
  std::vector<SequenceShape> sequences;
  int64_t logits_rows = 0;

  int64_t rows() const;
};

// The live sequences of a plan.
StepShape shape_of(const StepPlan& plan);

// The least that one op at one place needs, summed over all layers that have it. `op` and `stage` are those
// of its launches.
struct OpCost {
  std::string_view op;
  std::string_view stage;
  double read = 0;       // bytes
  double written = 0;    // bytes
  double flop = 0;       // a multiply-add counts two
  bool weights = false;  // `read` is weights
  bool bf16 = false;     // multiplies at the bf16 rate; otherwise at that of f32
};

// Formulas, with rows T, sequence lengths L, element sizes w (weights) and c (cache):
//   a product [N, K]      reads N K w; 2 T N K
//   experts               reads the expected number X (1 - (1 - k/X)^T) of distinct ones among X under even
//                         routing: real routing is skewed, so this bounds the bytes from above; 2 T k N K
//   softmax attention     reads 2 L K D c per sequence; 4 H D per row and visible token
//   gated delta rule      reads a state unless the sequence begins here, writes one; 6 Hv Dk Dv per row
//   short convolution     the same with its state; 2 C W per row
// Ops without weights and states are left out.
std::vector<OpCost> step_costs(const Model& model, const StepShape& shape);

// How long a step would take at the roofs: per op the larger of memory time and arithmetic time. What is
// written together with what is read counts at the copy rate, all else at the read rate.
struct RoofTime {
  double read_s = 0;  // of ops that the read rate bounds
  double copy_s = 0;
  double flop_s = 0;

  double seconds() const { return read_s + copy_s + flop_s; }
  std::string_view binds() const;  // "read", "copy" or "flop": which takes longest
  RoofTime& operator+=(const RoofTime& other);
};
RoofTime roof_time(const OpCost& cost, const Roofs& roofs);
RoofTime roof_time(std::span<const OpCost> costs, const Roofs& roofs);

}  // namespace lockstep
