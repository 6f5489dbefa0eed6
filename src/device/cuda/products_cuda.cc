#include <cuda_runtime_api.h>

#include "device/cuda/products.cuh"

namespace lockstep {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;  // what the library asks for on Hopper

Status library_status(cublasStatus_t code, std::string_view what) {
  if (code == CUBLAS_STATUS_SUCCESS) return {};
  return error(Code::kInternal, "cublasLt: ", what, ": ", cublasLtGetStatusString(code),
               "; expected success");
}

}  // namespace

Products::~Products() {
  for (const auto& [shape, plan] : plans_) release(plan);
  if (workspace_ != nullptr) cudaFree(workspace_);
  if (handle_ != nullptr) cublasLtDestroy(handle_);
}

void Products::release(const Plan& plan) {
  if (plan.product != nullptr) cublasLtMatmulDescDestroy(plan.product);
  for (const cublasLtMatrixLayout_t layout : {plan.weight, plan.x, plan.out}) {
    if (layout != nullptr) cublasLtMatrixLayoutDestroy(layout);
  }
}

Status Products::open() {
  LS_TRY(library_status(cublasLtCreate(&handle_), "a handle"));
  if (cudaMalloc(&workspace_, kWorkspaceBytes) == cudaSuccess) return {};
  return error(Code::kResourceExhausted, "cublasLt: its workspace of ", kWorkspaceBytes,
               " bytes was not to be had; free device memory");
}

// The library counts columns first: out' = weight * x', with the weight transposed.
Status Products::describe(const ProductArgs& args, Plan& plan) {
  const auto inputs = static_cast<uint64_t>(args.inputs), outputs = static_cast<uint64_t>(args.outputs);
  const auto rows = static_cast<uint64_t>(args.rows);
  const cublasOperation_t transposed = CUBLAS_OP_T;
  LS_TRY(
      library_status(cublasLtMatmulDescCreate(&plan.product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a product"));
  LS_TRY(library_status(cublasLtMatmulDescSetAttribute(plan.product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                                       sizeof(transposed)),
                        "a product"));
  LS_TRY(library_status(cublasLtMatrixLayoutCreate(&plan.weight, CUDA_R_16BF, inputs, outputs, args.inputs),
                        "a layout"));
  LS_TRY(library_status(cublasLtMatrixLayoutCreate(&plan.x, CUDA_R_16BF, inputs, rows, args.inputs),
                        "a layout"));
  return library_status(cublasLtMatrixLayoutCreate(&plan.out, CUDA_R_32F, outputs, rows, args.out_stride),
                        "a layout");
}

Status Products::choose(Plan& plan) {
  cublasLtMatmulPreference_t preference = nullptr;
  LS_TRY(library_status(cublasLtMatmulPreferenceCreate(&preference), "a preference"));
  const auto alignment = static_cast<uint32_t>(kAlignment);
  cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspaceBytes,
                                       sizeof(kWorkspaceBytes));
  for (const auto operand :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    cublasLtMatmulPreferenceSetAttribute(preference, operand, &alignment, sizeof(alignment));
  cublasLtMatmulHeuristicResult_t result{};
  int found = 0;
  const cublasStatus_t code = cublasLtMatmulAlgoGetHeuristic(
      handle_, plan.product, plan.weight, plan.x, plan.out, plan.out, preference, 1, &result, &found);
  cublasLtMatmulPreferenceDestroy(preference);
  LS_TRY(library_status(code, "an algorithm"));
  if (found == 0) return error(Code::kInternal, "cublasLt: no algorithm for a product; expected one");
  plan.algorithm = result.algo;
  return {};
}

Status Products::multiply(const ProductArgs& args, cudaStream_t stream) {
  const Shape shape{args.rows, args.outputs, args.inputs, args.out_stride};
  auto found = plans_.find(shape);
  if (found == plans_.end()) {
    found = plans_.emplace(shape, Plan{}).first;
    Status status = describe(args, found->second);
    if (status.ok()) status = choose(found->second);
    if (!status.ok()) {
      release(found->second);
      plans_.erase(found);
      return status;
    }
  }
  const Plan& plan = found->second;
  const float one = 1.0f, zero = 0.0f;
  return library_status(
      cublasLtMatmul(handle_, plan.product, &one, args.weight, plan.weight, args.x, plan.x, &zero, args.out,
                     plan.out, args.out, plan.out, &plan.algorithm, workspace_, kWorkspaceBytes, stream),
      "a product");
}

}  // namespace lockstep
