// A weight matrix as the kernels read it.
#pragma once

#include <cstdint>
#include <type_traits>

#include "base/math.h"
#include "tensor/op_spec.h"
#include "tensor/tensor.h"

namespace lockstep {

enum class WeightLayout : int64_t {
  kRowMajor,  // [X][N][K]: as in a checkpoint
  // Panels of 32 output columns: [X][ceil(N/32)][ceil(K/G)][32][G] with G = 4 / element bytes (1 for f32, 2
  // for the half types), zero padded in N and K. A line of 128 bytes holds 32 columns of G consecutive k, so
  // two loads feed two multiply-adds of 16 lanes, and every output sums over k in ascending order however
  // many rows there are. A panel is one sequential stream: on Zen 4, where four streams of 16 columns bring a
  // core 25 to 32 GB/s from memory, this brings 30 to 35.
  kPanel32,
};

inline constexpr int64_t kPanelColumns = 32;

// X matrices of [N, K], one after another. X = 1 for an ordinary weight. Trivially copyable, without padding:
// launches are compared byte for byte, and so the layout is 64 bits wide.
struct PackedWeight {
  void* data = nullptr;
  DType dtype = DType::kBF16;  // f32, f16 or bf16
  WeightLayout layout = WeightLayout::kRowMajor;
  int64_t experts = 1;
  int64_t n = 0;              // outputs
  int64_t k = 0;              // inputs
  int64_t expert_stride = 0;  // elements from one matrix to the next

  explicit operator bool() const { return data != nullptr; }
};
static_assert(std::has_unique_object_representations_v<PackedWeight>);

template <>
struct ArgKindOf<PackedWeight> {
  static constexpr ArgKind value = ArgKind::kWeight;
  static constexpr int32_t second_address = 0;
};

// Elements of G consecutive k in a panel line.
inline int64_t panel_group(DType dtype) { return 4 / size_of(dtype); }

// Elements that one [n, k] matrix takes in `layout`.
inline int64_t packed_elements(DType dtype, WeightLayout layout, int64_t n, int64_t k) {
  if (layout == WeightLayout::kRowMajor) return n * k;
  return round_up(n, kPanelColumns) * round_up(k, panel_group(dtype));
}

// Where element (row, col) of a matrix lies, in elements from its beginning. For oracles, embedding and
// packing.
inline int64_t packed_offset(const PackedWeight& weight, int64_t row, int64_t col) {
  if (weight.layout == WeightLayout::kRowMajor) return row * weight.k + col;
  const int64_t group = panel_group(weight.dtype);
  const int64_t groups = ceil_div(weight.k, group);
  return ((row / kPanelColumns * groups + col / group) * kPanelColumns + row % kPanelColumns) * group +
         col % group;
}

}  // namespace lockstep
