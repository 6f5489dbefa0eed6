#include "rank_engines.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <iostream>
#include <map>
#include <mutex>
#include <thread>

#include "comm/thread_fabric.h"

namespace lockstep::testing {
namespace {

constexpr std::chrono::seconds kDeadline{60};
constexpr double kTieFactor = 4.0;

// What the threads of one run share.
struct Shared {
  const RankedWorkload& workload;
  std::shared_ptr<ThreadWorld> world;
  std::mutex mutex;
  RankedOutcome outcome;
};

Status lead(const RankedWorkload& workload, Engine& engine, int32_t replica, RankedOutcome& own) {
  std::map<uint64_t, size_t> places;
  const auto dp = static_cast<size_t>(workload.shape.dp);
  const auto arrival = [&](size_t i) { return workload.arrivals.empty() ? 0 : workload.arrivals[i]; };
  int64_t last_arrival = 0;
  for (size_t i = 0; i < workload.requests.size(); ++i) last_arrival = std::max(last_arrival, arrival(i));
  // Every leader calls step() equally often, whether it has work or not.
  for (int64_t step = 0; step <= last_arrival || engine.any_work(); ++step) {
    for (size_t i = static_cast<size_t>(replica); i < workload.requests.size(); i += dp) {
      if (arrival(i) == step) places[LS_TRY(engine.add(workload.requests[i]))] = i;
    }
    const int64_t before = engine.stats().steps;
    const std::vector<RequestOutput> outputs = engine.step();
    if (engine.stats().steps > before && engine.last_plan().scalar(field::cp_ranks) > 1) ++own.cut_steps;
    for (const RequestOutput& output : outputs) {
      if (output.finish == FinishReason::kError) own.errors.push_back(output.error);
      std::vector<TokenLogprobs>& drawn = own.drawn[places.at(output.id)];
      drawn.insert(drawn.end(), output.logprobs.begin(), output.logprobs.end());
    }
  }
  own.steps = engine.stats().steps;
  return {};
}

Status run_rank(Shared& shared, int32_t rank, RankedOutcome& own) {
  const std::unique_ptr<Mesh> mesh =
      LS_TRY(Mesh::create(shared.workload.shape, std::make_unique<ThreadFabric>(shared.world, rank)));
  EngineConfig config = shared.workload.config;
  if (shared.workload.of_rank) shared.workload.of_rank(rank, config);
  config.mesh = mesh.get();
  config.parallel = shared.workload.shape;
  config.threads = 1;
  Result<std::unique_ptr<Engine>> made = Engine::create(config);
  if (!made.ok()) {
    mesh->fail(made.status());
    return made.status();
  }
  Engine& engine = **made;
  if (engine.leads()) {
    LS_TRY(lead(shared.workload, engine, mesh->place().dp, own));
  } else {
    for (bool more = true; more;) more = LS_TRY(engine.follow());
  }
  own.replays = engine.runner().replays();
  return {};
}

}  // namespace

RankedOutcome run_ranked(const RankedWorkload& workload) {
  const int32_t ranks = workload.shape.world();
  Shared shared{.workload = workload,
                .world = std::make_shared<ThreadWorld>(ranks, kDeadline),
                .mutex = {},
                .outcome = {}};
  shared.outcome.drawn.resize(workload.requests.size());
  std::vector<std::thread> threads;
  for (int32_t rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&shared, rank] {
      RankedOutcome own;
      own.drawn.resize(shared.workload.requests.size());
      const Status status = run_rank(shared, rank, own);
      const std::lock_guard lock(shared.mutex);
      RankedOutcome& all = shared.outcome;
      if (!status.ok()) own.errors.push_back(status.message());
      for (const std::string& text : own.errors) all.errors.push_back(concat("rank ", rank, ": ", text));
      for (size_t i = 0; i < own.drawn.size(); ++i) {
        if (!own.drawn[i].empty()) all.drawn[i] = std::move(own.drawn[i]);
      }
      all.steps = std::max(all.steps, own.steps);
      all.replays += own.replays;
      all.cut_steps += own.cut_steps;
    });
  }
  for (std::thread& thread : threads) thread.join();
  return std::move(shared.outcome);
}

Comparison compare(const RankedOutcome& reference, const RankedOutcome& other) {
  Comparison result;
  for (size_t i = 0; i < reference.drawn.size(); ++i) {
    const std::vector<TokenLogprobs>& was = reference.drawn[i];
    const std::vector<TokenLogprobs>& is = other.drawn[i];
    for (size_t t = 0; t < std::min(was.size(), is.size()) && was[t].token == is[t].token; ++t) {
      result.largest =
          std::max(result.largest, std::abs(static_cast<double>(was[t].logprob) - is[t].logprob));
      ++result.tokens;
    }
  }
  for (size_t i = 0; i < reference.drawn.size(); ++i) {
    const std::vector<TokenLogprobs>& was = reference.drawn[i];
    const std::vector<TokenLogprobs>& is = other.drawn[i];
    size_t t = 0;
    while (t < std::min(was.size(), is.size()) && was[t].token == is[t].token) ++t;
    if (t == was.size() && t == is.size()) continue;
    const bool both = t < was.size() && t < is.size() && was[t].top.size() >= 2;
    const double gap = both ? static_cast<double>(was[t].top[0].second) - was[t].top[1].second : 1.0;
    if (both && gap < kTieFactor * result.largest) {
      ++result.near_ties;
    } else {
      result.differences.push_back(concat("request ", i, " differs at token ", t, " of ", was.size(), " and ",
                                          is.size(), "; the two best are ", gap, " apart"));
    }
  }
  return result;
}

void expect_same(const RankedOutcome& reference, const RankedWorkload& workload) {
  const RankedOutcome ranked = run_ranked(workload);
  ASSERT_EQ(ranked.errors, std::vector<std::string>());
  const Comparison comparison = compare(reference, ranked);
  EXPECT_EQ(comparison.differences, std::vector<std::string>());
  EXPECT_GT(comparison.tokens, 0);
  EXPECT_GT(ranked.replays, 0);
  // Tokens would be the same if every rank ran all rows.
  const bool to_cut = std::any_of(workload.requests.begin(), workload.requests.end(),
                                  [](const Request& request) { return request.prompt_ids.size() > 1; });
  EXPECT_EQ(ranked.cut_steps > 0, to_cut && workload.shape.cp > 1);
  std::cout << describe(workload.shape) << ": " << comparison.tokens << " tokens the same in " << ranked.steps
            << " steps, " << ranked.replays << " replays of all ranks, " << comparison.near_ties
            << " near ties, log probabilities within " << comparison.largest << "\n";
}

}  // namespace lockstep::testing
