// What a launch of a collective does in its own memory, before and after the exchange: on the host, and on a
// device. Numbers are f32; sums are made in order of ranks.
#pragma once

#include "base/units.h"
#include "device/stream.h"
#include "tensor/tensor.h"

namespace lockstep {

// sum[i] = parts[i] + parts[count + i] + ..., of parts that lie one behind the other, in this order.
struct AddPartsArgs {
  const float* parts = nullptr;
  float* sum = nullptr;
  int64_t count = 0;
  int64_t ranks = 0;
};

// to[i] = from[i] for i < count; then zeros, up to `room`.
struct CopyPaddedArgs {
  const float* from = nullptr;
  float* to = nullptr;
  int64_t count = 0;
  int64_t room = 0;
};

// out [rows, width]: the columns of every rank's part [rows, columns] side by side, those past `width` left
// out.
struct JoinColumnsArgs {
  const float* parts = nullptr;
  float* out = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t width = 0;
};

// to [T, 2, K, D]: the live rows of k and v; later ones are zero.
struct PackKvArgs {
  TensorView k;  // [T, K, D], any stride of T and K
  TensorView v;  // likewise
  float* to = nullptr;
  const LiveRows* num_rows = nullptr;
};

// to [R, E]: row rows[r] of x where places[r] / R is this rank; NaN where x has no such row; else zero.
struct BringRowsArgs {
  TensorView x;  // [T, E], any row stride
  const int32_t* rows = nullptr;
  const int32_t* places = nullptr;
  float* to = nullptr;
  int64_t count = 0;  // R
  int64_t rank = 0;
  const LiveRows* live = nullptr;
};

// out [R, E]: row places[r] of all [ranks * R, E] for live r, NaN where there is none; then zeros.
struct PlaceRowsArgs {
  const float* all = nullptr;
  const int32_t* places = nullptr;
  float* out = nullptr;
  int64_t count = 0;  // R
  int64_t width = 0;  // E
  int64_t ranks = 0;
  const LiveRows* live = nullptr;
};

struct RankKernels {
  Kernel<AddPartsArgs> add_parts = nullptr;
  Kernel<CopyPaddedArgs> copy_padded = nullptr;
  Kernel<JoinColumnsArgs> join_columns = nullptr;
  Kernel<PackKvArgs> pack_kv = nullptr;
  Kernel<BringRowsArgs> bring_rows = nullptr;
  Kernel<PlaceRowsArgs> place_rows = nullptr;
};

const RankKernels& host_rank_kernels();
const RankKernels& cuda_rank_kernels();  // in builds of the preset cuda

}  // namespace lockstep
