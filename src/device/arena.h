// Arena: the only source of device memory. One reservation, handed out from the front; nothing is allocated
// in a step, and memory is given back all at once.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "tensor/tensor.h"

namespace lockstep {

// CPU arenas reserve address space with mmap: pages cost memory only once written and read as zero before.
// Thread: not safe; one owner.
class Arena {
 public:
  static constexpr int64_t kAlignment = 64;  // one cache line, one AVX-512 register

  // Reserves `bytes` (rounded up to whole pages). Errors: kResourceExhausted, naming arena and size.
  static Result<Arena> create(std::string_view name, int64_t bytes);
  ~Arena();
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;

  // A dense tensor at the next aligned address. Errors: kResourceExhausted with what was asked and what is
  // left.
  Result<TensorView> allocate(std::string_view what, DType dtype, const Shape& shape);

  // Bytes that `allocate` takes for such a tensor: sum these to size an arena. At most 2^62, which no arena
  // has.
  static int64_t footprint(DType dtype, const Shape& shape);

  // Back to a mark: everything allocated since is invalid. For activations, whose layout repeats each step.
  int64_t mark() const { return used_; }
  void reset_to(int64_t mark);

  const std::string& name() const { return name_; }
  int64_t used() const { return used_; }
  int64_t capacity() const { return capacity_; }
  bool contains(const void* address) const;
  int64_t offset_of(const void* address) const;  // precondition: contains(address)

 private:
  Arena(std::string name, char* base, int64_t capacity);
  void release();

  std::string name_;
  char* base_ = nullptr;
  int64_t capacity_ = 0;
  int64_t used_ = 0;
};

}  // namespace lockstep
