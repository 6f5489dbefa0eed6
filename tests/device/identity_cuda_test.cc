// The identity rule on a CUDA device: bits of a row do not follow from what shares its batch where
// batch_invariant is asked for; tokens do not follow from chunks, pages or preemption in f32.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "device/on_cuda.h"

namespace lockstep::testing {
namespace {

struct Case {
  std::string model;
  ComputeDType dtype;
};
void PrintTo(const Case& given, std::ostream* out) {
  *out << given.model << (given.dtype == ComputeDType::kFloat32 ? " f32" : " bf16");
}

constexpr int32_t kPrompts = 24;
constexpr int32_t kTokens = 12;

class IdentityOnCuda : public OnCuda<::testing::TestWithParam<Case>> {
 protected:
  EngineConfig config() const {
    EngineConfig config = cuda_config(golden_model(GetParam().model), GetParam().dtype);
    config.batch_invariant = true;
    config.max_model_len = 256;
    config.num_pages = kPrompts * 16;
    config.graph_sizes = {1, 8, 32};
    return config;
  }

  // What each prompt brings: all at once in `order`, or one after the other.
  std::vector<Outcome> run(const EngineConfig& config, const std::vector<int32_t>& order,
                           bool alone = false) {
    const auto engine = make_engine(config);
    std::vector<Outcome> outcomes(kPrompts);
    if (engine == nullptr) return outcomes;
    std::map<uint64_t, size_t> keys;
    const auto collect = [&] {
      Outcome all = run_to_end(*engine);
      for (auto& [id, tokens] : all.tokens) outcomes[keys[id]].tokens[0] = std::move(tokens);
      for (auto& [id, logits] : all.logits) outcomes[keys[id]].logits[0] = std::move(logits);
    };
    for (const int32_t key : order) {
      const Request request = greedy(prompt_of(1 + key * 5, key, engine->model().spec.vocab), kTokens);
      keys[*engine->add(request)] = static_cast<size_t>(key);
      if (alone) collect();
    }
    collect();
    preemptions_ = engine->stats().preemptions;
    return outcomes;
  }

  static std::vector<int32_t> in_order() {
    std::vector<int32_t> order(kPrompts);
    std::iota(order.begin(), order.end(), 0);
    return order;
  }

  int64_t preemptions_ = 0;
};

TEST_P(IdentityOnCuda, LogitsAreTheSameBitsAloneTogetherAndInAnyOrder) {
  const std::vector<Outcome> alone = run(config(), in_order(), true);
  std::vector<int32_t> backwards = in_order();
  std::reverse(backwards.begin(), backwards.end());
  for (const std::vector<int32_t>& order : {in_order(), backwards}) {
    const std::vector<Outcome> together = run(config(), order);
    for (size_t i = 0; i < alone.size(); ++i) {
      ASSERT_EQ(alone[i].tokens, together[i].tokens) << "prompt " << i;
      ASSERT_EQ(alone[i].logits, together[i].logits) << "prompt " << i;
    }
  }
}

// Without the flag a product of bf16 follows from how many rows there are: if no bit ever did, the test above
// would show nothing. In f32 the same kernels run with the flag and without.
TEST_P(IdentityOnCuda, WithoutTheFlagBitsOfBf16FollowTheBatchAndThoseOfF32DoNot) {
  EngineConfig usual = config();
  usual.batch_invariant = false;
  const std::vector<Outcome> alone = run(usual, in_order(), true), together = run(usual, in_order());
  int32_t other_bits = 0, other_tokens = 0;
  for (size_t i = 0; i < alone.size(); ++i) {
    other_bits += alone[i].logits != together[i].logits ? 1 : 0;
    other_tokens += alone[i].tokens != together[i].tokens ? 1 : 0;
  }
  std::cout << GetParam().model << ": of " << kPrompts << " prompts " << other_bits << " have other logits, "
            << other_tokens << " other tokens, alone and together\n";
  if (GetParam().dtype == ComputeDType::kFloat32) {
    EXPECT_EQ(other_bits, 0);
  } else {
    EXPECT_GT(other_bits, 0);
  }
}

// Products of the library are what the flag leaves out.
TEST(BatchInvariantTable, HasOtherProductsOnCuda) {
  const KernelTable &usual = kernel_table(Isa::kSm90), &invariant = batch_invariant_table(Isa::kSm90);
  EXPECT_NE(usual.linear, invariant.linear);
  EXPECT_EQ(invariant.linear_prepare, nullptr);
  EXPECT_NE(usual.moe_prepare, invariant.moe_prepare);
  EXPECT_NE(usual.moe_gate_up, invariant.moe_gate_up);
  EXPECT_NE(usual.moe_down, invariant.moe_down);
  EXPECT_EQ(usual.paged_attention, invariant.paged_attention);
}

// A first difference is allowed only at a near tie: a gap below four times the largest difference of logits.
void expect_same_tokens(const std::vector<Outcome>& reference, const std::vector<Outcome>& other) {
  for (size_t i = 0; i < reference.size(); ++i) {
    const std::vector<int32_t>&a = reference[i].tokens.at(0), &b = other[i].tokens.at(0);
    ASSERT_EQ(a.size(), b.size()) << "prompt " << i;
    const auto parted = static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin()).first - a.begin());
    if (parted == a.size()) continue;
    std::vector<float> logits = reference[i].logits.at(0)[parted];
    float largest = 0;
    for (size_t v = 0; v < logits.size(); ++v)
      largest = std::max(largest, std::abs(logits[v] - other[i].logits.at(0)[parted][v]));
    std::nth_element(logits.begin(), logits.begin() + 1, logits.end(), std::greater<>());
    std::cout << "prompt " << i << " parts at token " << parted << "\n";
    EXPECT_LT(logits[0] - logits[1], 4 * largest) << "prompt " << i << ", token " << parted;
  }
}

TEST_P(IdentityOnCuda, TokensAreTheSameInChunksAndInPagesOfAnySize) {
  const std::vector<Outcome> whole = run(config(), in_order());
  for (const int32_t chunk : {1, 7, 64}) {
    EngineConfig changed = config();
    changed.chunk_size = chunk;
    expect_same_tokens(whole, run(changed, in_order()));
  }
  EngineConfig changed = config();
  changed.page_size = 64;
  expect_same_tokens(whole, run(changed, in_order()));
}

TEST_P(IdentityOnCuda, TokensAreTheSameWhenPagesRunOut) {
  const std::vector<Outcome> roomy = run(config(), in_order());
  EngineConfig tight = config();
  tight.page_size = 4;
  tight.num_pages = 64;
  const std::vector<Outcome> crowded = run(tight, in_order());
  EXPECT_GE(preemptions_, 1);
  expect_same_tokens(roomy, crowded);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const char* model : {"qwen3", "qwen3_moe", "qwen3_next", "minimax_m2"}) {
    all.push_back({model, ComputeDType::kFloat32});
    all.push_back({model, ComputeDType::kBFloat16});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Models, IdentityOnCuda, ::testing::ValuesIn(cases()));

}  // namespace
}  // namespace lockstep::testing
