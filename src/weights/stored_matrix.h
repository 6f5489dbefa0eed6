// How a checkpoint holds one source matrix of a plan: as plain numbers, or as codes with scales. The header
// decides, for every matrix by itself; the config says how codes are to be read (quantisation.h).
//
// A matrix [N, K] called X.weight is stored as one of
//   plain  X.weight  f32, f16 or bf16 [N, K]
//   fp8    X.weight  f8e4m3 [N, K]        X.weight_scale_inv  float [ceil(N / rows), ceil(K / columns)]
//   awq    X.qweight i32 [K, N / 8]       X.scales float [G, N]      X.qzeros i32 [G, N / 8]
//   gptq   X.qweight i32 [K / 8, N]       X.scales float [G, N]      X.qzeros i32 [G, N / 8]    X.g_idx i32
//   [K]
// with G groups of inputs. A packed tensor of several experts has a dimension of experts in front of these.
// Source: the loaders of transformers, AutoAWQ, AutoGPTQ and vLLM, whose formulas dequantise.h states.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "weights/checkpoint.h"
#include "weights/quantisation.h"

namespace lockstep {

enum class StoredAs : uint8_t { kPlain, kFp8, kAwq, kGptq };

// A matrix that a plan reads, under the name that it has when it is plain.
struct WantedMatrix {
  std::string name{};
  int64_t rows = 0;     // N
  int64_t k = 0;        // K
  int64_t experts = 0;  // of a packed tensor; 0: the tensor is one matrix
};

struct StoredMatrix {
  StoredAs as = StoredAs::kPlain;
  int64_t rows = 0;  // of one expert
  int64_t k = 0;
  const StoredTensor* values = nullptr;    // numbers or codes
  const StoredTensor* scales = nullptr;    // null where plain
  const StoredTensor* zeros = nullptr;     // awq, gptq; null: all are 8
  const StoredTensor* group_of = nullptr;  // gptq: the group of every input; null: they follow one another
  int64_t groups = 0;                      // awq, gptq: G
  int64_t group_size = 0;                  // awq, gptq
  Quantisation by{};

  std::array<const StoredTensor*, 4> tensors() const { return {values, scales, zeros, group_of}; }
};

// Whether the header has the matrix in any form. O(log tensors).
bool is_stored(const Checkpoint& checkpoint, const std::string& name);

// The narrowest float type that holds its values exactly: f32 of codes. Nothing when it is not stored.
std::optional<DType> exact_dtype_of(const Checkpoint& checkpoint, const std::string& name);

// Finds its tensors and holds types and shapes to the forms above. Errors, beginning with `who`: kNotFound
// for a tensor that is missing, kInvalidArgument for a type or shape that does not fit, or codes that `by`
// does not explain.
Result<StoredMatrix> find_matrix(const Checkpoint& checkpoint, const Quantisation& by,
                                 const WantedMatrix& wanted, std::string_view who);

}  // namespace lockstep
