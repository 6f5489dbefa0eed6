// One rank that runs a decoder on its shard of a model, without an engine: prompts in one step, then greedy
// tokens one by one. Ranks of a mesh are threads that each own one.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "attention/paged/paged_backend.h"
#include "comm/thread_fabric.h"
#include "engine/facts.h"
#include "guard/guard.h"
#include "model/decoder.h"
#include "model/recurrent_backends.h"
#include "model/state_geometry.h"
#include "plan/plan_builder.h"
#include "runtime/step_runner.h"

namespace lockstep::testing {

using Prompts = std::vector<std::vector<int32_t>>;

// What prompts of one replica brought, by sequence and step.
struct Drawn {
  std::vector<std::vector<int32_t>> tokens;
  std::vector<std::vector<std::vector<float>>> logits;
};

// How a model is run: all ranks of a mesh are given the same.
struct RankRun {
  std::string model;
  int32_t prompt_rows = 0;  // padded rows of the step of the prompts
  int32_t seqs = 0;         // padded sequences, of every step
  int32_t tokens = 0;       // drawn per sequence
  bool guarded = false;     // at the level full
  bool captured = false;    // steps behind the prompts replay a graph
};

class DecoderRank final : public StepProgram {
 public:
  // `mesh`: null for a rank that is alone.
  DecoderRank(const RankRun& run, Mesh* mesh) : run_(run), mesh_(mesh) {
    EngineConfig config;
    config.model = {.path = run.model, .dtype = ComputeDType::kFloat32, .shard = place_in(mesh)};
    config.max_model_len = 32;
    config.max_num_seqs = run.seqs;
    config.max_num_batched_tokens = std::max(run.prompt_rows, 16);
    config.page_size = 16;
    config.num_pages = 2 * run.seqs;
    config.threads = 1;
    model_ = load_model(config.model).value();
    const DecoderSpec& spec = model_->local;
    sizes_ = size_engine(config, spec, DType::kF32, spec.vocab).value();
    sampled_ = arena_.allocate("sampled", DType::kI32, {sizes_.limits.max_logits_rows}).value();
    storage_ = CacheStorage::create(geometry(), arena_).value();
    map_.add(arena_);
    map_.add(model_->loaded->arena);
    runner_ = StepRunner::create({.limits = sizes_.limits, .derived = {}}, stream_, map_, arena_).value();
    attention_ = std::make_unique<PagedBackend>(storage_);
    recurrent_ = recurrent_backend(model_->local, storage_);
    const DecoderOptions options{
        .limits = {.rows = sizes_.limits.max_rows, .logits_rows = sizes_.limits.max_logits_rows},
        .mesh = mesh};
    decoder_ = std::make_unique<Decoder>(
        Decoder::create(spec, model_->weights, options, *attention_, *recurrent_, arena_).value());
    runner_->set_tables({{kKvGroup, storage_.page_table()}});
    if (!run.guarded) return;
    guard_ = std::make_unique<Guard>(
        GuardOptions{.limits = sizes_.limits, .layers = std::vector<LayerKinds>(spec.layers.size())}, map_,
        runner_->image().bytes());
    stream_.set_observer(guard_->observer());
  }

  // Runs the prompts of this rank's replica; all ranks of the mesh at the same time.
  Drawn draw(const Prompts& prompts) {
    const size_t count = prompts.size();
    Drawn drawn{.tokens = std::vector<std::vector<int32_t>>(count),
                .logits = std::vector<std::vector<std::vector<float>>>(count)};
    give_pages(count);
    std::vector<int32_t> computed(count, 0);
    for (int32_t step = 0; step < run_.tokens && !::testing::Test::HasFatalFailure(); ++step) {
      std::vector<std::vector<TokenId>> rows(count);
      for (size_t s = 0; s < count; ++s) {
        if (step > 0) rows[s].emplace_back(drawn.tokens[s].back());
        for (size_t i = 0; step == 0 && i < prompts[s].size(); ++i) rows[s].emplace_back(prompts[s][i]);
      }
      const int32_t padded = step == 0 ? run_.prompt_rows : run_.seqs;
      const Status status = run_step(sequences(rows, computed, prompts), padded, run_.captured && step == 1);
      EXPECT_TRUE(status.ok()) << "step " << step << ": " << status.message();
      if (!status.ok()) {
        if (mesh_ != nullptr) mesh_->fail(status);
        return drawn;
      }
      EXPECT_EQ(runner_->last().replayed, run_.captured && step > 0) << runner_->last().eager_reason;
      keep(drawn);
      for (size_t s = 0; s < count; ++s) computed[s] += static_cast<int32_t>(rows[s].size());
    }
    return drawn;
  }

  Status prepare(const Binder& binder, PreparedStep& step) const override {
    return decoder_->prepare(binder, step);
  }
  Status enqueue(const PreparedStep& step, const Launcher& on) const override {
    return decoder_->run(step, sampled_, on);
  }

 private:
  static ShardSpec place_in(Mesh* mesh) {
    return mesh != nullptr ? shard_of(mesh->shape(), mesh->place()) : ShardSpec{};
  }

  CacheGeometry geometry() const {
    const DecoderSpec& spec = model_->local;
    const CacheGroup& pages = sizes_.limits.group(kKvGroup);
    return {.layout = sizes_.executor.layout,
            .kv = {.dtype = DType::kF32,
                   .num_pages = pages.num_pages,
                   .page_tokens = pages.page_tokens,
                   .heads = spec.softmax.kv_heads,
                   .head_dim = spec.softmax.head_dim},
            .softmax_layers = spec.count(Mixer::kSoftmax),
            .state = state_geometry(spec, sizes_.limits.group(kStateGroup).num_pages),
            .recurrent_layers = spec.recurrent_layers(),
            .table_rows = pages.table_rows,
            .max_pages_per_seq = pages.max_pages_per_seq};
  }

  // All pages that a sequence may come to need, at once.
  void give_pages(size_t count) {
    const CacheGroup& pages = sizes_.limits.group(kKvGroup);
    tables_ = std::make_unique<PageTables>(pages.table_rows, pages.max_pages_per_seq);
    for (int32_t s = 0; s < static_cast<int32_t>(count); ++s) {
      for (int32_t i = 0; i < pages.max_pages_per_seq; ++i) {
        const PageId page(1 + s * pages.max_pages_per_seq + i);
        tables_->append(TableRow(s + 1), page);
        storage_.page_table().as<int32_t>()[(s + 1) * pages.max_pages_per_seq + i] = page.get();
      }
    }
  }

  std::vector<SequenceStep> sequences(const std::vector<std::vector<TokenId>>& rows,
                                      const std::vector<int32_t>& computed, const Prompts& prompts) const {
    std::vector<SequenceStep> steps;
    for (size_t s = 0; s < rows.size(); ++s) {
      const bool has_states = model_->local.recurrent_layers() > 0;
      const int32_t number = static_cast<int32_t>(s) + 1;
      steps.push_back({.tokens = rows[s],
                       .last_token_source = TokenSource::literal(),
                       .computed = TokenCount(computed[s]),
                       .prompt_len = TokenCount(prompts[s].size()),
                       .state_slot = StateSlot(has_states ? number : 0),
                       .wants_logits = true,
                       .sampling = {}});
      steps.back().table_rows[0] = TableRow(number);
    }
    return steps;
  }

  Status run_step(const std::vector<SequenceStep>& steps, int32_t padded, bool capture) {
    PlanBuilder builder(sizes_.limits, {tables_.get(), nullptr});
    const Bucket bucket{
        .rows = PaddedRows(padded), .seqs = PaddedSeqs(run_.seqs), .logits_rows = PaddedRows(run_.seqs)};
    LS_TRY(builder.build(
        {.epoch = Epoch(++epoch_), .source_epoch = Epoch(0), .sequences = steps, .bucket = bucket}, plan_));
    builder.accepted();
    const Launcher on{kernel_table(sizes_.executor.isa), stream_};
    if (capture) LS_TRY(runner_->capture(plan_, *this, on));
    if (guard_) guard_->begin_step(plan_);
    LS_TRY(runner_->run(plan_, *this, on));
    LS_TRY(runner_->finish(plan_));
    return guard_ ? guard_->end_step() : Status{};
  }

  void keep(Drawn& drawn) const {
    const auto vocab = static_cast<size_t>(model_->spec.vocab);
    const float* logits = decoder_->logits(run_.seqs).as<const float>();
    for (size_t s = 0; s < drawn.tokens.size(); ++s, logits += vocab) {
      drawn.logits[s].emplace_back(logits, logits + vocab);
      drawn.tokens[s].push_back(static_cast<int32_t>(std::max_element(logits, logits + vocab) - logits));
    }
  }

  RankRun run_;
  Mesh* mesh_;
  std::unique_ptr<Model> model_;
  EngineSizes sizes_;
  Arena arena_ = Arena::create("rank", int64_t{64} << 20).value();
  MemoryMap map_;
  CacheStorage storage_;
  TensorView sampled_;
  Stream stream_{1};
  std::unique_ptr<StepRunner> runner_;
  std::unique_ptr<AttentionBackend> attention_;
  std::unique_ptr<RecurrentBackend> recurrent_;
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<Guard> guard_;
  std::unique_ptr<PageTables> tables_;
  StepPlan plan_;
  uint64_t epoch_ = 0;
};

// Runs `prompts` [dp] on all ranks of a mesh; the result is by rank.
inline std::vector<Drawn> draw_on_mesh(const RankRun& run, const MeshShape& shape,
                                       const std::vector<Prompts>& prompts) {
  std::vector<Drawn> drawn(static_cast<size_t>(shape.world()));
  const auto world = std::make_shared<ThreadWorld>(shape.world(), std::chrono::seconds(30));
  std::vector<std::thread> threads;
  for (int32_t rank = 0; rank < shape.world(); ++rank) {
    threads.emplace_back([&, rank] {
      Result<std::unique_ptr<Mesh>> mesh = Mesh::create(shape, std::make_unique<ThreadFabric>(world, rank));
      ASSERT_TRUE(mesh.ok()) << mesh.status().message();
      const auto replica = static_cast<size_t>((*mesh)->place().dp);
      drawn[static_cast<size_t>(rank)] = DecoderRank(run, mesh->get()).draw(prompts[replica]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return drawn;
}

}  // namespace lockstep::testing
