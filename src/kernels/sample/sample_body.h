// sample over a vector type: passes over one logits row, none of which sorts it.
#pragma once

#include "kernels/common/live_rows.h"
#include "kernels/common/simd_rows.h"
#include "kernels/sample/sample_kernels.h"
#include "kernels/sample/sample_lane_math.h"
#include "kernels/sample/sample_select.h"

namespace lockstep {

// The largest value of a pass and the lowest token that has it.
struct BestToken {
  float value;
  int32_t token;
};

[[gnu::always_inline]] inline BestToken better_of(const BestToken& a, const BestToken& b) {
  return b.value > a.value || (b.value == a.value && b.token < a.token) ? b : a;
}

// A running best per lane. Offers come with ascending tokens, so the first of equals stays.
template <typename L>
struct LaneBest {
  typename L::Reg value = L::set1(-__builtin_inff());
  typename L::Words token = L::set1_words(0);

  [[gnu::always_inline]] void offer(typename L::Reg candidate, typename L::Words tokens) {
    const auto better = L::less(value, candidate);
    value = L::select(better, candidate, value);
    token = L::select_words(better, tokens, token);
  }

  [[gnu::always_inline]] BestToken finish() const {
    float values[L::kWidth];
    int32_t tokens[L::kWidth];
    L::store(values, value);
    L::store_words(tokens, token);
    BestToken best{values[0], tokens[0]};
    for (int i = 1; i < L::kWidth; ++i) best = better_of(best, {values[i], tokens[i]});
    return best;
  }
};

template <typename L>
class RowSampler {
 public:
  RowSampler(const SampleArgs& args, char* scratch) : args_(args), vocab_(args.vocab_size) {
    const SampleScratch at = sample_scratch(args.logits.dim(1));
    values_ = reinterpret_cast<float*>(scratch + at.values);
    weights_ = reinterpret_cast<float*>(scratch + at.weights);
    order_ = reinterpret_cast<uint64_t*>(scratch + at.order);
  }

  void run(int64_t row, bool live) {
    row_ = row;
    logits_ = static_cast<const float*>(args_.logits.data) + row * args_.logits.stride(0);
    clear();
    if (!live) return;
    const Scan raw = scan();
    put<int32_t>(args_.non_finite, raw.non_finite);
    if (raw.non_finite > 0) return;
    const int32_t token = draw(raw.best);
    put<int32_t>(args_.tokens, token);
    if (fact<int32_t>(args_.logprobs) >= 0) report_logprobs(token, raw.best.value);
  }

 private:
  using Reg = typename L::Reg;
  using Words = typename L::Words;

  struct Scan {
    int32_t non_finite;
    BestToken best;
  };

  template <typename T>
  T fact(const TensorView& tensor) const {
    return static_cast<const T*>(tensor.data)[row_];
  }
  template <typename T>
  void put(const TensorView& tensor, T value) {
    static_cast<T*>(tensor.data)[row_] = value;
  }

  // What a row reports that draws no token or asks for no logprobs.
  void clear() {
    put<int32_t>(args_.tokens, -1);
    put<float>(args_.token_logprob, 0);
    put<int32_t>(args_.non_finite, 0);
    for (int64_t i = 0; i < args_.top_tokens.dim(1); ++i) {
      top_tokens()[i] = -1;
      top_logprobs()[i] = 0;
    }
  }
  int32_t* top_tokens() {
    return static_cast<int32_t*>(args_.top_tokens.data) + row_ * args_.top_tokens.stride(0);
  }
  float* top_logprobs() {
    return static_cast<float*>(args_.top_logprobs.data) + row_ * args_.top_logprobs.stride(0);
  }

  static Words tokens_from(int64_t first) {
    return L::add_words(L::lane_numbers(), L::set1_words(static_cast<uint32_t>(first)));
  }

  Scan scan() const {
    LaneBest<L> best;
    int64_t finite = 0;
    const Reg infinity = L::set1(__builtin_inff());
    for_lanes<L>(vocab_, [&](int64_t i, int64_t n) {
      const Reg x = load_lanes<L>(logits_ + i, n);
      const auto counted = L::both(L::less(L::absolute(x), infinity), L::first(n));
      finite += __builtin_popcount(L::mask_bits(counted));
      best.offer(L::select(L::first(n), x, L::set1(-__builtin_inff())), tokens_from(i));
    });
    return {static_cast<int32_t>(vocab_ - finite), best.finish()};
  }

  int32_t draw(const BestToken& raw) {
    const auto temperature = fact<float>(args_.temperature);
    const bool greedy = !(temperature >= sampling::kGreedyBelow);
    const auto slot = fact<int32_t>(args_.penalty_slot);
    if (greedy && slot < 0) return raw.token;
    const BestToken best = process(slot, greedy ? 1.0f : temperature);
    if (greedy) return best.token;
    const sampling::Cut cut = choose_cut(best.value);
    return noisy_best(best, cut);
  }

  // values_ = logits after penalties and temperature, -infinity up to a whole group of noise.
  BestToken process(int32_t slot, float temperature) {
    const sampling::Penalties by{.repetition = fact<float>(args_.repetition_penalty),
                                 .presence = fact<float>(args_.presence_penalty),
                                 .frequency = fact<float>(args_.frequency_penalty)};
    const int32_t* counts =
        slot < 0 ? nullptr : static_cast<const int32_t*>(args_.counts.data) + slot * args_.counts.stride(0);
    const Reg divisor = L::set1(temperature);
    const Reg nothing = L::set1(-__builtin_inff());
    LaneBest<L> best;
    for_lanes<L>(vocab_, [&](int64_t i, int64_t n) {
      Reg x = load_lanes<L>(logits_ + i, n);
      if (counts != nullptr) {
        const Words count = n == L::kWidth ? L::load_words(counts + i) : L::load_words_n(counts + i, n);
        x = sampling::finite_lanes<L>(sampling::penalised_lanes<L>(x, count, by));
      }
      x = sampling::finite_lanes<L>(L::div(x, divisor));
      x = L::select(L::first(n), x, nothing);
      L::store(values_ + i, x);
      best.offer(x, tokens_from(i));
    });
    for (int64_t i = (vocab_ + L::kWidth - 1) / L::kWidth * L::kWidth; i % sampling::kNoiseGroup != 0;
         i += L::kWidth) {
      L::store(values_ + i, nothing);
    }
    return best.finish();
  }

  // Drops what min-p refuses and finds where top-k and top-p cut.
  sampling::Cut choose_cut(float largest) {
    const auto top_k = fact<int32_t>(args_.top_k);
    const auto top_p = fact<float>(args_.top_p);
    const float asked = fact<float>(args_.min_p);
    const float min_p = asked < 1.0f ? asked : 1.0f;
    const bool counts = top_k > 0 && top_k < vocab_;
    const bool weighs = top_p < 1.0f;
    if (min_p > 0 || weighs) weigh(largest, min_p);
    if (!counts && !weighs) return sampling::keep_all();
    return sampling::select(
        {.values = values_, .weights = weights_, .count = vocab_, .largest = largest, .order = order_},
        counts ? top_k : 0, top_p);
  }

  // weights_ = exp(values_ - largest); values_ of less weight than min_p become -infinity.
  void weigh(float largest, float min_p) {
    const Reg most = L::set1(largest), least = L::set1(min_p), nothing = L::set1(-__builtin_inff());
    for (int64_t i = 0; i < vocab_; i += L::kWidth) {
      const Reg value = L::load(values_ + i);
      const Reg weight = sampling::exp_negative_lanes<L>(L::sub(value, most));
      L::store(weights_ + i, weight);
      if (min_p > 0) L::store(values_ + i, L::select(L::less(weight, least), nothing, value));
    }
  }

  // argmax over the kept tokens of value - largest + gumbel. The score of the largest is known at once;
  // tokens that the largest noise could not lift above it are passed over, sixty-four at a time.
  int32_t noisy_best(const BestToken& best, const sampling::Cut& cut) {
    const auto seed = fact<uint64_t>(args_.seed);
    const auto position = fact<int32_t>(args_.position);
    const float first =
        sampling::gumbel(sampling::random_bits(seed, position, static_cast<uint32_t>(best.token)));
    const Reg hopeless = L::set1(first - sampling::kGumbelMax);
    const Reg largest = L::set1(best.value), border = L::set1(cut.value),
              nothing = L::set1(-__builtin_inff());
    const Words after = L::set1_words(static_cast<uint32_t>(cut.token) + 1);
    LaneBest<L> drawn[16 / L::kWidth];  // one per part of a group, in each of which tokens ascend
    for (int64_t group = 0; group < vocab_; group += sampling::kNoiseGroup) {
      for (int64_t lane = 0; lane < 16; lane += L::kWidth) {
        const float* values = values_ + group + lane;
        typename L::Mask hopeful[4];
        uint32_t any = 0;
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          const Reg value = L::load(values + 16 * j);
          const auto at_border =
              L::both(L::equal(value, border), L::less_words(tokens_from(group + lane + 16 * j), after));
          const auto kept = L::either(L::less(border, value), at_border);
          hopeful[j] = L::both(kept, L::less(hopeless, L::sub(value, largest)));
          any |= L::mask_bits(hopeful[j]);
        }
        if (any == 0) continue;
        const sampling::PhiloxLanes<L> random(seed, position, tokens_from(group / 4 + lane));
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          const Reg noise = sampling::gumbel_lanes<L>(random.word[j]);
          const Reg score = L::add(L::sub(L::load(values + 16 * j), largest), noise);
          drawn[lane / L::kWidth].offer(L::select(hopeful[j], score, nothing),
                                        tokens_from(group + lane + 16 * j));
        }
      }
    }
    BestToken winner = drawn[0].finish();
    for (int part = 1; part < 16 / L::kWidth; ++part) winner = better_of(winner, drawn[part].finish());
    return winner.token;
  }

  void report_logprobs(int32_t token, float largest) {
    const Reg most = L::set1(largest);
    auto sum = L::no_mass();
    int64_t elements = 0;
    for_lanes<L>(vocab_, [&](int64_t i, int64_t n) {
      const Reg weight = sampling::exp_negative_lanes<L>(L::sub(load_lanes<L>(logits_ + i, n), most));
      sum = L::add_mass(sum, L::select(L::first(n), weight, L::zero()));
      elements += L::kWidth;
    });
    const auto total = static_cast<float>(L::total_mass(sum, elements));
    const float log_total = sampling::log_positive(total * sampling::kMassUnit);
    put<float>(args_.token_logprob, logits_[token] - largest - log_total);
    const int64_t count = list_best();
    for (int64_t i = 0; i < count; ++i) top_logprobs()[i] = logits_[top_tokens()[i]] - largest - log_total;
  }

  // The asked number of best tokens by raw logits, in top_tokens; returns how many. Values past the worst on
  // the list are rare, so a pass costs little more than reading.
  int64_t list_best() {
    const int64_t asked = fact<int32_t>(args_.logprobs), room = args_.top_tokens.dim(1);
    const int64_t count = asked < room ? (asked < vocab_ ? asked : vocab_) : (room < vocab_ ? room : vocab_);
    if (count == 0) return 0;
    int32_t* list = top_tokens();
    int64_t listed = 0;
    float worst = -__builtin_inff();
    for_lanes<L>(vocab_, [&](int64_t i, int64_t n) {
      const auto better = L::less(L::set1(worst), load_lanes<L>(logits_ + i, n));
      for (uint32_t bits = L::mask_bits(L::both(better, L::first(n))); bits != 0; bits &= bits - 1) {
        const auto token = static_cast<int32_t>(i + __builtin_ctz(bits));
        if (!(logits_[token] > worst)) continue;
        int64_t place = listed < count ? listed++ : count - 1;
        for (; place > 0 && logits_[list[place - 1]] < logits_[token]; --place) list[place] = list[place - 1];
        list[place] = token;
        if (listed == count) worst = logits_[list[count - 1]];
      }
    });
    return count;
  }

  const SampleArgs& args_;
  int64_t vocab_;
  int64_t row_ = 0;
  const float* logits_ = nullptr;
  float* values_;
  float* weights_;
  uint64_t* order_;
};

template <typename L>
void sample_body(const SampleArgs& args, Worker worker) {
  const SampleScratch at = sample_scratch(args.logits.dim(1));
  char* scratch = static_cast<char*>(args.workspace.data) + worker.index * at.bytes;
  const int64_t live = live_rows(args.num_logits_rows, args.logits.dim(0));
  RowSampler<L> sampler(args, scratch);
  for (int64_t r = worker.index; r < args.logits.dim(0); r += worker.count) sampler.run(r, r < live);
}

}  // namespace lockstep
