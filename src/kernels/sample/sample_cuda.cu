// One block draws one row. Values are computed anew in each pass from logits that stay in the cache, so that
// no scratch is needed; sums are of integers and ties go by id, so that the order of threads does not matter.
#include "kernels/common/device_math.cuh"
#include "kernels/cuda_kernels.h"
#include "kernels/sample/sample_math.cuh"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kBins = 256;
constexpr int kDigits = 8;  // of 8 bits in a sort key

struct Row {
  const float* logits;
  const int32_t* counts;  // null: no penalties
  s::Penalties by;
  float temperature;  // 0: as they are
  int64_t vocab;

  __device__ float value(int64_t v) const {
    const float x = counts == nullptr ? logits[v] : finite(penalised_logit(logits[v], counts[v], by));
    return temperature == 0.0f ? x : finite(__fdiv_rn(x, temperature));
  }
};

struct Bins {
  unsigned long long mass[kBins];
  unsigned count[kBins];
};

// The largest key of a block, in every thread.
__device__ uint64_t block_max(uint64_t x) { return ~block_min<kThreads>(~x); }

template <typename Value>
__device__ uint64_t best_of(int64_t vocab, Value&& key_of) {
  uint64_t best = 0;
#pragma unroll 4
  for (int64_t v = threadIdx.x; v < vocab; v += kThreads) {
    const uint64_t key = key_of(v);
    best = key > best ? key : best;
  }
  return block_max(best);
}

// Which tokens of a row may be drawn: those of a key of at least `least` that min-p leaves.
struct Kept {
  float largest;
  float min_p;
  uint64_t least;

  __device__ bool holds(float value, uint64_t key) const {
    return key >= least && (!(min_p > 0) || exp_negative(__fsub_rn(value, largest)) >= min_p);
  }
};

// Counts and masses of the kept keys that begin with the digits of `prefix`, by their next digit.
__device__ void fill(const Row& row, const Kept& kept, uint64_t prefix, int digit, Bins& bins) {
  const int shift = 8 * (kDigits - 1 - digit);
  __syncthreads();
  for (int i = threadIdx.x; i < kBins; i += kThreads) bins.mass[i] = bins.count[i] = 0;
  __syncthreads();
  for (int64_t v = threadIdx.x; v < row.vocab; v += kThreads) {
    const float value = row.value(v);
    const uint64_t key = sort_key(value, v);
    if (digit > 0 && key >> (shift + 8) != prefix >> (shift + 8)) continue;
    if (!kept.holds(value, key)) continue;
    const auto bin = static_cast<int>(key >> shift & 0xFF);
    atomicAdd(&bins.count[bin], 1u);
    const uint64_t mass = mass_of(exp_negative(__fsub_rn(value, kept.largest)));
    if (mass != 0) atomicAdd(&bins.mass[bin], static_cast<unsigned long long>(mass));
  }
  __syncthreads();
}

// The key of the token at which stops(count, mass) of all tokens down to it first holds, from the best on; 0
// where it never does. Digit by digit, as every thread sees the same bins.
template <typename Stops>
__device__ uint64_t find_key(const Row& row, const Kept& kept, Bins& bins, Stops&& stops) {
  uint64_t prefix = 0, count = 0, mass = 0;
  for (int digit = 0; digit < kDigits; ++digit) {
    fill(row, kept, prefix, digit, bins);
    int bin = kBins - 1;
    for (; bin >= 0; --bin) {
      if (bins.count[bin] == 0) continue;
      if (stops(count + bins.count[bin], mass + bins.mass[bin])) break;
      count += bins.count[bin];
      mass += bins.mass[bin];
    }
    if (bin < 0) return 0;
    prefix |= static_cast<uint64_t>(bin) << 8 * (kDigits - 1 - digit);
  }
  return prefix;
}

__device__ uint64_t mass_of_kept(const Row& row, const Kept& kept) {
  unsigned long long mass = 0;
  for (int64_t v = threadIdx.x; v < row.vocab; v += kThreads) {
    const float value = row.value(v);
    if (kept.holds(value, sort_key(value, v))) mass += mass_of(exp_negative(__fsub_rn(value, kept.largest)));
  }
  return block_sum<kThreads>(mass);
}

template <typename T>
__device__ T fact(const TensorView& view, int64_t r) {
  return static_cast<const T*>(view.data)[r];
}

__device__ int64_t draw(const SampleArgs& args, int64_t r, Row row, Bins& bins) {
  const auto temperature = fact<float>(args.temperature, r);
  const bool greedy = !(temperature >= s::kGreedyBelow);
  if (!greedy) row.temperature = temperature;
  const uint64_t best = best_of(row.vocab, [&](int64_t v) { return sort_key(row.value(v), v); });
  if (greedy) return token_of(best);
  const auto asked = fact<float>(args.min_p, r);
  Kept kept{.largest = row.value(token_of(best)), .min_p = asked < 1 ? asked : 1, .least = 0};
  const auto top_k = fact<int32_t>(args.top_k, r);
  if (top_k > 0) {
    const auto wanted = static_cast<uint64_t>(top_k);
    kept.least = find_key(row, kept, bins, [=](uint64_t count, uint64_t) { return count >= wanted; });
  }
  const auto top_p = fact<float>(args.top_p, r);
  if (top_p < 1) {
    const double target = static_cast<double>(top_p) * static_cast<double>(mass_of_kept(row, kept));
    const uint64_t last = find_key(
        row, kept, bins, [=](uint64_t, uint64_t mass) { return static_cast<double>(mass) >= target; });
    kept.least = last > kept.least ? last : kept.least;
  }
  const auto seed = fact<uint64_t>(args.seed, r);
  const auto position = fact<int32_t>(args.position, r);
  const uint64_t drawn = best_of(row.vocab, [&](int64_t v) -> uint64_t {
    const float value = row.value(v);
    if (!kept.holds(value, sort_key(value, v))) return 0;
    const uint32_t bits = random_bits(seed, position, static_cast<uint32_t>(v));
    return sort_key(__fadd_rn(__fsub_rn(value, kept.largest), gumbel(bits)), v);
  });
  return token_of(drawn);
}

__device__ void report_logprobs(const SampleArgs& args, int64_t r, Row row, int64_t token) {
  const auto asked = fact<int32_t>(args.logprobs, r);
  if (asked < 0) return;
  row.counts = nullptr;
  row.temperature = 0.0f;
  uint64_t key = best_of(row.vocab, [&](int64_t v) { return sort_key(row.logits[v], v); });
  const float largest = row.logits[token_of(key)];
  const float log_total = log_positive(__fmul_rn(
      static_cast<float>(mass_of_kept(row, {.largest = largest, .min_p = 0, .least = 0})), s::kMassUnit));
  const auto logprob = [&](int64_t v) { return __fsub_rn(__fsub_rn(row.logits[v], largest), log_total); };
  if (threadIdx.x == 0) static_cast<float*>(args.token_logprob.data)[r] = logprob(token);
  int64_t count = asked < dim(args.top_tokens, 1) ? asked : dim(args.top_tokens, 1);
  count = count < row.vocab ? count : row.vocab;
  for (int64_t i = 0; i < count; ++i) {
    if (threadIdx.x == 0) {
      lockstep::cuda::row<int32_t>(args.top_tokens, r)[i] = static_cast<int32_t>(token_of(key));
      lockstep::cuda::row<float>(args.top_logprobs, r)[i] = logprob(token_of(key));
    }
    const uint64_t above = key;
    key = best_of(row.vocab, [&](int64_t v) {
      const uint64_t other = sort_key(row.logits[v], v);
      return other < above ? other : 0;
    });
  }
}

__global__ void __launch_bounds__(kThreads) sample_rows(const __grid_constant__ SampleArgs args) {
  __shared__ Bins bins;
  const int64_t r = blockIdx.x;
  for (int64_t i = threadIdx.x; i < dim(args.top_tokens, 1); i += kThreads) {
    row<int32_t>(args.top_tokens, r)[i] = -1;
    row<float>(args.top_logprobs, r)[i] = 0.0f;
  }
  const bool is_live = r < live(args.num_logits_rows, dim(args.logits, 0));
  Row own{.logits = row<const float>(args.logits, r),
          .counts = nullptr,
          .by = {},
          .temperature = 0.0f,
          .vocab = is_live ? args.vocab_size : 0};
  int32_t bad = 0;
#pragma unroll 4
  for (int64_t v = threadIdx.x; v < own.vocab; v += kThreads)
    bad += finite(own.logits[v]) == own.logits[v] ? 0 : 1;
  bad = block_sum<kThreads>(bad);
  if (threadIdx.x == 0) {
    static_cast<int32_t*>(args.tokens.data)[r] = -1;
    static_cast<float*>(args.token_logprob.data)[r] = 0.0f;
    static_cast<int32_t*>(args.non_finite.data)[r] = bad;
  }
  if (!is_live || bad > 0) return;
  if (const auto slot = fact<int32_t>(args.penalty_slot, r); slot >= 0) {
    own.counts = row<const int32_t>(args.counts, slot);
    own.by = {.repetition = fact<float>(args.repetition_penalty, r),
              .presence = fact<float>(args.presence_penalty, r),
              .frequency = fact<float>(args.frequency_penalty, r)};
  }
  const int64_t token = draw(args, r, own, bins);
  if (threadIdx.x == 0) static_cast<int32_t*>(args.tokens.data)[r] = static_cast<int32_t>(token);
  report_logprobs(args, r, own, token);
}

// One block per sequence. The rows of a sequence combine in any order but for the one that clears.
__global__ void __launch_bounds__(kThreads) count_rows(const __grid_constant__ CountTokensArgs args) {
  const int64_t q = blockIdx.x, vocab = dim(args.counts, 1);
  if (q >= live(args.num_seqs, dim(args.penalty_slots, 0))) return;
  const int64_t slot = fact<int32_t>(args.penalty_slots, q);
  if (slot < 0) return;
  const auto* positions = static_cast<const int32_t*>(args.positions.data);
  auto* counts = row<int32_t>(args.counts, slot);
  const int64_t begin = fact<int32_t>(args.query_start_loc, q),
                end = fact<int32_t>(args.query_start_loc, q + 1);
  int64_t cleared = begin;  // one behind the last row at position 0, counted from the front
  for (int64_t t = begin + threadIdx.x; t < end; t += kThreads) cleared = positions[t] == 0 ? t + 1 : cleared;
  cleared = -block_min<kThreads>(-cleared);
  for (int64_t v = threadIdx.x; cleared > begin && v < vocab; v += kThreads) counts[v] = 0;
  __syncthreads();
  const int32_t prompt = fact<int32_t>(args.prompt_lens, q);
  const int64_t first = cleared > begin ? cleared - 1 : begin;
  for (int64_t t = first + threadIdx.x; t < end; t += kThreads) {
    const int64_t token = fact<int32_t>(args.token_ids, t);
    if (token < 0 || token >= vocab) continue;
    if (positions[t] < prompt) {
      atomicOr(counts + token, 1);
    } else {
      atomicAdd(counts + token, 2);
    }
  }
}

}  // namespace

void sample(const SampleArgs& args, Worker worker) {
  launch_grid(worker, sample_rows, {blocks_of(args.logits.dim(0)), kThreads}, args);
}

void count_tokens(const CountTokensArgs& args, Worker worker) {
  launch_grid(worker, count_rows, {blocks_of(args.penalty_slots.dim(0)), kThreads}, args);
}

}  // namespace lockstep::cuda
