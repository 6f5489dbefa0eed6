#include "context_ranks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "base/math.h"
#include "comm/thread_fabric.h"
#include "plan/cp_shares.h"

namespace lockstep::testing {
namespace {

constexpr std::chrono::seconds kPatience(60);

}  // namespace

StepLimits ContextRanks::limits_for(int32_t ranks) const {
  StepLimits limits{.max_rows = kSequences * kLongest,
                    .max_seqs = 8 * kSequences,
                    .max_logits_rows = kSequences,
                    .max_seq_len = kLongest,
                    .max_edits = kSequences * pages_each() + 1,
                    .max_copies = 1,
                    .vocab_size = model_.spec.vocab,
                    .penalty_slots = kSequences,
                    .cp_ranks = ranks};
  set_cache_groups(model_.spec, DType::kF32, {},
                   {.page_tokens = page_tokens_,
                    .num_pages = kSequences * pages_each() + 1,
                    .state_slots = kSequences + 1,
                    .table_rows = kSequences + 1,
                    .max_seq_len = kLongest},
                   limits);
  return limits;
}

ContextRanks::ContextRanks(const Model& model, int32_t ranks, GuardLevel guard)
    : model_(model),
      page_tokens_(model.spec.softmax.sparse ? 64 : 16),
      limits_(limits_for(ranks)),
      tables_(kSequences + 1, pages_each()),
      builder_(limits_, {&tables_, nullptr, &tables_}),
      meshes_(static_cast<size_t>(ranks)),
      executors_(static_cast<size_t>(ranks)),
      plans_(static_cast<size_t>(ranks)),
      results_(static_cast<size_t>(ranks)) {
  for (int32_t rank = 0; rank < ranks; ++rank) validators_.emplace_back(limits_);
  create(ranks, guard);
}

ContextRanks::~ContextRanks() = default;

template <typename Call>
void ContextRanks::on_ranks(Call call) {
  std::vector<std::jthread> threads;
  for (size_t rank = 0; rank < executors_.size(); ++rank) threads.emplace_back([&call, rank] { call(rank); });
}

void ContextRanks::create(int32_t ranks, GuardLevel guard) {
  const auto world = std::make_shared<ThreadWorld>(ranks, kPatience);
  on_ranks([&](size_t rank) {
    auto mesh =
        Mesh::create({.cp = ranks}, std::make_unique<ThreadFabric>(world, static_cast<int32_t>(rank)));
    ASSERT_TRUE(mesh.ok()) << mesh.status().message();
    meshes_[rank] = std::move(mesh).value();
  });
  for (size_t rank = 0; rank < executors_.size(); ++rank) {
    auto made = Executor::create(model_, {.limits = limits_,
                                          .layout = {},
                                          .vocab_known = model_.spec.vocab,
                                          .threads = 1,
                                          .isa = detect_cpu().best,
                                          .guard = guard,
                                          .input = {},
                                          .mesh = meshes_[rank].get()});
    ASSERT_TRUE(made.ok()) << made.status().message();
    executors_[rank] = std::move(made).value();
    executors_[rank]->watch(true);
  }
}

void ContextRanks::add(std::vector<TokenId> prompt, const SamplingFacts& sampling) {
  const auto s = static_cast<int32_t>(sequences_.size());
  const bool penalties = sampling.repetition_penalty != 1.0f || sampling.presence_penalty != 0.0f;
  const auto length = static_cast<int32_t>(prompt.size());
  for (int32_t p = 0; p < pages_each(); ++p)
    tables_.append(TableRow(s + 1), PageId(1 + s + p * kSequences));  // far apart
  sequences_.push_back({.tokens = std::move(prompt),
                        .prompt_len = length,
                        .sampling = sampling,
                        .penalty = PenaltySlot(penalties ? s : -1)});
}

// The plan of every rank, held to its rules alone and together.
Status ContextRanks::plan() {
  std::vector<SequenceStep> steps;
  for (size_t s = 0; s < sequences_.size(); ++s) {
    const Fed& fed = sequences_[s];
    const std::span<const TokenId> tokens(fed.tokens);
    steps.push_back(
        {.tokens = tokens.subspan(static_cast<size_t>(fed.computed), static_cast<size_t>(fed.rows)),
         .last_token_source = TokenSource::literal(),
         .computed = TokenCount(fed.computed),
         .prompt_len = TokenCount(fed.prompt_len),
         .table_rows = {TableRow(s + 1), TableRow(0), TableRow(s + 1)},
         .state_slot = StateSlot(limits_.num_groups > kStateGroup.get() ? s + 1 : 0),
         .penalty_slot = fed.penalty,
         .wants_logits = fed.rows > 0 && fed.computed + fed.rows == static_cast<int32_t>(fed.tokens.size()),
         .sampling = fed.sampling});
  }
  const auto ranks = static_cast<int32_t>(plans_.size());
  const auto rows = static_cast<int32_t>(cp_extent(steps, ranks).rows) + 3;  // and some pad rows
  ++epoch_;
  for (int32_t rank = 0; rank < ranks; ++rank) {
    StepPlan& plan = plans_[static_cast<size_t>(rank)];
    LS_TRY(builder_.build({.epoch = Epoch(epoch_),
                           .source_epoch = Epoch(0),
                           .sequences = steps,
                           .bucket = {PaddedRows(rows), PaddedSeqs(limits_.max_seqs), PaddedRows(kSequences)},
                           .cut = {ranks, rank}},
                          plan));
    LS_TRY(validators_[static_cast<size_t>(rank)].validate(plan));
  }
  builder_.accepted();
  return check_cp_plans(plans_);
}

Status ContextRanks::step(const std::vector<int32_t>& rows) {
  for (size_t s = 0; s < sequences_.size(); ++s) {
    Fed& fed = sequences_[s];
    fed.rows = std::min(rows[s], static_cast<int32_t>(fed.tokens.size()) - fed.computed);
  }
  LS_TRY(plan());
  std::vector<Status> statuses(executors_.size());
  on_ranks([&](size_t rank) { statuses[rank] = executors_[rank]->run(plans_[rank], results_[rank]); });
  for (const Status& status : statuses) LS_TRY(status);
  size_t drawn = 0;
  for (Fed& fed : sequences_) {
    fed.computed += fed.rows;
    const bool draws = fed.rows > 0 && fed.computed == static_cast<int32_t>(fed.tokens.size());
    if (draws) fed.tokens.push_back(results_[0].tokens[drawn++]);
  }
  return {};
}

std::vector<float> ContextRanks::logits(size_t rank) const {
  const auto rows = plans_[rank].scalar(field::num_logits_rows).get();
  const TensorView logits = executors_[rank]->logits(rows);
  const float* values = logits.as<const float>();
  return {values, values + logits.elements()};
}

std::vector<float> ContextRanks::caches(size_t rank) const {
  const CacheStorage& storage = executors_[rank]->storage();
  std::vector<float> all;
  for (int32_t layer = 0; layer < storage.geometry().softmax_layers; ++layer) {
    const KvView& kv = storage.kv(layer);
    for (size_t s = 0; s < sequences_.size(); ++s) {
      for (int32_t position = 0; position < sequences_[s].computed; ++position) {
        const PageId page = tables_.pages(TableRow(s + 1))[static_cast<size_t>(position / page_tokens_)];
        for (const KvPlane* plane : {&kv.k, &kv.v}) {
          for (int64_t i = 0; i < int64_t{kv.heads} * kv.head_dim; ++i) {
            const int64_t at =
                plane->offset(page.get(), i / kv.head_dim, position % page_tokens_, i % kv.head_dim);
            all.push_back(static_cast<const float*>(plane->data)[at]);
          }
        }
      }
    }
  }
  read_compressed(storage, all);
  for (int32_t layer = 0; layer < storage.geometry().recurrent_layers; ++layer) {
    for (const TensorView* states : {&storage.state(layer).conv, &storage.state(layer).memory}) {
      const int64_t size = states->elements() / states->dim(0);
      for (size_t s = 0; s < sequences_.size(); ++s) {
        const float* slot = states->as<const float>() + static_cast<int64_t>(s + 1) * states->stride(0);
        all.insert(all.end(), slot, slot + size);
      }
    }
  }
  return all;
}

// Rows 1, 2, ... of a sequence are its complete windows of 32 and of 128 tokens.
void ContextRanks::read_compressed(const CacheStorage& storage, std::vector<float>& all) const {
  if (storage.geometry().compressed_pages == 0) return;
  for (int32_t layer = 0; layer < storage.geometry().softmax_layers; ++layer) {
    for (const TensorView* keys : {&storage.compressed(layer).k1, &storage.compressed(layer).k2}) {
      const int64_t per_page = keys->dim(2), stride = page_tokens_ / per_page, width = keys->dim(3);
      for (size_t s = 0; s < sequences_.size(); ++s) {
        for (int64_t row = 1; (row + 1) * stride <= sequences_[s].computed; ++row) {
          const PageId page = tables_.pages(TableRow(s + 1))[static_cast<size_t>(row / per_page)];
          for (int64_t head = 0; head < keys->dim(1); ++head) {
            const float* values = keys->as<const float>() + page.get() * keys->stride(0) +
                                  head * keys->stride(1) + row % per_page * keys->stride(2);
            all.insert(all.end(), values, values + width);
          }
        }
      }
    }
  }
}

}  // namespace lockstep::testing
