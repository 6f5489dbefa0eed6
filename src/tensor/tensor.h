// Views of memory with a shape. A view never owns; memory comes from device::Arena, from a mapped file, or
// (in tests) from the caller.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <span>
#include <string_view>

#include "base/check.h"
#include "base/status.h"
#include "tensor/dtype.h"

namespace lockstep {

inline constexpr int kMaxRank = 6;

// Extents of up to kMaxRank dimensions, outermost first.
struct Shape {
  int64_t rank = 0;
  std::array<int64_t, kMaxRank> dims{};

  constexpr Shape() = default;
  constexpr Shape(std::initializer_list<int64_t> extents) {
    for (int64_t extent : extents) dims[static_cast<size_t>(rank++)] = extent;
  }
  explicit Shape(std::span<const int64_t> extents) {
    LS_CHECK(extents.size() <= kMaxRank, "rank ", extents.size());
    for (int64_t extent : extents) dims[static_cast<size_t>(rank++)] = extent;
  }
  constexpr int64_t operator[](int64_t i) const { return dims[static_cast<size_t>(i)]; }
  constexpr int64_t elements() const {
    int64_t count = 1;
    for (int64_t i = 0; i < rank; ++i) count *= dims[static_cast<size_t>(i)];
    return count;
  }
  bool operator==(const Shape&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Shape& shape);  // "[7, 4]"

// Untyped view: where, of what, how far apart. Trivially copyable, so kernel Args hold it by value.
struct TensorView {
  void* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;
  std::array<int64_t, kMaxRank> strides{};  // in elements, 64 bit, outermost first

  // Elements of type T. Precondition: the dtype is T's.
  template <typename T>
  T* as() const {
    LS_DCHECK(DTypeOf<std::remove_const_t<T>>::value == dtype, "view is ", dtype);
    return static_cast<T*>(data);
  }
  int64_t dim(int64_t i) const { return shape[i]; }
  int64_t stride(int64_t i) const { return strides[static_cast<size_t>(i)]; }
  int64_t elements() const { return shape.elements(); }
  int64_t bytes() const { return elements() * size_of(dtype); }
  explicit operator bool() const { return data != nullptr; }
  bool is_contiguous() const;

  // Rows [begin, begin + count) of the outermost dimension.
  TensorView rows(int64_t begin, int64_t count) const;
  // Columns [begin, begin + count) of the innermost dimension; keeps the strides.
  TensorView columns(int64_t begin, int64_t count) const;
  // Columns of [T, N] rows seen as heads, [T, count, dim]: head h begins at column begin + h * step.
  TensorView heads(int64_t begin, int64_t count, int64_t dim, int64_t step) const;
  // The same contiguous elements under another shape.
  TensorView reshaped(const Shape& other) const;
};

// No padding: what a step prepared is compared with what a graph captured byte for byte.
static_assert(std::is_trivially_copyable_v<TensorView> &&
              std::has_unique_object_representations_v<TensorView>);

// Strides of a dense row-major tensor.
std::array<int64_t, kMaxRank> dense_strides(const Shape& shape);

// A dense row-major view of `data`.
TensorView dense_view(void* data, DType dtype, const Shape& shape);

// A dense view of a container's elements (tests, host tables).
template <typename Container>
TensorView view(Container& values, const Shape& shape) {
  using T = std::remove_const_t<std::remove_reference_t<decltype(*values.data())>>;
  LS_CHECK(static_cast<int64_t>(values.size()) >= shape.elements(), "container of ", values.size());
  return dense_view(const_cast<T*>(values.data()), DTypeOf<T>::value, shape);
}

// One tensor of a shape contract: `dims` names each dimension with a letter; equal letters must have equal
// extents across all tensors of the call. An absent tensor (null data) is skipped.
struct DimBinding {
  std::string_view name;
  const TensorView& view;
  std::string_view dims;
};

// Holds the tensors of one call to their letters.
// Errors: kInvalidArgument, "rms_norm: weight has shape [3]; expected E = 4 as in x [7, 4]".
Status bind_dims(std::string_view op, std::initializer_list<DimBinding> tensors);

}  // namespace lockstep
