// HostView: memory as code on the host looks at it: the CPU's where it lies, a device's in copies that wait
// for everything before. For what watches launches and for what is read between steps: on a device each look
// costs some ten microseconds.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "device/stream.h"

namespace lockstep {

// A view, to be copied. What a device refuses is kept by the stream, whose check_copies() tells it; targets
// keep what they held then. Thread: the stream's owner.
class HostView {
 public:
  HostView() = default;  // of the CPU's memory
  // Of the memory that a stream works on; borrows it.
  explicit HostView(Stream& stream) : stream_(stream.device() != nullptr ? &stream : nullptr) {}

  struct Piece {
    const void* source = nullptr;
    void* target = nullptr;
    int64_t bytes = 0;
  };
  // All pieces at once; cost: one wait.
  void read(std::span<const Piece> pieces) const;
  void read(const void* source, void* target, int64_t bytes) const {
    const Piece piece{source, target, bytes};
    read({&piece, 1});
  }
  void write(void* target, const void* source, int64_t bytes) const;

  // The tensor itself; of a device a tensor of the same strides over `copy`, which then holds its bytes.
  TensorView look(const TensorView& view, std::vector<std::byte>& copy) const;

  Status status() const { return stream_ == nullptr ? Status() : stream_->check_copies(); }

 private:
  Stream* stream_ = nullptr;  // null: memory is where the host is
};

}  // namespace lockstep
