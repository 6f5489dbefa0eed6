#include "tensor/tensor.h"

namespace lockstep {

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  out << "[";
  for (int64_t i = 0; i < shape.rank; ++i) out << (i > 0 ? ", " : "") << shape[i];
  return out << "]";
}

std::array<int64_t, kMaxRank> dense_strides(const Shape& shape) {
  std::array<int64_t, kMaxRank> strides{};
  int64_t step = 1;
  for (int64_t i = shape.rank - 1; i >= 0; --i) {
    strides[static_cast<size_t>(i)] = step;
    step *= shape[i];
  }
  return strides;
}

TensorView dense_view(void* data, DType dtype, const Shape& shape) {
  return {.data = data, .dtype = dtype, .shape = shape, .strides = dense_strides(shape)};
}

bool TensorView::is_contiguous() const {
  int64_t step = 1;
  for (int64_t i = shape.rank - 1; i >= 0; --i) {
    if (shape[i] != 1 && stride(i) != step) return false;
    step *= shape[i];
  }
  return true;
}

TensorView TensorView::rows(int64_t begin, int64_t count) const {
  LS_CHECK(begin >= 0 && count >= 0 && begin + count <= shape[0], "rows ", begin, "+", count, " of ", shape);
  TensorView part = *this;
  part.data = static_cast<char*>(data) + begin * stride(0) * size_of(dtype);
  part.shape.dims[0] = count;
  return part;
}

TensorView TensorView::columns(int64_t begin, int64_t count) const {
  const int64_t last = shape.rank - 1;
  LS_CHECK(begin >= 0 && count >= 0 && begin + count <= shape[last], "columns ", begin, "+", count, " of ",
           shape);
  TensorView part = *this;
  part.data = static_cast<char*>(data) + begin * stride(last) * size_of(dtype);
  part.shape.dims[static_cast<size_t>(last)] = count;
  return part;
}

TensorView TensorView::heads(int64_t begin, int64_t count, int64_t dim, int64_t step) const {
  LS_CHECK(shape.rank == 2 && begin >= 0 && count >= 0 && begin + (count - 1) * step + dim <= shape[1], count,
           " heads of ", dim, " in ", shape);
  TensorView part = *this;
  part.data = static_cast<char*>(data) + begin * stride(1) * size_of(dtype);
  part.shape = {shape[0], count, dim};
  part.strides = {stride(0), step * stride(1), stride(1)};
  return part;
}

TensorView TensorView::reshaped(const Shape& other) const {
  LS_CHECK(is_contiguous() && other.elements() == elements(), shape, " as ", other);
  return dense_view(data, dtype, other);
}

Status bind_dims(std::string_view op, std::initializer_list<DimBinding> tensors) {
  struct Known {
    int64_t extent = -1;
    const DimBinding* source = nullptr;
  };
  std::array<Known, 128> known{};
  for (const DimBinding& tensor : tensors) {
    if (!tensor.view) continue;
    if (tensor.view.shape.rank != static_cast<int32_t>(tensor.dims.size())) {
      return error(Code::kInvalidArgument, op, ": ", tensor.name, " has shape ", tensor.view.shape,
                   "; expected ", tensor.dims.size(), " dimensions ", tensor.dims);
    }
    for (int64_t i = 0; i < tensor.view.shape.rank; ++i) {
      Known& letter = known[static_cast<size_t>(tensor.dims[static_cast<size_t>(i)]) & 127u];
      if (letter.source == nullptr) {
        letter = {tensor.view.shape[i], &tensor};
      } else if (letter.extent != tensor.view.shape[i]) {
        return error(Code::kInvalidArgument, op, ": ", tensor.name, " has shape ", tensor.view.shape,
                     "; expected ", tensor.dims[static_cast<size_t>(i)], " = ", letter.extent, " as in ",
                     letter.source->name, " ", letter.source->view.shape);
      }
    }
  }
  return {};
}

}  // namespace lockstep
