#include "device/arena.h"

#include <sys/mman.h>

#include <utility>

#include "base/math.h"

namespace lockstep {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;

// More than any address space holds.
constexpr int64_t kBeyond = int64_t{1} << 62;

}  // namespace

Result<Arena> Arena::create(std::string_view name, int64_t bytes) {
  const int64_t capacity = round_up(bytes > 0 ? bytes : 1, kHugePage);
  void* base = mmap(nullptr, static_cast<size_t>(capacity), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) {
    return error(Code::kResourceExhausted, "arena ", name, ": ", bytes,
                 " bytes could not be reserved; free memory or ask for less");
  }
  // Weights are streamed once per step: 2 MiB pages save most of the TLB misses. A refusal costs only speed.
  madvise(base, static_cast<size_t>(capacity), MADV_HUGEPAGE);
  return Arena(std::string(name), static_cast<char*>(base), capacity);
}

Arena::Arena(std::string name, char* base, int64_t capacity)
    : name_(std::move(name)), base_(base), capacity_(capacity) {}

Arena::Arena(Arena&& other) noexcept
    : name_(std::move(other.name_)),
      base_(std::exchange(other.base_, nullptr)),
      capacity_(std::exchange(other.capacity_, 0)),
      used_(std::exchange(other.used_, 0)) {}

Arena& Arena::operator=(Arena&& other) noexcept {
  if (this != &other) {
    release();
    name_ = std::move(other.name_);
    base_ = std::exchange(other.base_, nullptr);
    capacity_ = std::exchange(other.capacity_, 0);
    used_ = std::exchange(other.used_, 0);
  }
  return *this;
}

Arena::~Arena() { release(); }

void Arena::release() {
  if (base_ != nullptr) munmap(base_, static_cast<size_t>(capacity_));
  base_ = nullptr;
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
  used_ += bytes;
  return view;
}

void Arena::reset_to(int64_t mark) {
  LS_CHECK(mark >= 0 && mark <= used_, "mark ", mark, " used ", used_);
  used_ = mark;
}

bool Arena::contains(const void* address) const {
  const char* p = static_cast<const char*>(address);
  return p >= base_ && p < base_ + capacity_;
}

int64_t Arena::offset_of(const void* address) const { return static_cast<const char*>(address) - base_; }

}  // namespace lockstep
