// A block attends for a tile of rows of one sequence and the query heads that share a key head: 64 (row,
// head) pairs per warp group. It walks the sequence's tokens from position 0 in tiles of 64, which all its
// warp groups read from shared memory, while the next tile is on its way there. Tokens behind a row weigh
// nothing in it: a tile that a row does not see changes no bit of it, so its bits do not depend on the rows
// beside it.
#include "kernels/cuda_kernels.h"
#include "kernels/paged_attention/cuda_attention.cuh"
#include "kernels/paged_attention/matrix_units.cuh"

namespace lockstep::cuda {
namespace {

constexpr int kGroupThreads = 128;
constexpr int kGroupRows = 64;
constexpr int kTile = 64;  // tokens
constexpr int kStages = 2;
constexpr int kMaxSize = 256;  // of a head

// Warp groups of a block: as many as registers allow.
constexpr int groups_for(int size) { return size <= 128 ? 3 : 2; }

// Shared memory of a block, for heads of at most W elements, a multiple of 64.
template <int W>
struct Memory {
  static constexpr int kRows = groups_for(W) * kGroupRows, kChunks = W / kLineElements;
  unsigned char queries[kChunks][kRows * kLineBytes];
  unsigned char keys[kStages][kChunks][kTile * kLineBytes];
  unsigned char values[kStages][kChunks][kTile * kLineBytes];
  int not_finite[kStages][kTile];  // 1 + the last tile in which the value of this token was not
};
constexpr int kAlignment = 1024;

struct Problem {
  const int32_t* pages;
  int64_t first_row;  // of the batch
  int64_t kv_head;
  int64_t first_head;                                         // of q
  int heads;                                                  // of q that share the key head
  int rows;                                                   // of the tile
  int position;                                               // of its first row
  __device__ int visible() const { return position + rows; }  // tokens, to its last row
};

__device__ int pairs_of(const Problem& problem) { return problem.rows * problem.heads; }

template <int W>
__device__ void fill_queries(const PagedAttentionArgs& args, const Problem& problem, Memory<W>& memory) {
  constexpr int kVectors = W / 8;
  for (int i = threadIdx.x; i < Memory<W>::kRows * kVectors; i += blockDim.x) {
    const int pair = i / kVectors, v = i % kVectors;
    uint4 words = make_uint4(0, 0, 0, 0);
    if (pair < pairs_of(problem) && v * 8 < args.cache.head_dim) {
      const float* q = at<const float>(args.q, problem.first_row + pair / problem.heads,
                                       problem.first_head + pair % problem.heads) +
                       v * 8;
      __nv_bfloat16* rounded = reinterpret_cast<__nv_bfloat16*>(&words);
      for (int j = 0; j < 8; ++j) rounded[j] = from_float<__nv_bfloat16>(q[j]);
    }
    *reinterpret_cast<uint4*>(memory.queries[v / 8] + swizzled(pair, v % 8)) = words;
  }
}

// Sends for the tokens from `first` on. Those that no row of the tile sees come as zeros.
template <int W>
__device__ void fetch_tokens(const KvView& cache, const Problem& problem, int first, int stage,
                             Memory<W>& memory) {
  constexpr int kVectors = W / 8;
  for (int i = threadIdx.x; i < kTile * kVectors; i += blockDim.x) {
    const int token = i / kVectors, v = i % kVectors, position = first + token;
    const bool there = position < problem.visible() && v * 8 < cache.head_dim;
    int64_t k = 0, value = 0;
    if (there) {
      const int64_t page = problem.pages[position / cache.page_tokens],
                    in_page = position % cache.page_tokens;
      k = head_at(cache.k, page, problem.kv_head, in_page) + v * 8;
      value = head_at(cache.v, page, problem.kv_head, in_page) + v * 8;
    }
    const int at_byte = swizzled(token, v % 8);
    fetch_vector(memory.keys[stage][v / 8] + at_byte, static_cast<const uint16_t*>(cache.k.data) + k, there);
    fetch_vector(memory.values[stage][v / 8] + at_byte, static_cast<const uint16_t*>(cache.v.data) + value,
                 there);
  }
}

__device__ bool is_finite(uint32_t two) {
  return (two & 0x7F80u) != 0x7F80u && (two & 0x7F800000u) != 0x7F800000u;
}

// A value that is not finite would reach rows that do not see its token, as zero times infinity. Takes it out
// and notes its token; each thread looks at what it fetched itself.
template <int W>
__device__ void take_out(int tile, int stage, Memory<W>& memory) {
  constexpr int kVectors = W / 8;
  for (int i = threadIdx.x; i < kTile * kVectors; i += blockDim.x) {
    const int token = i / kVectors, v = i % kVectors;
    auto* vector = reinterpret_cast<uint4*>(memory.values[stage][v / 8] + swizzled(token, v % 8));
    const uint4 words = *vector;
    if (is_finite(words.x) && is_finite(words.y) && is_finite(words.z) && is_finite(words.w)) continue;
    *vector = make_uint4(0, 0, 0, 0);
    memory.not_finite[stage][token] = tile + 1;
  }
}

// What a thread has of two rows of its warp group: lane / 4 of its warp's 16, and 8 behind it.
template <int W>
struct Sums {
  int visible[2];  // tokens; 0: no such row
  float top[2] = {-INFINITY, -INFINITY};
  float total[2] = {0.0f, 0.0f};  // of this thread's tokens
  float out[W / kLineElements][32] = {};
};

template <int W>
__device__ void score_tile(const Memory<W>& memory, int stage, float (&scores)[32]) {
  const int group = threadIdx.x / kGroupThreads;
  begin_products();
#pragma unroll
  for (int chunk = 0; chunk < W / kLineElements; ++chunk) {
#pragma unroll
    for (int k = 0; k < kLineElements / 16; ++k) {
      const uint64_t a = operand_at(memory.queries[chunk] + group * kGroupRows * kLineBytes + k * 32);
      multiply_lines(scores, a, operand_at(memory.keys[stage][chunk] + k * 32), chunk + k > 0);
    }
  }
  commit_products();
  await_products();
  keep_products(scores);
}

// Scores of tokens that a row does not see become -infinity; of those whose value is not finite, NaN.
template <int W>
__device__ void hide_tokens(const Memory<W>& memory, int tile, const Sums<W>& sums, float (&scores)[32]) {
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    const int token = i / 4 * 8 + static_cast<int>(threadIdx.x % 4) * 2 + i % 2;
    if (memory.not_finite[tile % kStages][token] == tile + 1) scores[i] = __int_as_float(0x7FC00000);
    if (tile * kTile + token >= sums.visible[i / 2 % 2]) scores[i] = -INFINITY;
  }
}

// Scores become weights, and the sums so far are brought to the new top. A score of -infinity weighs nothing;
// one that is no number makes the total none.
template <int W>
__device__ void weigh_tile(float scale, float (&scores)[32], Sums<W>& sums) {
  float before[2], shift[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float top = -INFINITY;
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      if (i / 2 % 2 == r) top = fmaxf(top, scores[i]);
    }
    for (int offset = 1; offset < 4; offset *= 2) top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, offset));
    top = fmaxf(top * scale, sums.top[r]);
    before[r] = sums.top[r] == -INFINITY ? 0.0f : exp2f(sums.top[r] - top);
    shift[r] = top == -INFINITY ? 0.0f : top;  // then every score is -infinity, and weighs nothing
    sums.top[r] = top;
    sums.total[r] *= before[r];
  }
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    const int r = i / 2 % 2;
    scores[i] = exp2f(__fmaf_rn(scores[i], scale, -shift[r]));
    sums.total[r] += scores[i];
  }
#pragma unroll
  for (int chunk = 0; chunk < W / kLineElements; ++chunk) {
#pragma unroll
    for (int i = 0; i < 32; ++i) sums.out[chunk][i] *= before[i / 2 % 2];
  }
}

template <int W>
__device__ void add_values(const Memory<W>& memory, int stage, const float (&weights)[32], Sums<W>& sums) {
  uint32_t rounded[16];
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    const __nv_bfloat162 two = __floats2bfloat162_rn(weights[2 * i], weights[2 * i + 1]);
    rounded[i] = *reinterpret_cast<const uint32_t*>(&two);
  }
  begin_products();
#pragma unroll
  for (int k = 0; k < kTile / 16; ++k) {
#pragma unroll
    for (int chunk = 0; chunk < W / kLineElements; ++chunk) {
      const uint64_t b = operand_at(memory.values[stage][chunk] + k * 16 * kLineBytes, kTile * kLineBytes);
      multiply_registers(sums.out[chunk], rounded + 4 * k, b);
    }
  }
  commit_products();
  await_products();
  for (float(&out)[32] : sums.out) keep_products(out);
}

template <int W>
__device__ void attend(const PagedAttentionArgs& args, const Problem& problem, Memory<W>& memory,
                       Sums<W>& sums) {
  const float scale = args.scale * kLog2E;
  const int tiles = (problem.visible() + kTile - 1) / kTile;
  fetch_tokens<W>(args.cache, problem, 0, 0, memory);
  for (int tile = 0; tile < tiles; ++tile) {
    const int stage = tile % kStages, first = tile * kTile;
    const bool hides = first + kTile > problem.position + 1;  // from its first row
    await_vectors();
    if (hides) take_out<W>(tile, stage, memory);
    show_to_matrix_units();
    __syncthreads();  // the tile is there, and the one before it has been read
    if (tile + 1 < tiles) fetch_tokens<W>(args.cache, problem, first + kTile, (tile + 1) % kStages, memory);
    float scores[32];
    score_tile<W>(memory, stage, scores);
    if (hides) hide_tokens<W>(memory, tile, sums, scores);
    weigh_tile<W>(scale, scores, sums);
    add_values<W>(memory, stage, scores, sums);
  }
}

template <int W>
__device__ void write_rows(const PagedAttentionArgs& args, const Problem& problem, Sums<W>& sums) {
  const int lane = threadIdx.x % kWarp, head_dim = args.cache.head_dim;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float total = sums.total[r];
    for (int offset = 1; offset < 4; offset *= 2) total += __shfl_xor_sync(kAllLanes, total, offset);
    const int pair = static_cast<int>(threadIdx.x) / kWarp * 16 + lane / 4 + 8 * r;
    if (pair >= pairs_of(problem)) continue;
    float* out = at<float>(args.out, problem.first_row + pair / problem.heads,
                           problem.first_head + pair % problem.heads);
#pragma unroll
    for (int chunk = 0; chunk < W / kLineElements; ++chunk) {
#pragma unroll
      for (int i = 0; i < 32; ++i) {
        const int d = chunk * kLineElements + i / 4 * 8 + lane % 4 * 2 + i % 2;
        if (i / 2 % 2 == r && d < head_dim) out[d] = total == 0.0f ? 0.0f : sums.out[chunk][i] / total;
      }
    }
  }
}

// The tile that a block has. Tiles of sequence s begin at number starts[s] / tile_rows + s: sequences leave
// no number twice, and skip few. Long sequences' last tiles, which read most, come first.
__device__ bool find_tile(const PagedAttentionArgs& args, int tile_rows, Problem& problem) {
  const auto* starts = static_cast<const int32_t*>(args.query_start_loc.data);
  const int64_t number = gridDim.x - 1 - blockIdx.x;
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

// Rows behind the last live sequence's, shared by all blocks of the key head.
__device__ void write_pads(const PagedAttentionArgs& args, const Problem& problem) {
  const int64_t rows = dim(args.q, 0), width = int64_t{problem.heads} * args.cache.head_dim;
  const int64_t seqs = live(args.num_seqs, dim(args.seq_lens, 0)), live_rows = live(args.num_rows, rows);
  const int64_t owned = static_cast<const int32_t*>(args.query_start_loc.data)[seqs];
  for (int64_t t = (owned < live_rows ? owned : live_rows) + blockIdx.x; t < rows; t += gridDim.x) {
    for (int64_t e = threadIdx.x; e < width; e += blockDim.x)
      at<float>(args.out, t, problem.first_head + e / args.cache.head_dim)[e % args.cache.head_dim] = 0.0f;
  }
}

template <int W>
__global__ void __launch_bounds__(groups_for(W) * kGroupThreads, 1)
    attend_tile(const __grid_constant__ PagedAttentionArgs args) {
  extern __shared__ unsigned char shared[];
  const auto base = reinterpret_cast<uintptr_t>(shared);
  auto& memory = *reinterpret_cast<Memory<W>*>(shared + (kAlignment - base % kAlignment) % kAlignment);
  Problem problem{};
  problem.kv_head = blockIdx.y;
  problem.heads = static_cast<int>(dim(args.q, 1) / args.cache.heads);
  problem.first_head = problem.kv_head * problem.heads;
  write_pads(args, problem);
  if (!find_tile(args, Memory<W>::kRows / problem.heads, problem)) return;
  if (threadIdx.x < kStages * kTile) memory.not_finite[threadIdx.x / kTile][threadIdx.x % kTile] = 0;
  fill_queries<W>(args, problem, memory);
  __syncthreads();
  Sums<W> sums;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int pair =
        static_cast<int>(threadIdx.x) / kWarp * 16 + static_cast<int>(threadIdx.x) % kWarp / 4 + 8 * r;
    sums.visible[r] = pair < pairs_of(problem) ? problem.position + pair / problem.heads + 1 : 0;
  }
  attend<W>(args, problem, memory, sums);
  write_rows<W>(args, problem, sums);
}

template <int W>
void attend_with(const PagedAttentionArgs& args, const Worker& worker) {
  const int64_t tile_rows = Memory<W>::kRows / (args.q.dim(1) / args.cache.heads);
  const size_t bytes = sizeof(Memory<W>) + kAlignment;
  allow_shared(worker, attend_tile<W>, bytes);
  launch_grid(worker, attend_tile<W>,
              {blocks_of(args.q.dim(0) / tile_rows + args.seq_lens.dim(0), args.cache.heads),
               groups_for(W) * kGroupThreads, bytes},
              args);
}

}  // namespace

bool suits_tiles(const PagedAttentionArgs& args) {
  const KvView& cache = args.cache;
  const int64_t per_kv = args.q.dim(1) / cache.heads;
  return args.input == MatmulInput::kBF16 && cache.dtype == DType::kBF16 && cache.head_dim <= kMaxSize &&
         per_kv <= groups_for(kMaxSize) * kGroupRows && has_vectors(cache.k, cache.head_dim) &&
         has_vectors(cache.v, cache.head_dim);
}

void attend_tiles(const PagedAttentionArgs& args, const Worker& worker) {
  const int32_t size = args.cache.head_dim;
  if (size <= 64) return attend_with<64>(args, worker);
  if (size <= 128) return attend_with<128>(args, worker);
  if (size <= 192) return attend_with<192>(args, worker);
  attend_with<256>(args, worker);
}

}  // namespace lockstep::cuda
