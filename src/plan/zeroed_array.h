// ZeroedArray: a fixed array of zeros that costs memory where it is touched. Page tables have room for every
// sequence at its longest, of which an engine uses little.
#pragma once

#include <cstdlib>
#include <memory>
#include <type_traits>

#include "base/check.h"

namespace lockstep {

template <typename T>
class ZeroedArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  ZeroedArray() = default;
  explicit ZeroedArray(size_t count) : data_(static_cast<T*>(std::calloc(count > 0 ? count : 1, sizeof(T)))) {
    LS_CHECK(data_ != nullptr, "no memory for ", count, " elements of ", sizeof(T), " bytes");
  }
  T& operator[](size_t index) { return data_.get()[index]; }
  const T& operator[](size_t index) const { return data_.get()[index]; }

 private:
  struct Free {
    void operator()(T* data) const { std::free(data); }
  };
  std::unique_ptr<T, Free> data_;
};

}  // namespace lockstep
