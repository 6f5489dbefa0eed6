// Element types: what they are called, how wide they are, and how the two half types round.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>
#include <ostream>
#include <string_view>

namespace lockstep {

// 64 bits wide so that a view has no padding: views are compared byte for byte.
enum class DType : int64_t {
  kF32,
  kF16,
  kBF16,
  kF64,
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool,
  kF8E4M3,
  kF8E5M2
};

struct DTypeInfo {
  std::string_view name;         // ours, as printed: "f32"
  std::string_view safetensors;  // as in a safetensors header: "F32"
  int64_t bytes;
};

// Name and width of a type. O(1).
const DTypeInfo& info_of(DType dtype);
inline int64_t size_of(DType dtype) { return info_of(dtype).bytes; }
inline std::string_view name_of(DType dtype) { return info_of(dtype).name; }
std::optional<DType> dtype_from_safetensors(std::string_view name);
inline std::ostream& operator<<(std::ostream& out, DType dtype) { return out << name_of(dtype); }

// bfloat16: the upper half of an f32. Conversion rounds to nearest even; NaN stays a quiet NaN.
struct BFloat16 {
  uint16_t bits = 0;
  BFloat16() = default;
  explicit BFloat16(float value) {
    const auto word = std::bit_cast<uint32_t>(value);
    bits = (word & 0x7FFFFFFFu) > 0x7F800000u
               ? static_cast<uint16_t>((word >> 16) | 0x0040u)
               : static_cast<uint16_t>((word + 0x7FFFu + ((word >> 16) & 1u)) >> 16);
  }
  explicit operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};

// IEEE binary16. Conversion rounds to nearest even; overflow gives infinity.
struct Float16 {
  uint16_t bits = 0;
  Float16() = default;
  explicit Float16(float value) : bits(to_bits(value)) {}
  explicit operator float() const { return from_bits(bits); }
  static uint16_t to_bits(float value);
  static float from_bits(uint16_t bits);
};

template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kF64;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::kBF16;
};
template <>
struct DTypeOf<Float16> {
  static constexpr DType value = DType::kF16;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::kI64;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct DTypeOf<uint64_t> {
  static constexpr DType value = DType::kU64;
};
template <>
struct DTypeOf<uint32_t> {
  static constexpr DType value = DType::kU32;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::kU8;
};
// A typed quantity is stored as its integer.
template <typename T>
requires requires { typename T::Rep; }
struct DTypeOf<T> {
  static constexpr DType value = DTypeOf<typename T::Rep>::value;
};

inline bool is_float_weight(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

// Calls body.template operator()<T>() for the float type of `dtype`, which must be f32, f16 or bf16.
template <typename Body>
decltype(auto) with_float_type(DType dtype, Body&& body) {
  if (dtype == DType::kBF16) return body.template operator()<BFloat16>();
  if (dtype == DType::kF16) return body.template operator()<Float16>();
  return body.template operator()<float>();
}

}  // namespace lockstep
