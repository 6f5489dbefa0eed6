#include "comm/rank_kernels.h"
#include "kernels/common/device_math.cuh"

namespace lockstep {
namespace {

constexpr int kThreads = 256;

unsigned blocks_for(int64_t items) { return static_cast<unsigned>((items + kThreads - 1) / kThreads); }
__device__ int64_t item() { return static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; }
__device__ float nan() { return __int_as_float(0x7FC00000); }

__device__ float4 plus(float4 a, float4 b) { return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w}; }
__device__ float plus(float a, float b) { return a + b; }

// V is what a thread adds up at once: 1 float or 4.
template <typename V>
__global__ void __launch_bounds__(kThreads) add(const __grid_constant__ AddPartsArgs args) {
  const int64_t i = item(), count = args.count / static_cast<int64_t>(sizeof(V) / sizeof(float));
  if (i >= count) return;
  const V* parts = reinterpret_cast<const V*>(args.parts) + i;
  V sum = parts[0];
  for (int64_t part = 1; part < args.ranks; ++part) sum = plus(sum, parts[part * count]);
  reinterpret_cast<V*>(args.sum)[i] = sum;
}

__global__ void __launch_bounds__(kThreads) copy(const __grid_constant__ CopyPaddedArgs args) {
  const int64_t i = item();
  if (i < args.room) args.to[i] = i < args.count ? args.from[i] : 0.0f;
}

__global__ void __launch_bounds__(kThreads) join(const __grid_constant__ JoinColumnsArgs args) {
  const int64_t row = blockIdx.y, column = item();
  if (column >= args.width) return;
  const int64_t rank = column / args.columns;
  args.out[row * args.width + column] =
      args.parts[(rank * args.rows + row) * args.columns + column % args.columns];
}

__global__ void __launch_bounds__(kThreads) pack(const __grid_constant__ PackKvArgs args) {
  const int64_t t = blockIdx.x, heads = cuda::dim(args.k, 1), width = cuda::dim(args.k, 2);
  const bool is_live = t < cuda::live(args.num_rows, cuda::dim(args.k, 0));
  float* to = args.to + t * 2 * heads * width;
  for (int64_t i = threadIdx.x; i < 2 * heads * width; i += kThreads) {
    const int64_t head = i / width % heads;
    const TensorView& x = i < heads * width ? args.k : args.v;
    to[i] = is_live ? cuda::at<const float>(x, t, head)[i % width] : 0.0f;
  }
}

__global__ void __launch_bounds__(kThreads) bring(const __grid_constant__ BringRowsArgs args) {
  const int64_t r = blockIdx.x, width = cuda::dim(args.x, 1);
  const bool mine = r < cuda::live(args.live, args.count) && args.places[r] / args.count == args.rank;
  const int64_t row = mine ? args.rows[r] : 0;
  const bool there = row >= 0 && row < cuda::dim(args.x, 0);
  const float* from = cuda::row<const float>(args.x, there ? row : 0);
  for (int64_t i = threadIdx.x; i < width; i += kThreads)
    args.to[r * width + i] = !mine ? 0.0f : there ? from[i] : nan();
}

__global__ void __launch_bounds__(kThreads) place(const __grid_constant__ PlaceRowsArgs args) {
  const int64_t r = blockIdx.x;
  const bool is_live = r < cuda::live(args.live, args.count);
  const int64_t from = is_live ? args.places[r] : 0;
  const bool there = is_live && from >= 0 && from < args.count * args.ranks;
  for (int64_t i = threadIdx.x; i < args.width; i += kThreads)
    args.out[r * args.width + i] = there ? args.all[from * args.width + i] : is_live ? nan() : 0.0f;
}

bool in_fours(const AddPartsArgs& args) {
  const auto at = reinterpret_cast<uintptr_t>(args.parts) | reinterpret_cast<uintptr_t>(args.sum);
  return args.count % 4 == 0 && at % sizeof(float4) == 0;
}

void add_parts(const AddPartsArgs& args, Worker worker) {
  if (in_fours(args)) {
    cuda::launch_grid(worker, add<float4>, {blocks_for(args.count / 4), kThreads}, args);
  } else {
    cuda::launch_grid(worker, add<float>, {blocks_for(args.count), kThreads}, args);
  }
}

void copy_padded(const CopyPaddedArgs& args, Worker worker) {
  cuda::launch_grid(worker, copy, {blocks_for(args.room), kThreads}, args);
}

void join_columns(const JoinColumnsArgs& args, Worker worker) {
  cuda::launch_grid(worker, join, {dim3(blocks_for(args.width), static_cast<unsigned>(args.rows)), kThreads},
                    args);
}

void pack_kv(const PackKvArgs& args, Worker worker) {
  cuda::launch_grid(worker, pack, {static_cast<unsigned>(args.k.dim(0)), kThreads}, args);
}

void bring_rows(const BringRowsArgs& args, Worker worker) {
  cuda::launch_grid(worker, bring, {static_cast<unsigned>(args.count), kThreads}, args);
}

void place_rows(const PlaceRowsArgs& args, Worker worker) {
  cuda::launch_grid(worker, place, {static_cast<unsigned>(args.count), kThreads}, args);
}

constexpr RankKernels kOnDevice{.add_parts = add_parts,
                                .copy_padded = copy_padded,
                                .join_columns = join_columns,
                                .pack_kv = pack_kv,
                                .bring_rows = bring_rows,
                                .place_rows = place_rows};

}  // namespace

const RankKernels& cuda_rank_kernels() { return kOnDevice; }

}  // namespace lockstep
