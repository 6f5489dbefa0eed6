// out[t] = x[t] · Wᵀ.
#pragma once

#include "base/units.h"
#include "kernels/common/launcher.h"
#include "kernels/linear/packed_weight.h"
#include "tensor/op_spec.h"

namespace lockstep {

// How the inputs enter the product. Sums are f32 always.
enum class MatmulInput : uint8_t {
  kF32,   // as they are
  kBF16,  // rounded to bf16 first, once: what bf16 matrix units read
};

struct LinearArgs {
  TensorView x;          // [T, K] f32, any row stride
  PackedWeight weight;   // [N, K]
  TensorView out;        // [T, N] f32, any row stride; must not overlap x
  TensorView workspace;  // u8, at least linear_workspace_bytes(T, K); may be shared by successive calls
  const LiveRows* num_rows = nullptr;  // rows of x that belong to a sequence; the rest of out becomes zero
  MatmulInput input = MatmulInput::kF32;
};

inline constexpr OpArg kLinearPrepareArgs[] = {
    {LS_ARG(LinearArgs, x), .access = Access::kRead, .dims = "TK", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(LinearArgs, weight), .access = Access::kNone, .dims = "NK", .rows = RowsTouched::kNone},
    {LS_ARG(LinearArgs, out), .access = Access::kNone, .dims = "TN", .any_stride = true},
    {LS_ARG(LinearArgs, workspace), .access = Access::kWrite, .dims = "W", .rows = RowsTouched::kNone},
    {LS_ARG(LinearArgs, num_rows), .rows = RowsTouched::kNone},
    {LS_ARG(LinearArgs, input), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kLinearPrepareSpec{.name = "linear_prepare",
                                           .args = kLinearPrepareArgs,
                                           .args_bytes = sizeof(LinearArgs),
                                           .workspace = "T * round_up(K, 32) * 4"};

inline constexpr OpArg kLinearArgs[] = {
    {LS_ARG(LinearArgs, x), .access = Access::kRead, .dims = "TK", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(LinearArgs, weight), .access = Access::kRead, .dims = "NK", .rows = RowsTouched::kNone},
    {LS_ARG(LinearArgs, out), .access = Access::kWrite, .dims = "TN", .any_stride = true},
    {LS_ARG(LinearArgs, workspace), .access = Access::kRead, .dims = "W", .rows = RowsTouched::kNone},
    {LS_ARG(LinearArgs, num_rows), .rows = RowsTouched::kNone},
    {LS_ARG(LinearArgs, input), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kLinearSpec{.name = "linear",
                                    .args = kLinearArgs,
                                    .args_bytes = sizeof(LinearArgs),
                                    .workspace = "T * round_up(K, 32) * 4"};

// Bytes of workspace for T rows of K inputs.
int64_t linear_workspace_bytes(int64_t rows, int64_t inputs);

// Identity: a row's sums run over k in ascending order in one f32 chain per output, whatever T is, so a row's
//          result does not depend on its batch. AVX2 and AVX-512 give the same bits (fused multiply-adds);
//          AVX512-BF16 adds two products at a time and takes subnormal numbers for zero, as the instruction
//          does; the reference sums in f64. On a device, without batch_invariant_table(), sums of bf16 follow
//          from the number of rows.
// Dtypes:  x, out f32; weight f32, f16, bf16. MatmulInput::kBF16 only with bf16 weights.
// Errors:  kInvalidArgument for shapes, dtypes or a workspace that do not fit; kUnimplemented without a
//          kernel.
// Cost:    one launch for few inputs, else two; no allocation. Reads N*K weights once per call for T <= 12.
//          Fast for kPanel32 only: every table computes kRowMajor weights with the reference kernel.
// Source:  GEMM by panels: Goto & van de Geijn 2008, Anatomy of High-Performance Matrix Multiplication.
Status linear(const Launcher& on, const LinearArgs& args, std::string_view stage);

// Copies one [n, k] matrix (row-major, `source` dtype) into matrix `expert` of `target`, from output row
// `row` on, converting the element type (round to nearest even) and laying out as target.layout says. Rows
// past target.n and columns past target.k of the padding are zeroed when the last row is written. Load time
// only; single thread.
void pack_rows(const TensorView& source, const PackedWeight& target, int64_t expert, int64_t row);

}  // namespace lockstep
