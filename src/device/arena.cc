#include "device/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/fault.h"
#include "base/math.h"

namespace lockstep {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;

// More than any address space holds.
constexpr int64_t kBeyond = int64_t{1} << 62;

}  // namespace

Result<Arena> Arena::create(std::string_view name, int64_t bytes, DevicePtr device) {
  const int64_t capacity = round_up(bytes > 0 ? bytes : 1, kHugePage);
  if (device != nullptr) {
    const Result<void*> memory = device->allocate(capacity);
    if (memory.ok())
      return Arena(std::string(name), static_cast<char*>(*memory), capacity, std::move(device));
    return error(Code::kResourceExhausted, "arena ", name, ": ", bytes,
                 " bytes were not to be had: ", memory.status().message(), "; free memory or ask for less");
  }
  void* base = mmap(nullptr, static_cast<size_t>(capacity), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) {
    return error(Code::kResourceExhausted, "arena ", name, ": ", bytes,
                 " bytes could not be reserved; free memory or ask for less");
  }
  // Weights are streamed once per step: 2 MiB pages save most of the TLB misses. A refusal costs only speed.
  madvise(base, static_cast<size_t>(capacity), MADV_HUGEPAGE);
  return Arena(std::string(name), static_cast<char*>(base), capacity, nullptr);
}

Arena::Arena(std::string name, char* base, int64_t capacity, DevicePtr device)
    : name_(std::move(name)), device_(std::move(device)), base_(base), capacity_(capacity) {}

Arena::Arena(Arena&& other) noexcept
    : name_(std::move(other.name_)),
      device_(std::move(other.device_)),
      base_(std::exchange(other.base_, nullptr)),
      capacity_(std::exchange(other.capacity_, 0)),
      used_(std::exchange(other.used_, 0)),
      allocations_(std::move(other.allocations_)),
      generation_(other.generation_),
      replacements_(other.replacements_) {}

Arena& Arena::operator=(Arena&& other) noexcept {
  if (this != &other) {
    release();
    name_ = std::move(other.name_);
    device_ = std::move(other.device_);
    base_ = std::exchange(other.base_, nullptr);
    capacity_ = std::exchange(other.capacity_, 0);
    used_ = std::exchange(other.used_, 0);
    allocations_ = std::move(other.allocations_);
    generation_ = other.generation_;
    replacements_ = other.replacements_;
  }
  return *this;
}

Arena::~Arena() { release(); }

void Arena::release() {
  if (base_ != nullptr && device_ != nullptr) {
    device_->release(base_);
  } else if (base_ != nullptr) {
    munmap(base_, static_cast<size_t>(capacity_));
  }
  base_ = nullptr;
}

Status Arena::fill(const TensorView& target, const void* source) const {
  if (device_ != nullptr) return device_->upload(target.data, source, target.bytes());
  std::memcpy(target.data, source, static_cast<size_t>(target.bytes()));
  return {};
}

int64_t Arena::footprint(DType dtype, const Shape& shape) {
  int64_t bytes = size_of(dtype);
  for (int i = 0; i < shape.rank; ++i) {
    const std::optional<int64_t> product = checked_mul(bytes, shape[i]);
    if (!product || *product > kBeyond) return kBeyond;
    bytes = *product;
  }
  return round_up(bytes, kAlignment);
}

Result<TensorView> Arena::allocate(std::string_view what, DType dtype, const Shape& shape) {
  const int64_t bytes = footprint(dtype, shape);
  if (bytes > capacity_ - used_) {
    return error(Code::kResourceExhausted, "arena ", name_, ": ", what, " ", shape, " ", dtype, " needs ",
                 bytes, " bytes; ", capacity_ - used_, " of ", capacity_, " are left");
  }
  TensorView view = dense_view(base_ + used_, dtype, shape);
  allocations_.push_back(
      {.name = std::string(what), .offset = used_, .bytes = bytes, .generation = ++generation_});
  used_ += bytes;
  return view;
}

Status Arena::reset_to(int64_t mark) {
  LS_CHECK(mark >= 0 && mark <= used_, "mark ", mark, " used ", used_);
  size_t kept = allocations_.size();
  for (; kept > 0 && allocations_[kept - 1].offset >= mark; --kept) {
    const Allocation& freed = allocations_[kept - 1];
    if (freed.leases == 0) continue;
    return broken({.check = "R1",
                   .moment = Moment::kCapture,
                   .consumer = concat("arena ", name_),
                   .field = freed.name,
                   .expected = "no free while graphs hold its address",
                   .found = concat("to be freed (", freed.bytes, " bytes at ", freed.offset, ", generation ",
                                   freed.generation, ") and in ", freed.leases, " graphs")});
  }
  allocations_.resize(kept);
  used_ = mark;
  return {};
}

Result<TensorView> Arena::replace(const TensorView& old, const Shape& shape) {
  const int32_t index = contains(old.data) ? allocation_at(old.data) : -1;
  if (index < 0 || allocation(index).offset != offset_of(old.data)) {
    return error(Code::kInternal, "arena ", name_, ": nothing begins at the address to be replaced");
  }
  const TensorView fresh = LS_TRY(allocate(allocation(index).name, old.dtype, shape));
  allocations_[static_cast<size_t>(index)].generation = ++generation_;
  ++replacements_;
  return fresh;
}

int32_t Arena::allocation_at(const void* address) const {
  const int64_t offset = offset_of(address);
  const auto after = std::upper_bound(allocations_.begin(), allocations_.end(), offset,
                                      [](int64_t at, const Allocation& a) { return at < a.offset; });
  if (after == allocations_.begin()) return -1;
  const auto found = after - 1;
  // An empty allocation owns the address it begins at.
  return offset < found->offset + std::max<int64_t>(found->bytes, 1)
             ? static_cast<int32_t>(found - allocations_.begin())
             : -1;
}

bool Arena::contains(const void* address) const {
  const char* p = static_cast<const char*>(address);
  return p >= base_ && p < base_ + capacity_;
}

int64_t Arena::offset_of(const void* address) const { return static_cast<const char*>(address) - base_; }

}  // namespace lockstep
