#include "schedule/policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "base/math.h"
#include "base/status.h"

namespace lockstep {
namespace {

using Random = std::mt19937_64;

int32_t pick(Random& random, int32_t least, int32_t most) {
  return std::uniform_int_distribution<int32_t>(least, most)(random);
}

PolicyLimits some_limits() {
  return {
      .max_rows = 8, .max_running = 4, .chunk_size = 4, .page_tokens = 2, .free_pages = 100, .free_slots = 4};
}

TEST(NextShare, EndsAtTheNextMultipleOfTheChunkCountedFromTheFirstToken) {
  for (int32_t length = 1; length < 40; ++length) {
    for (int32_t computed = 0; computed < length; ++computed) {
      const int32_t rows = next_share({.length = length, .computed = computed}, 8);
      int32_t expected = 1;
      while (computed + expected < length && (computed + expected) % 8 != 0) ++expected;
      EXPECT_EQ(rows, expected) << computed << " of " << length;
    }
  }
}

TEST(Policy, GivesRunningSequencesTheirShareBeforeItAdmitsOthers) {
  const Candidate candidates[] = {
      {.length = 5, .computed = 4, .pages = 2, .running = true},
      {.length = 9, .computed = 0, .pages = 0, .running = true},
      {.length = 3},
      {.length = 2},
  };

  const Decision decision = decide(candidates, some_limits());

  EXPECT_EQ(decision.rows, (std::vector<int32_t>{1, 4, 3, 0}));  // 8 rows: the last one does not fit any more
  EXPECT_TRUE(decision.preempt.empty());
}

TEST(Policy, LetsNobodyOvertakeTheFirstThatDoesNotFit) {
  const Candidate candidates[] = {{.length = 3}, {.length = 300}, {.length = 1}};

  EXPECT_EQ(decide(candidates, some_limits()).rows, (std::vector<int32_t>{3, 0, 0}));
}

TEST(Policy, PreemptsTheLatestWhenPagesRunOutAndAdmitsNobodyThen) {
  PolicyLimits limits = some_limits();
  limits.free_pages = 0;
  const Candidate candidates[] = {
      {.length = 5, .computed = 4, .pages = 2, .running = true},  // needs a page
      {.length = 6, .computed = 5, .pages = 3, .running = true},
      {.length = 7, .computed = 6, .pages = 3, .running = true},  // gives three
      {.length = 1},
  };

  const Decision decision = decide(candidates, limits);

  EXPECT_EQ(decision.rows, (std::vector<int32_t>{1, 1, 0, 0}));
  EXPECT_EQ(decision.preempt, (std::vector<int32_t>{2}));
}

TEST(Policy, PreemptsTheOneThatNeedsThePageWhenItIsTheLatest) {
  PolicyLimits limits = some_limits();
  limits.free_pages = 0;
  const Candidate candidates[] = {
      {.length = 6, .computed = 5, .pages = 3, .running = true},
      {.length = 5, .computed = 4, .pages = 2, .running = true},
  };

  const Decision decision = decide(candidates, limits);

  EXPECT_EQ(decision.rows, (std::vector<int32_t>{1, 0}));
  EXPECT_EQ(decision.preempt, (std::vector<int32_t>{1}));
}

// The first prompt has one of its ten pages; the other nine are as good as taken.
TEST(Policy, AdmitsNobodyIntoPagesThatRunningPromptsStillNeed) {
  PolicyLimits limits = some_limits();
  limits.free_pages = 11;
  const Candidate candidates[] = {
      {.length = 20, .computed = 2, .pages = 1, .running = true},
      {.length = 6},
  };

  EXPECT_EQ(decide(candidates, limits).rows, (std::vector<int32_t>{2, 0}));
  limits.free_pages = 12;
  EXPECT_EQ(decide(candidates, limits).rows, (std::vector<int32_t>{2, 4}));
}

TEST(Policy, AdmitsAsManyAsThereAreSlots) {
  PolicyLimits limits = some_limits();
  const Candidate candidates[] = {
      {.length = 2, .computed = 1, .pages = 1, .running = true}, {.length = 1}, {.length = 1}, {.length = 1}};

  limits.free_slots = 2;
  EXPECT_EQ(decide(candidates, limits).rows, (std::vector<int32_t>{1, 1, 1, 0}));
  limits.free_slots = 4;
  limits.max_running = 2;
  EXPECT_EQ(decide(candidates, limits).rows, (std::vector<int32_t>{1, 1, 0, 0}));
}

TEST(Policy, DecidesNothingForNobody) {
  const Decision decision = decide({}, some_limits());
  EXPECT_TRUE(decision.rows.empty());
  EXPECT_TRUE(decision.preempt.empty());
}

// --- random states ---------------------------------------------------------------------------------------

struct Scene {
  PolicyLimits limits;
  std::vector<Candidate> candidates;
  int32_t total_pages = 0;
};

int32_t pages_of(const Scene& scene, int32_t tokens) { return ceil_div(tokens, scene.limits.page_tokens); }

// A state such as a scheduler comes to: whoever runs holds the pages of what is computed.
Scene random_scene(Random& random) {
  Scene scene;
  PolicyLimits& limits = scene.limits;
  limits.max_rows = pick(random, 1, 64);
  limits.chunk_size = pick(random, 1, limits.max_rows);
  limits.max_running = pick(random, 1, 10);
  limits.page_tokens = pick(random, 1, 8);
  const int32_t running = pick(random, 0, limits.max_running), waiting = pick(random, 0, 6);
  int32_t held = 0, longest = 1;
  for (int32_t i = 0; i < running + waiting; ++i) {
    Candidate candidate{.length = pick(random, 1, 60), .running = i < running};
    if (candidate.running) {
      candidate.computed = pick(random, 0, candidate.length - 1);
      candidate.pages = pages_of(scene, candidate.computed);
    }
    held += candidate.pages;
    longest = std::max(longest, pages_of(scene, candidate.length));
    scene.candidates.push_back(candidate);
  }
  limits.free_slots = pick(random, running == 0 ? 1 : 0, limits.max_running);
  scene.total_pages = std::max(longest, held + pick(random, 0, 12));
  limits.free_pages = scene.total_pages - held;
  return scene;
}

void expect_preemption_from_the_end(const Scene& scene, const Decision& decision) {
  int32_t before = static_cast<int32_t>(scene.candidates.size());
  for (const int32_t victim : decision.preempt) {
    EXPECT_LT(victim, before) << "latest first, each once";
    for (int32_t i = victim + 1; i < before; ++i)
      EXPECT_FALSE(scene.candidates[static_cast<size_t>(i)].running) << i << " is younger than " << victim;
    EXPECT_TRUE(scene.candidates[static_cast<size_t>(victim)].running);
    EXPECT_EQ(decision.rows[static_cast<size_t>(victim)], 0);
    EXPECT_GT(victim, 0) << "the oldest runs always";
    before = victim;
  }
}

void expect_limits_kept(const Scene& scene, const Decision& decision) {
  int32_t rows = 0, pages = 0, admitted = 0, running = 0;
  for (size_t i = 0; i < scene.candidates.size(); ++i) {
    const Candidate& candidate = scene.candidates[i];
    running += candidate.running ? 1 : 0;
    if (decision.rows[i] == 0) continue;
    EXPECT_EQ(decision.rows[i], next_share(candidate, scene.limits.chunk_size)) << "candidate " << i;
    rows += decision.rows[i];
    pages += std::max(0, pages_of(scene, candidate.computed + decision.rows[i]) - candidate.pages);
    admitted += candidate.running ? 0 : 1;
  }
  int32_t given_back = 0;
  for (const int32_t victim : decision.preempt)
    given_back += scene.candidates[static_cast<size_t>(victim)].pages;
  EXPECT_LE(rows, scene.limits.max_rows);
  EXPECT_LE(pages, scene.limits.free_pages + given_back);
  EXPECT_LE(admitted, scene.limits.free_slots);
  EXPECT_LE(running + admitted, std::max(running, scene.limits.max_running));
  EXPECT_TRUE(decision.preempt.empty() || admitted == 0);
}

TEST(Policy, KeepsEveryLimitAndTheOrderOfArrivalInAnyState) {
  Random random(1);
  int64_t preempted = 0, admitted = 0;
  for (int round = 0; round < 20000 && !testing::Test::HasFailure(); ++round) {
    SCOPED_TRACE(concat("seed 1, round ", round));
    const Scene scene = random_scene(random);

    const Decision decision = decide(scene.candidates, scene.limits);

    ASSERT_EQ(decision.rows.size(), scene.candidates.size());
    expect_preemption_from_the_end(scene, decision);
    expect_limits_kept(scene, decision);
    bool passed_over = false;
    for (size_t i = 0; i < scene.candidates.size(); ++i) {
      if (scene.candidates[i].running) continue;
      EXPECT_FALSE(passed_over && decision.rows[i] > 0) << i << " overtakes";
      passed_over = passed_over || decision.rows[i] == 0;
      admitted += decision.rows[i] > 0 ? 1 : 0;
    }
    EXPECT_TRUE(scene.candidates.empty() || decision.rows[0] > 0) << "the oldest makes progress";
    preempted += static_cast<int64_t>(decision.preempt.size());
  }
  EXPECT_GT(preempted, 1000);
  EXPECT_GT(admitted, 1000);
}

// --- whole lives -----------------------------------------------------------------------------------------

// Requests that only need their prompt cached, in a pool that holds any one of them.
TEST(Policy, NeverPreemptsWhereNothingGrows) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(concat("seed ", seed));
    Random random(seed);
    Scene scene;
    scene.limits = {.max_rows = pick(random, 8, 40),
                    .max_running = pick(random, 1, 6),
                    .chunk_size = pick(random, 1, 8),
                    .page_tokens = pick(random, 1, 8)};
    for (int i = 0; i < 12; ++i) scene.candidates.push_back({.length = pick(random, 1, 60)});
    int32_t free_pages = pages_of(scene, 60) + pick(random, 0, 10);
    int64_t steps = 0;
    for (; !scene.candidates.empty() && steps < 2000; ++steps) {
      scene.limits.free_pages = free_pages;
      scene.limits.free_slots = scene.limits.max_running;
      const Decision decision = decide(scene.candidates, scene.limits);
      ASSERT_TRUE(decision.preempt.empty()) << "step " << steps;
      for (size_t i = 0; i < scene.candidates.size(); ++i) {
        Candidate& candidate = scene.candidates[i];
        if (decision.rows[i] == 0) continue;
        candidate.running = true;
        candidate.computed += decision.rows[i];
        const int32_t pages = pages_of(scene, candidate.computed);
        free_pages -= pages - candidate.pages;
        candidate.pages = pages;
        if (candidate.computed == candidate.length) free_pages += candidate.pages;
      }
      ASSERT_GE(free_pages, 0);
      std::erase_if(scene.candidates, [](const Candidate& c) { return c.computed == c.length; });
    }
    EXPECT_LT(steps, 2000);
  }
}

}  // namespace
}  // namespace lockstep
