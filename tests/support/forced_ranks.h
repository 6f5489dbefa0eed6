// A model on the ranks of a mesh, as threads, that is told every token: whatever it would draw, the next rows
// are those of the given sequences, and the logits of each sequence's last row come back. Links no layer
// above the engine.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "comm/thread_fabric.h"
#include "engine/engine.h"
#include "plan/cp_shares.h"

namespace lockstep::testing {

struct ForcedOptions {
  std::string model;
  MeshShape shape;
  int32_t max_rows = 512;
  int32_t max_seqs = 8;
  int32_t max_len = 256;
  bool captured = false;  // steps of one row of every sequence replay a graph
  bool dense_as_sparse = false;
};

class ForcedRanks {
 public:
  explicit ForcedRanks(const ForcedOptions& options)
      : options_(options), ranks_(static_cast<size_t>(options.shape.world())) {
    const auto world = std::make_shared<ThreadWorld>(options.shape.world(), std::chrono::seconds(60));
    on_ranks([&](size_t rank) { ranks_[rank].open(options_, world, static_cast<int32_t>(rank)); });
    const EngineSizes& sizes = ranks_[0].sizes;
    for (int32_t g = 0; g < sizes.limits.num_groups; ++g) {
      const CacheGroup& group = sizes.limits.group(GroupId(g));
      const bool paged = group.kind == GroupKind::kPaged;
      has_states_ = has_states_ || !paged;
      tables_.push_back(paged ? std::make_unique<PageTables>(group.table_rows, group.max_pages_per_seq)
                              : nullptr);
    }
    std::vector<PageTables*> tables;
    for (const auto& table : tables_) tables.push_back(table.get());
    builder_ = std::make_unique<PlanBuilder>(sizes.limits, tables);
    plans_.resize(static_cast<size_t>(sizes.limits.cp_ranks));
  }

  // A sequence of given tokens, of which the first `prompt` are its prompt. It gets all its pages at once.
  void add(std::vector<int32_t> ids, size_t prompt) {
    const auto number = static_cast<int32_t>(sequences_.size());
    Given& given = sequences_.emplace_back();
    for (const int32_t id : ids) given.tokens.emplace_back(id);
    given.prompt = static_cast<int32_t>(prompt);
    for (size_t g = 0; g < tables_.size(); ++g) {
      if (tables_[g] == nullptr) continue;
      const CacheGroup& group = ranks_[0].sizes.limits.group(GroupId(static_cast<int32_t>(g)));
      for (int32_t p = 0; p < group.max_pages_per_seq; ++p)
        tables_[g]->append(TableRow(number + 1), PageId(1 + number + p * options_.max_seqs));  // far apart
    }
  }

  // The next rows[s] tokens of each sequence, on all ranks. The first error of any.
  Status step(const std::vector<int32_t>& rows) {
    LS_TRY(plan(rows));
    std::vector<Status> done(ranks_.size());
    on_ranks([&](size_t rank) { done[rank] = ranks_[rank].run(plan_of(rank), options_.captured); });
    for (const Status& status : done) LS_TRY(status);
    builder_->accepted();
    for (size_t s = 0; s < rows.size(); ++s) sequences_[s].computed += rows[s];
    return {};
  }

  size_t left(size_t s) const {
    return sequences_[s].tokens.size() - static_cast<size_t>(sequences_[s].computed);
  }
  // Of the last step.
  bool replayed() const { return ranks_[0].executor->runner().last().replayed; }
  bool cut() const { return plans_[0].scalar(field::cp_ranks) > 1; }
  // Whether sequence s had logits, and on a rank which: empty when it had none.
  std::vector<float> logits(size_t s, size_t rank = 0) const {
    const int32_t row = logits_rows_[s];
    if (row < 0) return {};
    const TensorView all = ranks_[rank].executor->logits(row + 1);
    const float* values = all.as<const float>() + row * all.dim(1);
    return {values, values + all.dim(1)};
  }
  // Entries of a derived field of the last step on rank 0, of the layer that ran last.
  std::span<const int32_t> derived(const DerivedSpec& spec) {
    const DerivedFields::Entry* entry = ranks_[0].executor->runner().derived().find(spec);
    return {entry->values.as<int32_t>(), static_cast<size_t>(entry->values.elements())};
  }
  size_t ranks() const { return ranks_.size(); }

 private:
  struct Given {
    std::vector<TokenId> tokens;
    int32_t prompt = 0;
    int32_t computed = 0;
  };

  struct Rank {
    std::unique_ptr<Mesh> mesh;
    std::unique_ptr<Model> model;
    EngineSizes sizes;
    std::unique_ptr<Executor> executor;
    std::unique_ptr<PlanValidator> validator;
    StepResult result;

    void open(const ForcedOptions& options, const std::shared_ptr<ThreadWorld>& world, int32_t number) {
      auto made = Mesh::create(options.shape, std::make_unique<ThreadFabric>(world, number));
      ASSERT_TRUE(made.ok()) << made.status().message();
      mesh = std::move(made).value();
      EngineConfig config;
      config.model = {.path = options.model,
                      .dtype = ComputeDType::kFloat32,
                      .dense_as_sparse = options.dense_as_sparse,
                      .shard = shard_of(mesh->shape(), mesh->place())};
      auto loaded = load_model(config.model);
      ASSERT_TRUE(loaded.ok()) << loaded.status().message();
      model = std::move(loaded).value();
      config.parallel = options.shape;
      config.mesh = mesh.get();
      config.threads = 1;
      config.max_model_len = options.max_len;
      config.max_num_seqs = options.max_seqs;
      config.max_num_batched_tokens = options.max_rows;
      config.page_size = 64;
      auto sized = size_engine(config, model->local, model->cache_dtype, model->spec.vocab);
      ASSERT_TRUE(sized.ok()) << sized.status().message();
      sizes = std::move(sized).value();
      sizes.limits.max_edits = options.max_seqs * (options.max_len / 64 + 1) + 1;  // all pages in one step
      sizes.limits.max_seqs += 4;                                                  // pad sequences
      sizes.executor.limits = sizes.limits;
      auto created = Executor::create(*model, sizes.executor);
      ASSERT_TRUE(created.ok()) << created.status().message();
      executor = std::move(created).value();
      validator = std::make_unique<PlanValidator>(sizes.limits);
    }

    Status run(const StepPlan& plan, bool captured) {
      LS_TRY(validator->validate(plan));
      const bool decode = static_cast<Phase>(plan.scalar(field::phase)) == Phase::kDecode;
      if (captured && decode && !executor->runner().replays(plan)) LS_TRY(executor->capture(plan));
      return executor->run(plan, result);
    }
  };

  template <typename Call>
  void on_ranks(Call call) {
    if (ranks_.size() == 1) return call(0);
    std::vector<std::jthread> threads;
    for (size_t rank = 0; rank < ranks_.size(); ++rank) threads.emplace_back([&call, rank] { call(rank); });
  }

  const StepPlan& plan_of(size_t rank) const {
    return cut() ? plans_[static_cast<size_t>(ranks_[rank].mesh->place().cp)] : plans_[0];
  }

  std::vector<SequenceStep> steps_of(const std::vector<int32_t>& rows) {
    std::vector<SequenceStep> steps;
    logits_rows_.assign(rows.size(), -1);
    int32_t logits_row = 0;
    for (size_t s = 0; s < rows.size(); ++s) {
      if (rows[s] == 0) continue;
      const Given& given = sequences_[s];
      const auto number = static_cast<int32_t>(s) + 1;
      steps.push_back(
          {.tokens = std::span(given.tokens)
                         .subspan(static_cast<size_t>(given.computed), static_cast<size_t>(rows[s])),
           .last_token_source = TokenSource::literal(),
           .computed = TokenCount(given.computed),
           .prompt_len = TokenCount(given.prompt),
           .state_slot = StateSlot(has_states_ ? number : 0),
           .wants_logits = given.computed + rows[s] >= given.prompt,
           .sampling = {}});
      for (size_t g = 0; g < tables_.size(); ++g)
        if (tables_[g] != nullptr) steps.back().table_rows[g] = TableRow(number);
      if (steps.back().wants_logits) logits_rows_[s] = logits_row++;
    }
    return steps;
  }

  Status plan(const std::vector<int32_t>& rows) {
    const std::vector<SequenceStep> steps = steps_of(rows);
    const StepLimits& limits = ranks_[0].sizes.limits;
    const bool decode = std::ranges::all_of(
        steps, [](const SequenceStep& step) { return step.wants_logits && step.tokens.size() == 1; });
    const PaddedRows all(options_.max_seqs);
    const Bucket bucket = decode ? Bucket{all, PaddedSeqs(options_.max_seqs), all}
                                 : bucket_of(limits, steps, cp_extent(steps, limits.cp_ranks).rows + 3);
    const int32_t plans = cp_cuts(steps, limits.cp_ranks) ? limits.cp_ranks : 1;
    ++epoch_;
    for (int32_t rank = 0; rank < plans; ++rank) {
      LS_TRY(builder_->build({.epoch = Epoch(epoch_),
                              .source_epoch = Epoch(0),
                              .sequences = steps,
                              .bucket = bucket,
                              .cut = {plans, rank}},
                             plans_[static_cast<size_t>(rank)]));
    }
    return plans > 1 ? check_cp_plans(plans_) : Status();
  }

  ForcedOptions options_;
  std::vector<Rank> ranks_;
  std::vector<std::unique_ptr<PageTables>> tables_;  // by group; null: states
  bool has_states_ = false;
  std::unique_ptr<PlanBuilder> builder_;
  std::vector<StepPlan> plans_;
  std::vector<Given> sequences_;
  std::vector<int32_t> logits_rows_;  // by sequence; -1: none
  uint64_t epoch_ = 0;
};

}  // namespace lockstep::testing
