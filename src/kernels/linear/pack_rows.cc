#include "kernels/linear/linear.h"

namespace lockstep {
namespace {

template <typename From, typename To>
To converted(From value) {
  if constexpr (std::is_same_v<From, To>) {
    return value;  // bits, NaN payloads included
  } else {
    return To(static_cast<float>(value));
  }
}

// Elements from one column group of a matrix row to the next.
int64_t group_step(const PackedWeight& target, int64_t group) {
  return target.layout == WeightLayout::kRowMajor ? group : kPanelColumns * group;
}

template <typename From, typename To>
void pack_row(const From* source, const PackedWeight& target, To* out) {
  constexpr int64_t kGroup = 4 / static_cast<int64_t>(sizeof(To));
  const int64_t step = group_step(target, kGroup);
  const int64_t full = target.k / kGroup;
  for (int64_t g = 0; g < full; ++g) {
    for (int64_t i = 0; i < kGroup; ++i) out[g * step + i] = converted<From, To>(source[g * kGroup + i]);
  }
  const int64_t rest = target.k - full * kGroup;
  for (int64_t i = 0; i < rest; ++i) out[full * step + i] = converted<From, To>(source[full * kGroup + i]);
  if (rest == 0 || target.layout == WeightLayout::kRowMajor) return;
  for (int64_t i = rest; i < kGroup; ++i) out[full * step + i] = To(0.0f);
}

template <typename To>
void zero_row(const PackedWeight& target, To* out) {
  constexpr int64_t kGroup = 4 / static_cast<int64_t>(sizeof(To));
  for (int64_t g = 0; g < ceil_div(target.k, kGroup); ++g) {
    for (int64_t i = 0; i < kGroup; ++i) out[g * kPanelColumns * kGroup + i] = To(0.0f);
  }
}

template <typename From, typename To>
void pack(const TensorView& source, const PackedWeight& target, int64_t expert, int64_t row) {
  To* matrix = static_cast<To*>(target.data) + expert * target.expert_stride;
  const int64_t rows = source.dim(0);
  for (int64_t r = 0; r < rows; ++r) {
    pack_row(source.as<const From>() + r * source.stride(0), target,
             matrix + packed_offset(target, row + r, 0));
  }
  if (row + rows < target.n || target.layout == WeightLayout::kRowMajor) return;
  for (int64_t r = target.n; r < round_up(target.n, kPanelColumns); ++r) {
    zero_row(target, matrix + packed_offset(target, r, 0));
  }
}

}  // namespace

void pack_rows(const TensorView& source, const PackedWeight& target, int64_t expert, int64_t row) {
  LS_CHECK(source.shape.rank == 2 && source.dim(1) == target.k, source.shape, " into k ", target.k);
  LS_CHECK(row >= 0 && row + source.dim(0) <= target.n, "rows ", row, "+", source.dim(0), " of ", target.n);
  LS_CHECK(expert >= 0 && expert < target.experts, "expert ", expert, " of ", target.experts);
  LS_CHECK(is_float_weight(source.dtype) && is_float_weight(target.dtype), source.dtype, " to ",
           target.dtype);
  LS_CHECK(source.dim(1) <= 1 || source.stride(1) == 1, "stride ", source.stride(1));
  with_float_type(source.dtype, [&]<typename From>() {
    with_float_type(target.dtype, [&]<typename To>() { pack<From, To>(source, target, expert, row); });
  });
}

}  // namespace lockstep
