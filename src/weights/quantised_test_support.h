// For tests of quantised weights: random codes in every form, and what they mean by the formulas, written
// plainly and apart from the loader.
#pragma once

#include <bit>
#include <cmath>
#include <functional>
#include <list>
#include <numeric>

#include "weights/test_support.h"
#include "weights/weight_loader.h"

namespace lockstep {

// A form of quantised matrix, and the config that goes with it.
struct CodeForm {
  std::string title;
  Quantisation by;
  DType scales = DType::kF32;
  bool shuffled = false;   // gptq: inputs are of groups in any order
  bool has_zeros = true;   // qzeros are stored
  bool has_g_idx = false;  // so are the groups of inputs
};

// The forms that tests go through.
inline std::vector<CodeForm> all_code_forms() {
  const auto int4 = [](QuantMethod method, int64_t group) {
    return Quantisation{.method = method, .group_size = group};
  };
  const Quantisation gptq = int4(QuantMethod::kGptq, 64);
  Quantisation v1 = gptq, symmetric = gptq;
  v1.zeros_less_one = true;
  symmetric.symmetric = true;
  const Quantisation fp8{.method = QuantMethod::kFp8, .block_rows = 128, .block_columns = 128};
  const Quantisation small{.method = QuantMethod::kFp8, .block_rows = 16, .block_columns = 24};
  const QuantMethod awq = QuantMethod::kAwq;
  return {
      {.title = "fp8", .by = fp8},
      {.title = "fp8 with bf16 scales", .by = fp8, .scales = DType::kBF16},
      {.title = "fp8 in other blocks", .by = small},
      {.title = "awq 128", .by = int4(awq, 128), .scales = DType::kF16},
      {.title = "awq 64", .by = int4(awq, 64), .scales = DType::kF16},
      {.title = "awq 32", .by = int4(awq, 32), .scales = DType::kBF16},
      {.title = "awq, one group", .by = int4(awq, -1), .scales = DType::kF16},
      {.title = "gptq v2", .by = gptq, .scales = DType::kF16},
      {.title = "gptq v1", .by = v1, .scales = DType::kF16, .has_g_idx = true},
      {.title = "gptq v1, act order", .by = v1, .scales = DType::kF16, .shuffled = true, .has_g_idx = true},
      {.title = "gptq, symmetric", .by = symmetric, .scales = DType::kBF16, .has_zeros = false},
      {.title = "gptq, one group", .by = int4(QuantMethod::kGptq, -1), .scales = DType::kF32}};
}

// A checkpoint of random codes whose meaning a test can look up.
class CodedCheckpoint {
 public:
  explicit CodedCheckpoint(uint64_t seed) : random_(seed) {}

  // A matrix [rows, k] under the names that go with "name"; with experts > 0 a packed tensor of several.
  void add(const CodeForm& form, const std::string& name, int64_t rows, int64_t k, int64_t experts = 0) {
    if (form.by.method == QuantMethod::kFp8) {
      add_fp8(form, name, rows, k, experts);
    } else {
      add_int4(form, name, rows, k, experts);
    }
  }

  // Random bytes as a tensor; a test may change them before the file is written.
  std::vector<uint8_t>& raw(const std::string& name, DType dtype, const Shape& shape) {
    std::vector<uint8_t>& bytes = raw_.emplace_back(static_cast<size_t>(shape.elements() * size_of(dtype)));
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random_());
    EXPECT_TRUE(writer_.add(name, dense_view(bytes.data(), dtype, shape)).ok()) << name;
    return bytes;
  }

  // Scales of either sign, from 0.001 to 1; as f32 in the order of the tensor.
  std::vector<float> scales(const std::string& name, DType dtype, const Shape& shape) {
    std::vector<uint8_t>& bytes = raw(name, dtype, shape);
    std::vector<float> values;
    with_float_type(dtype, [&]<typename T>() {
      auto* stored = reinterpret_cast<T*>(bytes.data());
      for (int64_t i = 0; i < shape.elements(); ++i) {
        const float size = std::uniform_real_distribution<float>(0.001f, 1.0f)(random_);
        stored[i] = T(random_() % 2 == 0 ? size : -size);
        values.push_back(static_cast<float>(stored[i]));
      }
    });
    return values;
  }

  Checkpoint checkpoint() const {
    const std::string path = folder_.file("model.safetensors");
    EXPECT_TRUE(writer_.write(path).ok());
    return Checkpoint::open(path).value();
  }
  std::string path() const { return folder_.file("model.safetensors"); }

  // Element [row, col] of an expert of "name" by the formula, in f32.
  float at(const std::string& name, int64_t expert, int64_t row, int64_t col) const {
    return value_.at(name)(expert, row, col);
  }

 private:
  static Shape shape(int64_t experts, int64_t rows, int64_t columns) {
    return experts > 0 ? Shape{experts, rows, columns} : Shape{rows, columns};
  }

  void add_fp8(const CodeForm& form, const std::string& name, int64_t rows, int64_t k, int64_t experts) {
    const Quantisation by = form.by;
    const std::vector<uint8_t>& codes = raw(name, DType::kF8E4M3, shape(experts, rows, k));
    const int64_t down = ceil_div(rows, by.block_rows), across = ceil_div(k, by.block_columns);
    const std::vector<float> inverse = scales(name + "_scale_inv", form.scales, shape(experts, down, across));
    value_[name] = [=, &codes](int64_t expert, int64_t n, int64_t c) {
      const uint8_t code = codes[static_cast<size_t>((expert * rows + n) * k + c)];
      const int exponent = code / 8 % 16, mantissa = code % 8;
      double value = exponent == 0 ? mantissa / 512.0 : std::pow(2.0, exponent - 7) * (1 + mantissa / 8.0);
      if (exponent == 15 && mantissa == 7) value = std::nan("");
      const int64_t block = (expert * down + n / by.block_rows) * across + c / by.block_columns;
      return static_cast<float>(code >= 128 ? -value : value) * inverse[static_cast<size_t>(block)];
    };
  }

  void add_int4(const CodeForm& form, const std::string& name, int64_t rows, int64_t k, int64_t experts) {
    const Quantisation by = form.by;
    const bool awq = by.method == QuantMethod::kAwq;
    const std::string base = name.substr(0, name.rfind(".weight"));
    const int64_t size = by.group_size < 0 ? k : by.group_size, groups = ceil_div(k, size);
    const std::vector<uint8_t>& codes =
        raw(base + ".qweight", DType::kI32, awq ? shape(experts, k, rows / 8) : shape(experts, k / 8, rows));
    const std::vector<float> scale = scales(base + ".scales", form.scales, shape(experts, groups, rows));
    const std::vector<uint8_t>* zeros = nullptr;
    if (form.has_zeros) zeros = &raw(base + ".qzeros", DType::kI32, shape(experts, groups, rows / 8));
    const std::vector<int32_t> group = groups_of(form, base, k, size, experts);
    const auto bits = [](const std::vector<uint8_t>& words, int64_t word, int64_t nibble) {
      uint32_t value = 0;
      std::memcpy(&value, words.data() + word * 4, 4);
      return static_cast<int>(value >> (4 * nibble) & 15);
    };
    const auto output_bits = [=](int64_t n) {  // which bits of a word of 8 outputs
      constexpr int64_t kOrder[] = {0, 2, 4, 6, 1, 3, 5, 7};
      for (int64_t i = 0; awq && i < 8; ++i)
        if (kOrder[i] == n % 8) return i;
      return n % 8;
    };
    value_[name] = [=, &codes](int64_t expert, int64_t n, int64_t c) {
      const int64_t g = expert * groups + group[static_cast<size_t>(expert * k + c)];
      const int q = awq ? bits(codes, (expert * k + c) * (rows / 8) + n / 8, output_bits(n))
                        : bits(codes, (expert * (k / 8) + c / 8) * rows + n, c % 8);
      int z = zeros == nullptr ? 8 : bits(*zeros, g * (rows / 8) + n / 8, output_bits(n));
      if (by.zeros_less_one && zeros != nullptr) z = (z + 1) % 16;
      return static_cast<float>(q - z) * scale[static_cast<size_t>(g * rows + n)];
    };
  }

  // The group of every input of every expert; stored where the form has them.
  std::vector<int32_t> groups_of(const CodeForm& form, const std::string& base, int64_t k, int64_t size,
                                 int64_t experts) {
    std::vector<int32_t> group;
    for (int64_t i = 0; i < std::max<int64_t>(experts, 1) * k; ++i)
      group.push_back(static_cast<int32_t>(i % k / size));
    if (form.shuffled) {
      for (auto begin = group.begin(); begin != group.end(); begin += k)
        std::shuffle(begin, begin + k, random_);
    }
    if (form.has_g_idx) {
      std::vector<uint8_t>& stored =
          raw(base + ".g_idx", DType::kI32, experts > 0 ? Shape{experts, k} : Shape{k});
      std::memcpy(stored.data(), group.data(), stored.size());
    }
    return group;
  }

  std::mt19937_64 random_;
  ScratchFolder folder_;
  SafetensorsWriter writer_;
  std::list<std::vector<uint8_t>> raw_;
  std::map<std::string, std::function<float(int64_t, int64_t, int64_t)>> value_;
};

}  // namespace lockstep
