#include "device/host_view.h"

#include <cstring>

#include "base/check.h"

namespace lockstep {
namespace {

TensorView bytes_at(const void* address, int64_t bytes) {
  return dense_view(const_cast<void*>(address), DType::kU8, {bytes});
}

}  // namespace

void HostView::read(std::span<const Piece> pieces) const {
  for (const Piece& piece : pieces) {
    if (stream_ == nullptr) {
      std::memcpy(piece.target, piece.source, static_cast<size_t>(piece.bytes));
    } else {
      const Status enqueued =
          stream_->download(bytes_at(piece.source, piece.bytes), bytes_at(piece.target, piece.bytes));
      LS_CHECK(enqueued.ok(), enqueued.message());  // a capture launches nothing that anybody watches
    }
  }
  if (stream_ != nullptr) stream_->synchronize();
}

void HostView::write(void* target, const void* source, int64_t bytes) const {
  if (stream_ == nullptr) {
    std::memcpy(target, source, static_cast<size_t>(bytes));
  } else {
    static_cast<void>(stream_->write(bytes_at(target, bytes), source));  // the stream keeps what went wrong
  }
}

TensorView HostView::look(const TensorView& view, std::vector<std::byte>& copy) const {
  if (stream_ == nullptr) return view;
  int64_t low = 0, high = 1;  // in elements, from the first to behind the last
  for (int64_t i = 0; i < view.shape.rank; ++i) {
    if (view.dim(i) == 0) return view;
    const int64_t span = (view.dim(i) - 1) * view.stride(i);
    (span < 0 ? low : high) += span;
  }
  const int64_t size = size_of(view.dtype);
  copy.resize(static_cast<size_t>((high - low) * size));
  read(static_cast<const char*>(view.data) + low * size, copy.data(), (high - low) * size);
  TensorView here = view;
  here.data = copy.data() - low * size;
  return here;
}

}  // namespace lockstep
