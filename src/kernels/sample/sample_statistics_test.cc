// Whether draws follow the probabilities they stand for: chi-square tests over many seeds and positions, with
// fixed seeds, so that a test passes always or never.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "kernels/sample/sample_problem.h"

namespace lockstep {
namespace {

using namespace testing;  // NOLINT

constexpr int64_t kDraws = 24'000;

// What chi-square with this many degrees of freedom exceeds once in a million (Wilson and Hilferty 1931).
double chi_square_bound(double freedom) {
  const double spread = 2 / (9 * freedom);
  return freedom * std::pow(1 - spread + 4.753 * std::sqrt(spread), 3);
}

struct Facts {
  float temperature = 1;
  int32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  bool penalties = false;
};

// The probabilities by the definition in f64: penalties, temperature, min-p, top-k, top-p.
std::vector<double> probabilities(const std::vector<float>& logits, const std::vector<int32_t>& counts,
                                  const Facts& facts) {
  std::vector<double> x(logits.begin(), logits.end());
  for (size_t v = 0; v < x.size(); ++v) {
    if (!facts.penalties) continue;
    if (counts[v] > 0) x[v] = x[v] > 0 ? x[v] / 1.25 : x[v] * 1.25;
    x[v] -= 0.25 * (counts[v] >> 1) + (counts[v] > 1 ? 0.5 : 0);
  }
  for (double& value : x) value /= facts.temperature;
  std::vector<size_t> ranked(x.size());
  std::iota(ranked.begin(), ranked.end(), size_t{0});
  std::stable_sort(ranked.begin(), ranked.end(), [&](size_t a, size_t b) { return x[a] > x[b]; });
  const double largest = x[ranked[0]];
  const auto weight = [&](size_t v) { return std::exp(x[v] - largest); };
  size_t kept = 0;
  while (kept < ranked.size() && weight(ranked[kept]) >= facts.min_p) ++kept;
  if (facts.top_k > 0) kept = std::min(kept, static_cast<size_t>(facts.top_k));
  double total = 0, above = 0;
  for (size_t i = 0; i < kept; ++i) total += weight(ranked[i]);
  size_t inside = 0;
  while (inside < kept && above < facts.top_p * total) above += weight(ranked[inside++]);
  std::vector<double> p(x.size(), 0.0);
  for (size_t i = 0; i < inside; ++i) p[ranked[i]] = weight(ranked[i]) / above;
  return p;
}

// Draws one token per (seed, position) from the same logits.
std::vector<int32_t> draw(const KernelTable& table, const std::vector<float>& logits,
                          const std::vector<int32_t>& counts, const Facts& facts, bool vary_seed) {
  const auto columns = static_cast<int64_t>(logits.size());
  SampleProblem problem(kDraws, columns);
  for (int64_t r = 0; r < kDraws; ++r) {
    const auto at = static_cast<size_t>(r);
    std::copy(logits.begin(), logits.end(), problem.row(r));
    problem.temperature[at] = facts.temperature;
    problem.top_k[at] = facts.top_k;
    problem.top_p[at] = facts.top_p;
    problem.min_p[at] = facts.min_p;
    problem.penalty_slot[at] = facts.penalties ? 0 : -1;
    problem.repetition[at] = 1.25f;
    problem.presence[at] = 0.5f;
    problem.frequency[at] = 0.25f;
    problem.seed[at] = vary_seed ? at : 42;
    problem.position[at] = vary_seed ? 7 : static_cast<int32_t>(r);
  }
  std::copy(counts.begin(), counts.end(), problem.counts.begin());
  EXPECT_TRUE(problem.run(table, 2).ok());
  return problem.tokens;
}

TEST(SampleStatistics, DrawsFollowTheirProbabilities) {
  // 70 tokens, more than one group of noise; a spread that leaves every kept token enough expected draws.
  std::mt19937 random(5);
  const std::vector<float> logits = random_floats(70, random, 1.5f);
  std::vector<int32_t> counts(70);
  for (int32_t& count : counts) count = static_cast<int32_t>(random() % 5);
  const Facts cases[] = {
      {},
      {.temperature = 0.6f},
      {.temperature = 1.7f},
      {.top_k = 20},
      {.top_p = 0.8f},
      {.min_p = 0.1f},
      {.penalties = true},
      {.temperature = 0.8f, .top_k = 30, .top_p = 0.9f, .min_p = 0.05f, .penalties = true}};
  for (const KernelTable* table : runnable_tables()) {
    for (const Facts& facts : cases) {
      for (const bool vary_seed : {true, false}) {
        const std::vector<double> p = probabilities(logits, counts, facts);
        std::vector<int64_t> seen(70, 0);
        for (const int32_t token : draw(*table, logits, counts, facts, vary_seed)) {
          ASSERT_GE(token, 0);
          ASSERT_LT(token, 70);
          ++seen[static_cast<size_t>(token)];
        }
        double chi_square = 0, kinds = 0;
        for (size_t v = 0; v < p.size(); ++v) {
          const double expected = p[v] * static_cast<double>(kDraws);
          if (p[v] == 0) {
            ASSERT_EQ(seen[v], 0) << table->name << ": token " << v << " was cut";
            continue;
          }
          ASSERT_GT(expected, 5) << "too few draws for a chi-square test of token " << v;
          chi_square += std::pow(static_cast<double>(seen[v]) - expected, 2) / expected;
          ++kinds;
        }
        EXPECT_LT(chi_square, chi_square_bound(kinds - 1)) << table->name << " kinds " << kinds;
      }
    }
  }
}

// Draws at neighbouring positions and of neighbouring seeds are independent: pairs of four equal tokens.
TEST(SampleStatistics, NeighbouringDrawsAreIndependent) {
  const std::vector<float> logits(4, 0.0f);
  const std::vector<int32_t> counts(4, 0);
  for (const bool vary_seed : {true, false}) {
    const std::vector<int32_t> tokens =
        draw(kernel_table(detect_cpu().best), logits, counts, Facts{}, vary_seed);
    std::vector<double> seen(16, 0.0);
    for (size_t i = 0; i + 1 < tokens.size(); i += 2)
      ++seen[static_cast<size_t>(4 * tokens[i] + tokens[i + 1])];
    const double expected = static_cast<double>(kDraws) / 2 / 16;
    double chi_square = 0;
    for (const double count : seen) chi_square += std::pow(count - expected, 2) / expected;
    EXPECT_LT(chi_square, chi_square_bound(15)) << "vary_seed " << vary_seed;
  }
}

// Every lane and word of the generator is as good as another: of 4096 equal tokens none is preferred.
TEST(SampleStatistics, NoTokenOfManyIsPreferred) {
  const std::vector<float> logits(4096, 1.0f);
  const std::vector<int32_t> counts(4096, 0);
  std::vector<double> by_place(64, 0.0), by_group(64, 0.0);
  for (const int32_t token : draw(kernel_table(detect_cpu().best), logits, counts, Facts{}, false)) {
    ++by_place[static_cast<size_t>(token % 64)];
    ++by_group[static_cast<size_t>(token / 64)];
  }
  for (const std::vector<double>& seen : {by_place, by_group}) {
    double chi_square = 0;
    const double expected = static_cast<double>(kDraws) / 64;
    for (const double count : seen) chi_square += std::pow(count - expected, 2) / expected;
    EXPECT_LT(chi_square, chi_square_bound(63));
  }
}

}  // namespace
}  // namespace lockstep
