// Compressed keys of InfLLM-V2: means of keys over windows, appended to a paged cache of their own whenever a
// window is complete.
//   K1[j] = mean of keys [16 j, 16 j + 32),  K2[j] = mean of keys [64 j, 64 j + 128)
// K1[j] lies in the page of token 16 j + 31, which completes it, at that token's slot / 16; K2[j] in the page
// of token 64 j + 127, at its slot / 64. So a page of B tokens holds B / 16 rows of K1 and B / 64 of K2, row
// j + 1 of a sequence is its window j, and row 0 is never written.
#pragma once

#include "base/units.h"
#include "kernels/common/launcher.h"
#include "kernels/kv_cache/kv_view.h"
#include "tensor/op_spec.h"
#include "tensor/tensor.h"

namespace lockstep {

// Keys of a window, and from one window to the next.
struct KeyWindows {
  int64_t tokens = 0;
  int64_t stride = 0;

  // Windows that are complete where a sequence has so many tokens.
  [[gnu::always_inline]] constexpr int64_t complete(int64_t length) const {
    return length < tokens ? 0 : (length - tokens) / stride + 1;
  }
  // Tokens from the beginning of the sequence to the end of window j.
  [[gnu::always_inline]] constexpr int64_t end(int64_t j) const { return j * stride + tokens; }
};
inline constexpr KeyWindows kFineWindows{.tokens = 32, .stride = 16};     // of K1
inline constexpr KeyWindows kCoarseWindows{.tokens = 128, .stride = 64};  // of K2
static_assert(kFineWindows.tokens == 2 * kFineWindows.stride &&
                  kCoarseWindows.tokens == 2 * kCoarseWindows.stride,
              "row j + 1 of a sequence is its window j");

struct CompressKeysArgs {
  KvView cache;                 // this step's keys are stored already
  TensorView page_table;        // [R, M] i32 (PageId): of the keys
  TensorView table_rows;        // [S] i32 (TableRow)
  TensorView compressed_table;  // [R, L] i32 (PageId): of the compressed keys
  TensorView compressed_rows;   // [S] i32 (TableRow)
  TensorView spans;             // [S, 2] i32: first position and count of what the step stores of a sequence
  TensorView k1;                // [P, K, B / 16, D] of the cache's type, any stride of P and K
  TensorView k2;                // [P, K, B / 64, D], likewise
  const LiveSeqs* num_seqs = nullptr;
  int64_t parts = 1;  // of a sequence in the plan: only the first num_seqs / parts are looked at
};

inline constexpr OpArg kCompressKeysArgs[] = {
    {LS_ARG(CompressKeysArgs, cache), .access = Access::kRead, .dims = "PKBD", .rows = RowsTouched::kOwned,
     .any_stride = true},
    {LS_ARG(CompressKeysArgs, page_table), .access = Access::kRead, .dims = "RM", .rows = RowsTouched::kOwned,
     .any_stride = true},
    {LS_ARG(CompressKeysArgs, table_rows), .access = Access::kRead, .dims = "S", .rows = RowsTouched::kLive},
    {LS_ARG(CompressKeysArgs, compressed_table), .access = Access::kRead, .dims = "RL",
     .rows = RowsTouched::kOwned, .any_stride = true},
    {LS_ARG(CompressKeysArgs, compressed_rows), .access = Access::kRead, .dims = "S",
     .rows = RowsTouched::kLive},
    {LS_ARG(CompressKeysArgs, spans), .access = Access::kRead, .dims = "S2", .rows = RowsTouched::kLive},
    {LS_ARG(CompressKeysArgs, k1), .access = Access::kWrite, .dims = "PKJD", .rows = RowsTouched::kOwned,
     .pad = PadRows::kUntouched, .any_stride = true},
    {LS_ARG(CompressKeysArgs, k2), .access = Access::kWrite, .dims = "PKID", .rows = RowsTouched::kOwned,
     .pad = PadRows::kUntouched, .any_stride = true},
    {LS_ARG(CompressKeysArgs, num_seqs), .rows = RowsTouched::kNone},
    {LS_ARG(CompressKeysArgs, parts), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kCompressKeysSpec{
    .name = "compress_keys", .args = kCompressKeysArgs, .args_bytes = sizeof(CompressKeysArgs)};

// Identity: a mean is one f32 sum over the window's keys, oldest first, times 2^-5 or 2^-7, rounded to the
//           cache's type: it follows from the keys as the cache holds them, wherever a prompt is cut.
// Dtypes:  f32, f16, bf16; sums f32.
// Errors:  kInvalidArgument for shapes and dtypes that do not fit, B no multiple of 64.
// Cost:    one launch; four reads of each new key.
// Source:  Zhao et al. 2025, InfLLM-V2.
Status compress_keys(const Launcher& on, const CompressKeysArgs& args, std::string_view stage);

// What `k1` and `k2` of a cache must be. `page_tokens` receives B.
// Errors: kInvalidArgument, naming op and view.
Status check_compressed(std::string_view op, const TensorView& k1, const TensorView& k2,
                        int64_t& page_tokens);

}  // namespace lockstep
