// Where elements of a weight matrix lie, on the device.
#pragma once

#include "kernels/linear/packed_weight.h"

namespace lockstep::cuda {

// packed_offset(), of elements of type W.
template <typename W>
__device__ inline int64_t offset_in(const PackedWeight& weight, int64_t row, int64_t col) {
  if (weight.layout == WeightLayout::kRowMajor) return row * weight.k + col;
  constexpr int64_t kGroup = 4 / static_cast<int64_t>(sizeof(W));
  const int64_t groups = (weight.k + kGroup - 1) / kGroup;
  return ((row / kPanelColumns * groups + col / kGroup) * kPanelColumns + row % kPanelColumns) * kGroup +
         col % kGroup;
}

}  // namespace lockstep::cuda
