// What the rows of each chunk of lightning attention say to each other, for all chunks at once; with c rows:
//   weights_ij = decay^(i - j) q_i k_j of rows j <= i    in_i = decay^(i + 1)    out_i = decay^(c - 1 - i)
#pragma once

#include "kernels/common/recurrent_find.cuh"
#include "kernels/common/recurrent_launch.cuh"

namespace lockstep::cuda {

template <int D>
struct LightningFindMemory {
  __nv_bfloat16 q[kChunkRows][kKeyLine<D>];
  __nv_bfloat16 k[kChunkRows][kKeyLine<D>];
  float powers[kChunkRows + 1];  // of the decay
};

// A block per chunk and head. Four warps multiply; of the heads that share keys the first keeps those.
template <int D>
__global__ void __launch_bounds__(kFindThreads)
    find_lightning_chunk(const __grid_constant__ RecurrentArgs args) {
  extern __shared__ __align__(16) unsigned char bytes[];
  auto& memory = *reinterpret_cast<LightningFindMemory<D>*>(bytes);
  const ChunkPlace chunk(args, blockIdx.x);
  if (chunk.count == 0) return;
  const int64_t head = blockIdx.y, heads = gridDim.y;
  auto* keys = reinterpret_cast<__nv_bfloat16*>(args.scratch + args.at.key);
  round_rows<D, false>(args.q, head, chunk, args.scale, memory.q,
                       reinterpret_cast<__nv_bfloat16*>(args.scratch + args.at.query), heads);
  round_rows<D, false>(args.k, head / args.key_group, chunk, 1.0f, memory.k,
                       head % args.key_group == 0 ? keys : nullptr, heads / args.key_group);
  if (threadIdx.x <= kChunkRows) {
    const double log_decay = log(double{args.decay[head]});
    memory.powers[threadIdx.x] = static_cast<float>(exp(threadIdx.x * log_decay));
  }
  __syncthreads();
  const int row = static_cast<int>(threadIdx.x / kWarp) * 16, r = threadIdx.x - kChunkRows * 2;
  if (row < kChunkRows) {
    TileSums sums[8];
    multiply_rows_below<D>(memory.q, memory.k, row, sums);
    auto* weights = reinterpret_cast<__nv_bfloat16*>(args.scratch + args.at.weights);
    for_sums(sums, row, [&](int i, int j, float one, float two) {
      if (i >= chunk.count) return;
      const float a = j <= i ? memory.powers[i - j] * one : 0.0f,
                  b = j + 1 <= i ? memory.powers[i - j - 1] * two : 0.0f;
      auto* to = weights + ((chunk.begin + i) * heads + head) * kChunkRows + j;
      *reinterpret_cast<uint32_t*>(to) = packed(a, b);
    });
  } else if (r < chunk.count) {
    auto* gates = reinterpret_cast<float4*>(args.scratch + args.at.gates);
    gates[(chunk.begin + r) * heads + head] =
        make_float4(1.0f, memory.powers[r + 1], memory.powers[chunk.count - 1 - r], 0.0f);
  }
}

template <int D>
void find_lightning_chunks(const RecurrentArgs& args, int64_t chunks, const Worker& worker) {
  constexpr size_t kBytes = sizeof(LightningFindMemory<D>);
  allow_shared(worker, find_lightning_chunk<D>, kBytes);
  launch_grid(worker, find_lightning_chunk<D>, {blocks_of(chunks, args.q.dim(1)), kFindThreads, kBytes},
              args);
}

}  // namespace lockstep::cuda
