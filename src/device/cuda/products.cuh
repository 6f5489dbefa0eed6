// Matrix products by cuBLASLt, whose algorithm for a shape is chosen once and kept.
#pragma once

#include <cublasLt.h>

#include <map>
#include <tuple>

#include "base/status.h"

namespace lockstep {

// out[t, n] = sum over k of x[t, k] * weight[n, k], in f32.
struct ProductArgs {
  const void* x = nullptr;       // [rows, inputs] bf16, dense
  const void* weight = nullptr;  // [outputs, inputs] bf16, dense
  float* out = nullptr;          // [rows, outputs], rows `out_stride` elements apart
  int64_t rows = 0;
  int64_t outputs = 0;
  int64_t inputs = 0;
  int64_t out_stride = 0;
};

// Thread: one owner, the queue's.
class Products {
 public:
  // The alignment that operands must have, in bytes.
  static constexpr int64_t kAlignment = 16;

  Products() = default;
  ~Products();
  Products(const Products&) = delete;
  Products& operator=(const Products&) = delete;

  // Takes the library's workspace. Errors: kInternal as the library says.
  Status open();
  // Enqueues one product. The same shape takes the same algorithm, whatever the values. Errors: kInternal as
  // the library says.
  Status multiply(const ProductArgs& args, cudaStream_t stream);

 private:
  using Shape = std::tuple<int64_t, int64_t, int64_t, int64_t>;
  struct Plan {
    cublasLtMatmulDesc_t product = nullptr;
    cublasLtMatrixLayout_t weight = nullptr;
    cublasLtMatrixLayout_t x = nullptr;
    cublasLtMatrixLayout_t out = nullptr;
    cublasLtMatmulAlgo_t algorithm{};
  };
  Status describe(const ProductArgs& args, Plan& plan);
  Status choose(Plan& plan);
  static void release(const Plan& plan);

  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::map<Shape, Plan> plans_;
};

}  // namespace lockstep
