#include "tensor/dtype.h"

#include <array>

namespace lockstep {
namespace {

constexpr std::array<DTypeInfo, 15> kInfos = {{{"f32", "F32", 4},
                                               {"f16", "F16", 2},
                                               {"bf16", "BF16", 2},
                                               {"f64", "F64", 8},
                                               {"i64", "I64", 8},
                                               {"i32", "I32", 4},
                                               {"i16", "I16", 2},
                                               {"i8", "I8", 1},
                                               {"u64", "U64", 8},
                                               {"u32", "U32", 4},
                                               {"u16", "U16", 2},
                                               {"u8", "U8", 1},
                                               {"bool", "BOOL", 1},
                                               {"f8e4m3", "F8_E4M3", 1},
                                               {"f8e5m2", "F8_E5M2", 1}}};

}  // namespace

const DTypeInfo& info_of(DType dtype) { return kInfos[static_cast<size_t>(dtype)]; }

std::optional<DType> dtype_from_safetensors(std::string_view name) {
  for (size_t i = 0; i < kInfos.size(); ++i) {
    if (kInfos[i].safetensors == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

uint16_t Float16::to_bits(float value) {
  const auto word = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((word >> 16) & 0x8000u);
  const uint32_t magnitude = word & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return static_cast<uint16_t>(sign | 0x7E00u);
  if (magnitude >= 0x47800000u) return static_cast<uint16_t>(sign | 0x7C00u);  // >= 65536
  if (magnitude <
      0x38800000u) {  // below 2^-14: adding 0.5 aligns the mantissa to binary16's last subnormal bit
    const float aligned = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(aligned) - std::bit_cast<uint32_t>(0.5f)));
  }
  const uint32_t rounded = magnitude + 0xFFFu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign |
                               ((rounded - 0x38000000u) >> 13));  // may carry into infinity, as it should
}

float Float16::from_bits(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1Fu;
  const uint32_t mantissa = bits & 0x3FFu;
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000u | (mantissa << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
}

}  // namespace lockstep
