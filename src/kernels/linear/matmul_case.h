// Test support for linear, embedding and moe_experts: random matrices, packed weights, poisoned buffers.
#pragma once

#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "device/cpu_info.h"
#include "kernels/common/test_support.h"
#include "kernels/linear/linear.h"
#include "kernels/table.h"

namespace lockstep::matmul_test {

inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Half the distance from 1 to the next f32: the error of one rounding, relative.
inline constexpr double kUnit = 0x1p-24;

// The instruction sets that this processor can run, the oracle's first, and the device's last.
inline std::vector<Isa> runnable() {
  std::vector<Isa> isas;
  for (const Isa isa : {Isa::kReference, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16}) {
    if (isa <= detect_cpu().best) isas.push_back(isa);
  }
  if (testing::device_table != nullptr && testing::device_table() != nullptr) isas.push_back(Isa::kSm90);
  return isas;
}

inline const KernelTable& table_of(Isa isa, bool batch_invariant = false) {
  return isa == Isa::kSm90 ? *testing::device_table(batch_invariant) : kernel_table(isa);
}

// Uniform in [-1, 1).
inline std::vector<float> random_values(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(random() >> 8) * 0x1p-23f - 1.0f;
  return values;
}

// `rows` rows of `width` values, `stride` apart: those given first, then and in between NaN.
inline std::vector<float> poisoned(const std::vector<float>& values, int64_t width, int64_t rows,
                                   int64_t stride) {
  std::vector<float> out(static_cast<size_t>(rows * stride), kNaN);
  const auto given = static_cast<int64_t>(values.size()) / width;
  for (int64_t t = 0; t < given; ++t) {
    std::memcpy(out.data() + t * stride, values.data() + t * width,
                static_cast<size_t>(width) * sizeof(float));
  }
  return out;
}

// A [rows, width] view of rows that lie `stride` apart.
inline TensorView strided(std::vector<float>& values, int64_t rows, int64_t width, int64_t stride) {
  return view(values, {rows, stride}).columns(0, width);
}

inline float rounded(float value, DType dtype) {
  if (dtype == DType::kBF16) return static_cast<float>(BFloat16(value));
  if (dtype == DType::kF16) return static_cast<float>(Float16(value));
  return value;
}

inline float entering(float x, MatmulInput input) {
  return input == MatmulInput::kBF16 ? rounded(x, DType::kBF16) : x;
}

// X matrices of [n, k], packed; memory that no matrix covers holds NaN (all bits set, in every type).
struct Weight {
  std::vector<float> values;  // [X][n][k], as the element type holds them
  std::vector<char> memory;
  PackedWeight packed;

  Weight(std::vector<float> given, PackedWeight shape) : values(std::move(given)), packed(shape) {
    packed.expert_stride = packed_elements(shape.dtype, shape.layout, shape.n, shape.k) + 64;
    memory.assign(static_cast<size_t>(packed.expert_stride * shape.experts * size_of(shape.dtype) + 64),
                  '\xFF');
    const auto address = reinterpret_cast<uintptr_t>(memory.data());
    packed.data = memory.data() + (64 - address % 64) % 64;
    for (int64_t x = 0; x < shape.experts; ++x) {
      float* matrix = values.data() + x * shape.n * shape.k;
      pack_rows(dense_view(matrix, DType::kF32, {shape.n, shape.k}), packed, x, 0);
    }
    for (float& value : values) value = rounded(value, shape.dtype);
  }
  Weight(const Weight&) = delete;
  Weight& operator=(const Weight&) = delete;

  float at(int64_t expert, int64_t row, int64_t col) const {
    return values[static_cast<size_t>((expert * packed.n + row) * packed.k + col)];
  }
};

// A sum of products and the bound on its error when summed in f32, in any order and with or without fused
// multiply-adds: each of k terms passes through at most k + 1 roundings of at most kUnit each.
struct Dot {
  double sum = 0;
  double magnitude = 0;  // sum of the terms' absolute values
  int64_t terms = 0;

  void add(double x, double w) {
    sum += x * w;
    magnitude += std::abs(x * w);
    ++terms;
  }
  double tolerance() const { return magnitude * static_cast<double>(terms + 1) * kUnit; }
};

inline bool same_bits(const float* a, const float* b, int64_t count) {
  return std::memcmp(a, b, static_cast<size_t>(count) * sizeof(float)) == 0;
}

}  // namespace lockstep::matmul_test
