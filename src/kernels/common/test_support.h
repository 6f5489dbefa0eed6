// Test support for every op: which tables run here, random and poisoned buffers, views with gaps, and
// equality of bits.
#pragma once

#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/table.h"

namespace lockstep::testing {

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// The kernels of a device, lent to host memory; the oracle's where it has none. In test programs of builds
// with a device only, hence weak; null where this machine has none.
[[gnu::weak]] const KernelTable* device_table(bool batch_invariant = false);

// The kernel tables that this processor can run, the oracle first, and the device's last.
inline std::vector<const KernelTable*> runnable_tables() {
  std::vector<const KernelTable*> tables;
  for (const Isa isa : {Isa::kReference, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16}) {
    if (isa <= detect_cpu().best) tables.push_back(&kernel_table(isa));
  }
  if (device_table != nullptr && device_table() != nullptr) tables.push_back(device_table());
  return tables;
}

// Uniform in [-1, 1), times `scale`.
inline std::vector<float> random_floats(size_t count, std::mt19937& random, float scale = 1.0f) {
  std::vector<float> values(count);
  for (float& value : values) {
    value = scale * (static_cast<float>(random() >> 8) * 0x1p-23f - 1.0f);
  }
  return values;
}

// Poison for `count` elements of an output or of memory between rows.
inline std::vector<float> nans(int64_t count) { return std::vector<float>(static_cast<size_t>(count), kNan); }

// A view whose strides, outermost first, leave gaps: strides[i] elements from one index of dimension i to the
// next.
inline TensorView strided(std::vector<float>& values, const Shape& shape, std::vector<int64_t> strides) {
  TensorView out = dense_view(values.data(), DType::kF32, shape);
  for (size_t i = 0; i < strides.size(); ++i) out.strides[i] = strides[i];
  return out;
}

// Whether two runs of floats are the same bytes: NaN equals NaN, and zero differs from minus zero.
inline bool same_bits(const float* a, const float* b, int64_t count) {
  return std::memcmp(a, b, static_cast<size_t>(count) * sizeof(float)) == 0;
}
inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && same_bits(a.data(), b.data(), static_cast<int64_t>(a.size()));
}

}  // namespace lockstep::testing
