// Arena: the only source of device memory. One reservation, handed out from the front; nothing is allocated
// in a step, and memory is given back all at once.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "device/device.h"
#include "tensor/tensor.h"

namespace lockstep {

// CPU arenas reserve address space with mmap: pages cost memory only once written and read as zero before.
// Arenas of a device take its memory at once, as zeros. Thread: not safe; one owner.
class Arena {
 public:
  static constexpr int64_t kAlignment = 64;  // one cache line, one AVX-512 register

  // Reserves `bytes` (rounded up to whole pages); of a device's memory, where one is given. Errors:
  // kResourceExhausted, naming arena and size.
  static Result<Arena> create(std::string_view name, int64_t bytes, DevicePtr device = nullptr);
  ~Arena();
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;

  // A dense tensor at the next aligned address. Errors: kResourceExhausted with what was asked and what is
  // left.
  Result<TensorView> allocate(std::string_view what, DType dtype, const Shape& shape);

  // Copies the bytes of a dense tensor of this arena from the host, and waits. Thread: any number at a time.
  Status fill(const TensorView& target, const void* source) const;

  // Bytes that `allocate` takes for such a tensor: sum these to size an arena. At most 2^62, which no arena
  // has.
  static int64_t footprint(DType dtype, const Shape& shape);

  // Back to a mark: everything allocated since is free. Errors: kInternal (R1), naming the allocation, while
  // a captured graph leases one of them.
  int64_t mark() const { return used_; }
  Status reset_to(int64_t mark);
  // New memory for the allocation that begins at `old`, as `shape`: its generation rises, and a graph that
  // leases it sees that before its next replay. The old memory stays mapped. Errors: as allocate();
  // kInternal when nothing begins there.
  Result<TensorView> replace(const TensorView& old, const Shape& shape);

  // What was handed out, in order of offset.
  struct Allocation {
    std::string name;
    int64_t offset = 0;  // bytes
    int64_t bytes = 0;
    uint64_t generation = 0;     // rises with every use of the same place and with every replacement
    mutable int32_t leases = 0;  // graphs that hold its address
  };
  const Allocation& allocation(int32_t index) const { return allocations_[static_cast<size_t>(index)]; }
  // The allocation that an address lies in; -1: none. Precondition: contains(address).
  int32_t allocation_at(const void* address) const;
  void lease(int32_t index) const { ++allocations_[static_cast<size_t>(index)].leases; }
  void give_back(int32_t index) const { --allocations_[static_cast<size_t>(index)].leases; }
  uint64_t replacements() const { return replacements_; }

  const std::string& name() const { return name_; }
  const void* data() const { return base_; }
  Device* device() const { return device_.get(); }  // null: the CPU's memory
  int64_t used() const { return used_; }
  int64_t capacity() const { return capacity_; }
  bool contains(const void* address) const;
  int64_t offset_of(const void* address) const;  // precondition: contains(address)

 private:
  Arena(std::string name, char* base, int64_t capacity, DevicePtr device);
  void release();

  std::string name_;
  DevicePtr device_;
  char* base_ = nullptr;
  int64_t capacity_ = 0;
  int64_t used_ = 0;
  std::vector<Allocation> allocations_;
  uint64_t generation_ = 0;    // the newest given out
  uint64_t replacements_ = 0;  // so far
};

}  // namespace lockstep
