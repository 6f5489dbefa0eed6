// One element of a float buffer of any type: for oracles and tests, where plainness counts and speed does
// not.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace lockstep {

// Element `index` of `data`, as f32. Precondition: dtype is f32, f16 or bf16.
inline float load_element(const void* data, DType dtype, int64_t index) {
  return with_float_type(
      dtype, [&]<typename T>() { return static_cast<float>(static_cast<const T*>(data)[index]); });
}

// Writes `value` rounded to nearest even. Precondition: dtype is f32, f16 or bf16.
inline void store_element(void* data, DType dtype, int64_t index, float value) {
  with_float_type(dtype, [&]<typename T>() { static_cast<T*>(data)[index] = static_cast<T>(value); });
}

}  // namespace lockstep
