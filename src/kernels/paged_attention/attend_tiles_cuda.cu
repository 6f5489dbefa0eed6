// A block attends for a tile of rows of one sequence and the query heads that share a key head: 64 (row,
// head) pairs for each of two warp groups. They walk the sequence's tokens from position 0 in tiles, which a
// third one brings to shared memory, two on their way. While matrix units multiply the weights of a tile by
// its values, the warp group makes weights of the next tile's scores, and the other one what suits it: they
// wait for tiles, not for each other. Tokens behind a row weigh nothing in it: a tile that a row does not see
// changes no bit of it, so its bits do not depend on the rows beside it.
#include "kernels/cuda_kernels.h"
#include "kernels/paged_attention/bring_tiles.cuh"

namespace lockstep::cuda {
namespace {

using namespace tiles;  // NOLINT

constexpr int kMaxSize = 256;  // of a head
// Of a thread: 65,536 / 384 in steps of 8 at first, and no more in all later: the block would wait for ever.
constexpr int kBringRegisters = 56, kAttendRegisters = 224, kFirstRegisters = 168;
static_assert(kBringRegisters + kGroups * kAttendRegisters <= (kGroups + 1) * kFirstRegisters);

// Whether rows and heads begin at multiples of `floats`.
__device__ bool is_aligned(const TensorView& view, int floats) {
  return (view.strides[0] | view.strides[1]) % floats == 0 &&
         reinterpret_cast<uintptr_t>(view.data) % (floats * sizeof(float)) == 0;
}

// Threads that attend are the first ones.
template <int W>
__device__ void fill_queries(const PagedAttentionArgs& args, const Problem& problem, Memory<W>& memory) {
  constexpr int kVectors = W / 8;
  const bool in_fours = is_aligned(args.q, 4);
#pragma unroll 8
  for (int i = threadIdx.x; i < kRows * kVectors; i += kGroups * kGroupThreads) {
    const int pair = i / kVectors, v = i % kVectors;
    uint4 words = make_uint4(0, 0, 0, 0);
    if (pair < pairs_of(problem) && v * 8 < args.cache.head_dim) {
      const float* q = at<const float>(args.q, problem.first_row + pair / problem.heads,
                                       problem.first_head + pair % problem.heads) +
                       v * 8;
      float eight[8];
      if (in_fours) {
        *reinterpret_cast<float4*>(eight) = *reinterpret_cast<const float4*>(q);
        *reinterpret_cast<float4*>(eight + 4) = *reinterpret_cast<const float4*>(q + 4);
      } else {
        for (int j = 0; j < 8; ++j) eight[j] = q[j];
      }
      __nv_bfloat16* rounded = reinterpret_cast<__nv_bfloat16*>(&words);
      for (int j = 0; j < 8; ++j) rounded[j] = from_float<__nv_bfloat16>(eight[j]);
    }
    *reinterpret_cast<uint4*>(memory.queries[v / 8] + swizzled(pair, v % 8)) = words;
  }
}

__device__ bool is_finite(uint32_t two) {
  return (two & 0x7F80u) != 0x7F80u && (two & 0x7F800000u) != 0x7F800000u;
}

// A value that is not finite would reach rows that do not see its token, as zero times infinity. Takes it out
// and notes its token, of tokens from `hidden` of the tile on; the same answer for all threads that attend:
// whether there was one.
template <int W>
__device__ bool take_out(int tile, int hidden, Memory<W>& memory) {
  constexpr int kVectors = W / 8;
  const int stage = memory.of_values.of(tile);
  bool found = false;
  memory.of_values.await(tile);
  for (int i = hidden * kVectors + threadIdx.x; i < Memory<W>::kTile * kVectors;
       i += kGroups * kGroupThreads) {
    const int token = i / kVectors, v = i % kVectors;
    auto* vector = reinterpret_cast<uint4*>(memory.values[stage][v / 8] + swizzled(token, v % 8));
    const uint4 words = *vector;
    if (is_finite(words.x) && is_finite(words.y) && is_finite(words.z) && is_finite(words.w)) continue;
    *vector = make_uint4(0, 0, 0, 0);
    memory.not_finite[stage][token] = tile + 1;
    found = true;
  }
  show_to_matrix_units();
  return await_groups(found);
}

// What a thread has of two rows of its warp group: lane / 4 of its warp's 16, and 8 behind it.
template <int W>
struct Sums {
  static constexpr int kColumns = W % 128 == 0 ? 128 : 64;  // of a product
  int visible[2];                                           // tokens; 0: no such row
  float top[2] = {-INFINITY, -INFINITY};
  float total[2] = {0.0f, 0.0f};  // of this thread's tokens
  float out[W / kColumns][kColumns / 2] = {};
};

// Begins the products of queries and keys, which have come.
template <int W>
__device__ void score_tile(const Memory<W>& memory, int tile, float (&scores)[Memory<W>::kTile / 2]) {
  const int group = static_cast<int>(threadIdx.x) / kGroupThreads;
  const Operand a = operand_at(memory.queries[0] + group * kGroupRows * kLineBytes);
  const Operand b = operand_at(memory.keys[memory.of_keys.of(tile)]);
  begin_products();
#pragma unroll
  for (int chunk = 0; chunk < W / kLineElements; ++chunk) {
#pragma unroll
    for (int k = 0; k < kLineElements / 16; ++k) {
      multiply_lines(scores, a.behind(chunk * kRows * kLineBytes + k * 32),
                     b.behind(chunk * Memory<W>::kTile * kLineBytes + k * 32), chunk + k > 0);
    }
  }
  commit_products();
}

// Begins those of weights and values, which have come.
template <int W>
__device__ void add_values(const Memory<W>& memory, int tile, uint32_t (&weights)[Memory<W>::kTile / 4],
                           Sums<W>& sums) {
  constexpr int kTileBytes = Memory<W>::kTile * kLineBytes;
  const Operand b = operand_at(memory.values[memory.of_values.of(tile)], kTileBytes);
  keep_products(weights);
  for (auto& out : sums.out) keep_products(out);
  begin_products();
#pragma unroll
  for (int k = 0; k < Memory<W>::kTile / 16; ++k) {
#pragma unroll
    for (int part = 0; part < W / Sums<W>::kColumns; ++part) {
      constexpr int kPartBytes = Sums<W>::kColumns / kLineElements * kTileBytes;
      multiply_registers(sums.out[part], weights + 4 * k, b.behind(part * kPartBytes + k * 16 * kLineBytes));
    }
  }
  commit_products();
}

// Scores of tokens that a row does not see become -infinity; of those whose value is not finite, NaN.
template <int W>
__device__ void hide_tokens(const Memory<W>& memory, int tile, bool not_finite, const Sums<W>& sums,
                            float (&scores)[Memory<W>::kTile / 2]) {
  const int* noted = memory.not_finite[memory.of_values.of(tile)];
#pragma unroll
  for (int i = 0; i < Memory<W>::kTile / 2; ++i) {
    const int token = i / 4 * 8 + static_cast<int>(threadIdx.x % 4) * 2 + i % 2;
    if (not_finite && noted[token] == tile + 1) scores[i] = __int_as_float(0x7FC00000);
    if (tile * Memory<W>::kTile + token >= sums.visible[i / 2 % 2]) scores[i] = -INFINITY;
  }
}

// Scores become weights, relative to a new top; `before` brings the sums so far to it. A score of -infinity
// weighs nothing; one that is no number makes the total none.
template <int W, int N>
__device__ void weigh_tile(float scale, float (&scores)[N], Sums<W>& sums, float (&before)[2]) {
  float shift[2], tops[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
#pragma unroll
  for (int i = 0; i < N; ++i) tops[i % 4] = fmaxf(tops[i % 4], scores[i]);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float top = fmaxf(tops[2 * r], tops[2 * r + 1]);
    for (int offset = 1; offset < 4; offset *= 2) top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, offset));
    top = fmaxf(top * scale, sums.top[r]);
    before[r] = sums.top[r] == -INFINITY ? 0.0f : exp2_of(sums.top[r] - top);
    shift[r] = top == -INFINITY ? 0.0f : top;  // then every score is -infinity, and weighs nothing
    sums.top[r] = top;
    sums.total[r] *= before[r];
  }
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const int r = i / 2 % 2;
    scores[i] = exp2_of(__fmaf_rn(scores[i], scale, -shift[r]));
    sums.total[r] += scores[i];
  }
}

// Most tiles leave the top where it was.
template <int W>
__device__ void scale_sums(const float (&before)[2], Sums<W>& sums) {
  if (!__any_sync(kAllLanes, before[0] != 1.0f || before[1] != 1.0f)) return;
  for (auto& out : sums.out) {
#pragma unroll
    for (int i = 0; i < Sums<W>::kColumns / 2; ++i) out[i] *= before[i / 2 % 2];
  }
}

template <int N>
__device__ void round_weights(const float (&scores)[2 * N], uint32_t (&weights)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const __nv_bfloat162 two = __floats2bfloat162_rn(scores[2 * i], scores[2 * i + 1]);
    weights[i] = *reinterpret_cast<const uint32_t*>(&two);
  }
}

template <int W, typename Bringer>
__device__ void attend(const PagedAttentionArgs& args, const Problem& problem, Memory<W>& memory,
                       Sums<W>& sums) {
  constexpr int kTile = Memory<W>::kTile;
  const float scale = args.scale * kLog2E;
  const int tiles = tiles_of<W>(problem);
  float scores[kTile / 2], before[2];
  uint32_t weights[kTile / 4];  // of the tile before
  const auto weigh = [&](int tile) {
    memory.of_keys.leave(tile);
    const int hidden = problem.position + 1 - tile * kTile;  // from the first row
    if (hidden < kTile) {
      const bool not_finite = take_out<W>(tile, hidden > 0 ? hidden : 0, memory);
      hide_tokens<W>(memory, tile, not_finite, sums, scores);
    }
    weigh_tile<W>(scale, scores, sums, before);
  };
  // Behind the products of a tile's values, if there are any.
  const auto take_sums = [&](int tile) {
    await_products();
    for (auto& out : sums.out) keep_products(out);
    if (tile >= 0) memory.of_values.leave(tile);
    scale_sums<W>(before, sums);
    round_weights(scores, weights);
  };
  memory.of_keys.await(0);
  Bringer::show_tiles();
  score_tile<W>(memory, 0, scores);
  await_products();
  keep_products(scores);
  weigh(0);
  for (int tile = 1; tile < tiles; ++tile) {
    take_sums(tile - 2);  // here, since the compiler moves no wait from here to before the exponentials
    memory.of_keys.await(tile);
    memory.of_values.await(tile - 1);
    Bringer::show_tiles();
    score_tile<W>(memory, tile, scores);
    add_values<W>(memory, tile - 1, weights, sums);
    await_products<1>();
    keep_products(scores);
    weigh(tile);
  }
  take_sums(tiles - 2);
  memory.of_values.await(tiles - 1);
  Bringer::show_tiles();
  add_values<W>(memory, tiles - 1, weights, sums);
  await_products();
  for (auto& out : sums.out) keep_products(out);
}

template <int W>
__device__ void write_rows(const PagedAttentionArgs& args, const Problem& problem, Sums<W>& sums) {
  constexpr int kColumns = Sums<W>::kColumns;
  const int lane = threadIdx.x % kWarp, head_dim = args.cache.head_dim;
  const bool in_pairs = is_aligned(args.out, 2);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float total = sums.total[r];
    for (int offset = 1; offset < 4; offset *= 2) total += __shfl_xor_sync(kAllLanes, total, offset);
    const int pair = static_cast<int>(threadIdx.x) / kWarp * 16 + lane / 4 + 8 * r;
    if (pair >= pairs_of(problem)) continue;
    const float scale = 1.0f / total;
    float* out = at<float>(args.out, problem.first_row + pair / problem.heads,
                           problem.first_head + pair % problem.heads);
#pragma unroll
    for (int part = 0; part < W / kColumns; ++part) {
#pragma unroll
      for (int i = 2 * r; i < kColumns / 2; i += 4) {
        const int d = part * kColumns + i / 4 * 8 + lane % 4 * 2;
        const float* sum = sums.out[part] + i;
        const float2 two =
            total == 0.0f ? make_float2(0.0f, 0.0f) : make_float2(sum[0] * scale, sum[1] * scale);
        if (d >= head_dim) continue;
        if (in_pairs) {
          *reinterpret_cast<float2*>(out + d) = two;
        } else {
          out[d] = two.x;
          out[d + 1] = two.y;
        }
      }
    }
  }
}

// The tile that a block has. Tiles of sequence s begin at number starts[s] / tile_rows + s: sequences leave
// no number twice, and skip few. Long sequences' last tiles, which read most, come first, for all key heads.
__device__ bool find_tile(const PagedAttentionArgs& args, int tile_rows, Problem& problem) {
  const auto* starts = static_cast<const int32_t*>(args.query_start_loc.data);
  const int64_t number = (gridDim.x - 1 - blockIdx.x) / args.cache.heads;
  int64_t low = 0, high = live(args.num_seqs, dim(args.seq_lens, 0));
  while (low < high) {  // the first sequence whose successor's tiles begin behind the number
    const int64_t middle = (low + high) / 2;
    if (starts[middle + 1] / tile_rows + middle + 1 > number) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  if (low >= live(args.num_seqs, dim(args.seq_lens, 0))) return false;
  const int64_t rows = starts[low + 1] - starts[low],
                behind = (number - starts[low] / tile_rows - low) * tile_rows;
  if (rows < 2 || behind >= rows || starts[low + 1] > live(args.num_rows, dim(args.q, 0))) return false;
  problem.rows = static_cast<int>(rows - behind < tile_rows ? rows - behind : tile_rows);
  problem.first_row = starts[low] + behind;
  problem.position = static_cast<int>(static_cast<const int32_t*>(args.seq_lens.data)[low] - rows + behind);
  problem.pages = row<const int32_t>(args.page_table, static_cast<const int32_t*>(args.table_rows.data)[low]);
  return true;
}

// Rows behind the last live sequence's, shared by all blocks of the key head and the threads that attend.
__device__ void write_pads(const PagedAttentionArgs& args, const Problem& problem) {
  const int64_t rows = dim(args.q, 0), width = int64_t{problem.heads} * args.cache.head_dim;
  const int64_t seqs = live(args.num_seqs, dim(args.seq_lens, 0)), live_rows = live(args.num_rows, rows);
  const int64_t owned = static_cast<const int32_t*>(args.query_start_loc.data)[seqs];
  const int64_t first = blockIdx.x / args.cache.heads, blocks = gridDim.x / args.cache.heads;
  for (int64_t t = (owned < live_rows ? owned : live_rows) + first; t < rows; t += blocks) {
    for (int64_t e = threadIdx.x; e < width; e += kGroups * kGroupThreads)
      at<float>(args.out, t, problem.first_head + e / args.cache.head_dim)[e % args.cache.head_dim] = 0.0f;
  }
}

template <int W, template <int> typename Bringer>
__global__ void __launch_bounds__((kGroups + 1) * kGroupThreads, 1)
    attend_tile(const __grid_constant__ TileArgs tiles) {
  extern __shared__ unsigned char shared[];
  const auto base = reinterpret_cast<uintptr_t>(shared);
  auto& memory = *reinterpret_cast<Memory<W>*>(shared + (kAlignment - base % kAlignment) % kAlignment);
  const PagedAttentionArgs& args = tiles.attention;
  await_launches();
  Problem problem{};
  problem.kv_head = blockIdx.x % args.cache.heads;
  problem.heads = static_cast<int>(dim(args.q, 1) / args.cache.heads);
  problem.first_head = problem.kv_head * problem.heads;
  constexpr int kAttend = kGroups * kGroupThreads;
  if (!find_tile(args, kRows / problem.heads, problem)) {
    if (threadIdx.x < kAttend) write_pads(args, problem);
    return;
  }
  for (int i = threadIdx.x; i < Memory<W>::kStages * Memory<W>::kTile; i += blockDim.x)
    memory.not_finite[i / Memory<W>::kTile][i % Memory<W>::kTile] = 0;
  if (threadIdx.x == 0) {
    memory.of_keys.begin(Bringer<W>::kBringers, kGroups * kWarps);
    memory.of_values.begin(Bringer<W>::kBringers, kGroups * kWarps);
    show_to_matrix_units();  // and to copies
  }
  __syncthreads();
  if (threadIdx.x >= kAttend) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kBringRegisters));
    if (threadIdx.x < kAttend + Bringer<W>::kThreads) Bringer<W>(tiles, problem, memory).bring_all();
    return;
  }
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kAttendRegisters));
  fill_queries<W>(args, problem, memory);
  show_to_matrix_units();
  await_groups(false);
  Sums<W> sums;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int pair =
        static_cast<int>(threadIdx.x) / kWarp * 16 + static_cast<int>(threadIdx.x) % kWarp / 4 + 8 * r;
    sums.visible[r] = pair < pairs_of(problem) ? problem.position + pair / problem.heads + 1 : 0;
  }
  attend<W, Bringer<W>>(args, problem, memory, sums);
  write_rows<W>(args, problem, sums);
  write_pads(args, problem);
}

template <int W>
void attend_with(const PagedAttentionArgs& args, const Worker& worker) {
  const KvView& cache = args.cache;
  const int64_t tile_rows = kRows / (args.q.dim(1) / cache.heads);
  const Grid grid{blocks_of((args.q.dim(0) / tile_rows + args.seq_lens.dim(0)) * cache.heads),
                  (kGroups + 1) * kGroupThreads, sizeof(Memory<W>) + kAlignment};
  const auto with = [&](void (*kernel)(TileArgs), const TileArgs& tiles) {
    allow_shared(worker, kernel, grid.shared_bytes);
    launch_early(worker, kernel, grid, tiles);
  };
  const int32_t tokens = box_tokens(cache, Memory<W>::kTile);
  if (tokens == 0) return with(attend_tile<W, VectorBringer>, {.attention = args, .keys = {}, .values = {}});
  auto& queue = *static_cast<CudaQueue*>(worker.queue);
  with(attend_tile<W, BoxBringer>, {.attention = args,
                                    .box_tokens = tokens,
                                    .keys = plane_boxes(cache, cache.k, tokens, queue),
                                    .values = plane_boxes(cache, cache.v, tokens, queue)});
}

}  // namespace

bool suits_tiles(const PagedAttentionArgs& args) {
  const KvView& cache = args.cache;
  const int64_t per_kv = args.q.dim(1) / cache.heads;
  return args.input == MatmulInput::kBF16 && cache.dtype == DType::kBF16 && cache.head_dim <= kMaxSize &&
         per_kv <= kRows && has_vectors(cache.k, cache.head_dim) && has_vectors(cache.v, cache.head_dim);
}

void attend_tiles(const PagedAttentionArgs& args, const Worker& worker) {
  const int32_t size = args.cache.head_dim;
  if (size <= 64) return attend_with<64>(args, worker);
  if (size <= 128) return attend_with<128>(args, worker);
  if (size <= 192) return attend_with<192>(args, worker);
  attend_with<256>(args, worker);
}

}  // namespace lockstep::cuda
