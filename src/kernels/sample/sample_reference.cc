// The oracle of sample: every step of the definition in turn, with a full sort.
#include <algorithm>

#include "kernels/common/live_rows.h"
#include "kernels/sample/sample_kernels.h"
#include "kernels/sample/sample_math.h"

namespace lockstep::reference {
namespace {

using namespace sampling;

// One logits row and the scratch of its thread.
struct Row {
  const SampleArgs& args;
  int64_t index;
  const float* logits;
  float* values;
  float* weights;
  uint64_t* order;

  template <typename T>
  T fact(const TensorView& tensor) const {
    return tensor.as<const T>()[index];
  }
  int64_t vocab() const { return args.vocab_size; }
};

// Sorts by value descending, ties to the lower id.
uint64_t sort_key(float value, int64_t token) {
  return uint64_t{order_of(value + 0.0f)} << 32 | (0xFFFFFFFFu - static_cast<uint32_t>(token));
}
int64_t token_of(uint64_t key) { return 0xFFFFFFFFu - static_cast<uint32_t>(key); }

int32_t count_non_finite(const Row& row) {
  int32_t count = 0;
  for (int64_t v = 0; v < row.vocab(); ++v) count += finite(row.logits[v]) == row.logits[v] ? 0 : 1;
  return count;
}

int64_t best_of(const float* values, int64_t count) {
  int64_t best = 0;
  for (int64_t v = 1; v < count; ++v) best = values[v] > values[best] ? v : best;
  return best;
}

void apply_penalties(const Row& row) {
  const auto slot = row.fact<int32_t>(row.args.penalty_slot);
  const Penalties by{.repetition = row.fact<float>(row.args.repetition_penalty),
                     .presence = row.fact<float>(row.args.presence_penalty),
                     .frequency = row.fact<float>(row.args.frequency_penalty)};
  for (int64_t v = 0; v < row.vocab(); ++v) {
    const int32_t count =
        slot < 0 ? 0 : row.args.counts.as<const int32_t>()[slot * row.args.counts.stride(0) + v];
    row.values[v] = slot < 0 ? row.logits[v] : finite(penalised(row.logits[v], count, by));
  }
}

// The kept tokens, best first, in row.order; returns how many.
int64_t keep(const Row& row, float largest) {
  const auto asked = row.fact<float>(row.args.min_p);
  const float min_p = asked < 1 ? asked : 1;
  int64_t kept = 0;
  for (int64_t v = 0; v < row.vocab(); ++v) {
    row.weights[v] = exp_negative(row.values[v] - largest);
    if (min_p > 0 && !(row.weights[v] >= min_p)) continue;
    row.order[kept++] = sort_key(row.values[v], v);
  }
  std::sort(row.order, row.order + kept, std::greater<>());
  const auto top_k = row.fact<int32_t>(row.args.top_k);
  if (top_k > 0 && top_k < kept) kept = top_k;
  const auto top_p = row.fact<float>(row.args.top_p);
  if (!(top_p < 1)) return kept;
  uint64_t total = 0;
  for (int64_t i = 0; i < kept; ++i) total += mass_of(row.weights[token_of(row.order[i])]);
  uint64_t above = 0;
  int64_t inside = 0;
  while (inside < kept && (inside == 0 || static_cast<double>(above) <
                                              static_cast<double>(top_p) * static_cast<double>(total))) {
    above += mass_of(row.weights[token_of(row.order[inside++])]);
  }
  return inside;
}

int64_t draw(const Row& row) {
  apply_penalties(row);
  const auto temperature = row.fact<float>(row.args.temperature);
  if (!(temperature >= kGreedyBelow)) return best_of(row.values, row.vocab());
  for (int64_t v = 0; v < row.vocab(); ++v) row.values[v] = finite(row.values[v] / temperature);
  const float largest = row.values[best_of(row.values, row.vocab())];
  const int64_t kept = keep(row, largest);
  int64_t best = -1;
  float best_score = 0;
  for (int64_t i = 0; i < kept; ++i) {
    const int64_t v = token_of(row.order[i]);
    const uint32_t bits = random_bits(row.fact<uint64_t>(row.args.seed), row.fact<int32_t>(row.args.position),
                                      static_cast<uint32_t>(v));
    const float score = row.values[v] - largest + gumbel(bits);
    if (best < 0 || score > best_score || (score == best_score && v < best)) {
      best = v;
      best_score = score;
    }
  }
  return best;
}

void report_logprobs(const Row& row, int64_t token) {
  const SampleArgs& args = row.args;
  const auto asked = row.fact<int32_t>(args.logprobs);
  if (asked < 0) return;
  const float largest = row.logits[best_of(row.logits, row.vocab())];
  uint64_t total = 0;
  for (int64_t v = 0; v < row.vocab(); ++v) total += mass_of(exp_negative(row.logits[v] - largest));
  const float log_total = log_positive(static_cast<float>(total) * kMassUnit);
  args.token_logprob.as<float>()[row.index] = row.logits[token] - largest - log_total;
  const int64_t count = std::min<int64_t>({asked, args.top_tokens.dim(1), row.vocab()});
  for (int64_t v = 0; v < row.vocab(); ++v) row.order[v] = sort_key(row.logits[v], v);
  std::partial_sort(row.order, row.order + count, row.order + row.vocab(), std::greater<>());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t v = token_of(row.order[i]);
    args.top_tokens.as<int32_t>()[row.index * args.top_tokens.stride(0) + i] = static_cast<int32_t>(v);
    args.top_logprobs.as<float>()[row.index * args.top_logprobs.stride(0) + i] =
        row.logits[v] - largest - log_total;
  }
}

// What a row reports that draws no token or asks for no logprobs.
void clear(const Row& row) {
  const SampleArgs& args = row.args;
  args.tokens.as<int32_t>()[row.index] = -1;
  args.token_logprob.as<float>()[row.index] = 0;
  args.non_finite.as<int32_t>()[row.index] = 0;
  for (int64_t i = 0; i < args.top_tokens.dim(1); ++i) {
    args.top_tokens.as<int32_t>()[row.index * args.top_tokens.stride(0) + i] = -1;
    args.top_logprobs.as<float>()[row.index * args.top_logprobs.stride(0) + i] = 0;
  }
}

}  // namespace

void sample(const SampleArgs& args, Worker worker) {
  const SampleScratch at = sample_scratch(args.logits.dim(1));
  char* scratch = static_cast<char*>(args.workspace.data) + worker.index * at.bytes;
  const int64_t live = live_rows(args.num_logits_rows, args.logits.dim(0));
  for (int64_t r = worker.index; r < args.logits.dim(0); r += worker.count) {
    const Row row{.args = args,
                  .index = r,
                  .logits = args.logits.as<const float>() + r * args.logits.stride(0),
                  .values = reinterpret_cast<float*>(scratch + at.values),
                  .weights = reinterpret_cast<float*>(scratch + at.weights),
                  .order = reinterpret_cast<uint64_t*>(scratch + at.order)};
    clear(row);
    if (r >= live) continue;
    args.non_finite.as<int32_t>()[r] = count_non_finite(row);
    if (args.non_finite.as<int32_t>()[r] > 0) continue;
    const int64_t token = draw(row);
    args.tokens.as<int32_t>()[r] = static_cast<int32_t>(token);
    report_logprobs(row, token);
  }
}

}  // namespace lockstep::reference
