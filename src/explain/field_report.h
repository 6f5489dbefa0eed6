// For tests: the second field report as a record. Two data-parallel ranks; on rank 0 four rows of the bucket
// belong to no sequence, though its plan counts them; on rank 1 a recurrent layer breaks one step later.
#pragma once

#include <limits>

#include "guard/record.h"
#include "plan/plan_builder.h"

namespace lockstep::field_report {

inline constexpr int32_t kLayers = 8;
inline constexpr int32_t kWidth = 2048;
inline constexpr int32_t kLaunchesOfALayer = 10;

inline StepLimits limits() {
  StepLimits limits{.max_rows = 32,
                    .max_seqs = 5,
                    .max_logits_rows = 4,
                    .max_seq_len = 64,
                    .max_edits = 8,
                    .max_copies = 1,
                    .vocab_size = 100,
                    .dp_ranks = 1,
                    .num_groups = 2};
  limits.groups[0] = {
      .page_tokens = 16, .kernel_page_tokens = 16, .num_pages = 17, .table_rows = 5, .max_pages_per_seq = 4};
  limits.groups[1] = {.kind = GroupKind::kState, .num_pages = 5};
  return limits;
}

// Steps 1 (the prompts) and 2 (one token each) of four prompts of these lengths.
class Prompts {
 public:
  explicit Prompts(std::vector<int32_t> lengths) : lengths_(std::move(lengths)) {
    for (int32_t s = 1; s <= 4; ++s) tables_.append(TableRow(s), PageId(s));
  }
  StepPlan prefill(int32_t bucket_rows) { return build(Epoch(1), bucket_rows, false); }
  StepPlan decode() { return build(Epoch(2), 4, true); }

 private:
  StepPlan build(Epoch epoch, int32_t bucket_rows, bool decode) {
    const std::vector<TokenId> tokens(32, TokenId(7));
    std::vector<SequenceStep> steps(4);
    for (size_t s = 0; s < steps.size(); ++s) {
      const int32_t length = lengths_[s];
      steps[s] = {.tokens = std::span(tokens).first(static_cast<size_t>(decode ? 1 : length)),
                  .computed = TokenCount(decode ? length : 0),
                  .prompt_len = TokenCount(length),
                  .state_slot = StateSlot(static_cast<int32_t>(s) + 1),
                  .wants_logits = true};
      steps[s].table_rows[0] = TableRow(static_cast<int32_t>(s) + 1);
    }
    StepPlan plan;
    const Status built =
        builder_.build({.epoch = epoch,
                        .sequences = steps,
                        .bucket = {PaddedRows(bucket_rows),
                                   PaddedSeqs(decode || !padded(bucket_rows) ? 4 : 5), PaddedRows(4)}},
                       plan);
    LS_CHECK(built.ok(), built.message());
    builder_.accepted();
    return plan;
  }
  bool padded(int32_t bucket_rows) const {
    int32_t rows = 0;
    for (const int32_t length : lengths_) rows += length;
    return rows < bucket_rows;
  }

  std::vector<int32_t> lengths_;
  PageTables tables_{5, 4};
  PlanBuilder builder_{limits(), {&tables_, nullptr}};
};

// The plan as the report's engine made it: the bucket is counted as live, its last rows have no sequence.
inline StepPlan without_owners(StepPlan plan) {
  plan.edit(field::num_rows)[0] = LiveRows(30);
  plan.edit(field::dp_row_counts)[0] = PaddedRows(30);
  const auto starts = plan.edit(field::query_start_loc);
  starts.back() = starts[4];
  plan.freeze();
  return plan;
}

inline LayerKind mixer_of(int32_t layer) {
  return layer % 4 == 3 ? LayerKind::kSoftmax : LayerKind::kGatedDelta;
}

inline RankEntry rank_entry(int32_t rank) {
  RankEntry entry{.rank = rank,
                  .place = concat("dp ", rank, " of 2"),
                  .model = "hybrid",
                  .device = "cpu",
                  .guard = "full",
                  .limits = limits(),
                  .groups = {{.name = "world", .ranks = {0, 1}},
                             {.name = "dp", .ranks = {0, 1}},
                             {.name = "experts", .ranks = {0, 1}}}};
  for (int32_t layer = 0; layer < kLayers; ++layer) entry.mixers.push_back(mixer_of(layer));
  return entry;
}

inline StepEntry step_of(int32_t rank, const StepPlan& plan, std::vector<int32_t> tokens) {
  StepEntry step{.rank = rank,
                 .epoch = plan.scalar(field::epoch).get(),
                 .bucket = plan.bucket(),
                 .reason = "no graph for this bucket",
                 .plan_digest = plan.digest(),
                 .binding_set = 1,
                 .ended = true};
  step.head_epoch = step.epoch;
  step.plan = {.dtype = DType::kU8, .shape = {static_cast<int64_t>(plan.image().size())}};
  step.plan.bytes.assign(plan.image().begin(), plan.image().end());
  step.head.assign(plan.field_digests().begin(), plan.field_digests().end());
  step.tail = step.plan_digest;
  for (uint64_t id = 1; id <= 4; ++id) step.sequence_ids.push_back(static_cast<uint64_t>(rank) * 100 + id);
  for (const int32_t token : tokens) step.non_finite.push_back(token < 0 ? 100 : 0);
  step.tokens = std::move(tokens);
  return step;
}

// The launches of a step up to where the report saw the first bad numbers and a little beyond.
inline void add_launches(Record& record, int32_t rank, uint64_t step, int32_t first_bad,
                         int32_t last_bad = 1000) {
  struct Each {
    const char* stage;
    const char* op;
    bool collective = false;
  };
  const std::vector<Each> delta = {{"input_norm", "rms_norm"},   {"in_proj", "linear"},
                                   {"conv", "causal_conv"},      {"delta", "gated_delta"},
                                   {"gated_norm", "gated_norm"}, {"out_proj", "linear"}};
  const std::vector<Each> softmax = {{"input_norm", "rms_norm"},       {"qkv_proj", "linear"},
                                     {"q_norm_rope", "qk_norm_rope"},  {"store_kv", "store_kv"},
                                     {"attention", "paged_attention"}, {"o_proj", "linear"}};
  const std::vector<Each> experts = {{"post_norm", "rms_norm"},
                                     {"router", "linear"},
                                     {"gather_rows", "gather_rows_of_ranks", true},
                                     {"experts", "moe_experts"}};
  int32_t order = 0;
  const auto add = [&](int32_t layer, LayerKind kind, const Each& each) {
    record.launches.push_back({.at = {.rank = rank,
                                      .step = step,
                                      .phase = step == 1 ? "prefill" : "decode",
                                      .order = order,
                                      .layer = layer,
                                      .layer_kind = kind,
                                      .stage = each.stage,
                                      .op = each.op,
                                      .collective = each.collective},
                               .bad = order >= first_bad && order <= last_bad});
    ++order;
  };
  add(-1, LayerKind::kEmbedding, {"embedding", "embedding"});
  for (int32_t layer = 0; layer < kLayers; ++layer) {
    const bool is_softmax = mixer_of(layer) == LayerKind::kSoftmax;
    for (const Each& each : is_softmax ? softmax : delta) add(layer, mixer_of(layer), each);
    for (const Each& each : experts) add(layer, LayerKind::kMoe, each);
  }
  add(-1, LayerKind::kHead, {"logits", "linear"});
}

inline LaunchPlace place_of(const Record& record, int32_t rank, uint64_t step, int32_t order) {
  for (const LaunchEntry& launch : record.launches) {
    if (launch.at.rank == rank && launch.at.step == step && launch.at.order == order) return launch.at;
  }
  return {};
}

inline void add_bindings(Record& record, int32_t rank) {
  for (const char* field : {"query_start_loc", "seq_lens", "table_rows", "num_rows", "num_seqs"}) {
    record.bindings.push_back({.rank = rank,
                               .set = 1,
                               .consumer = "paged_attention",
                               .field = field,
                               .feed = "address",
                               .arena = "activations",
                               .allocation = "plan image",
                               .offset = 64,
                               .generation = 1,
                               .shape = {5},
                               .strides = {1},
                               .epoch = 1});
  }
  record.bindings.push_back({.rank = rank,
                             .set = 1,
                             .consumer = "paged_attention",
                             .field = "splits",
                             .feed = "decision",
                             .value = 1,
                             .epoch = 1});
}

// Rank 0: attention of layer 3, in the prefill: it never wrote the four rows.
inline void add_rank_0(Record& record) {
  const int32_t order = 1 + 3 * kLaunchesOfALayer + 4;
  add_launches(record, 0, 1, order);
  const LaunchPlace at = place_of(record, 0, 1, order);
  record.findings.push_back({.at = at,
                             .argument = "out",
                             .owner = Owner::kUnowned,
                             .rows = {26, 27, 28, 29},
                             .row_count = 4,
                             .nan = 4 * kWidth,
                             .elements = 4 * kWidth});
  record.first_bad_launch.push_back({.at = at});
  for (const char* input : {"q", "k_cache", "v_cache"})
    record.first_bad_launch.back().inputs.push_back(
        {.argument = input, .clean = Verdict::kYes, .max_abs = 4.25});
  record.rerun.push_back({.rank = 0,
                          .step = 1,
                          .reproduced = Verdict::kYes,
                          .oracle_agrees = Verdict::kNo,
                          .oracle_difference = std::numeric_limits<double>::quiet_NaN(),
                          .f32_agrees = Verdict::kYes,
                          .cache_clean = Verdict::kYes,
                          .state_clean = Verdict::kYes,
                          .notes = {"the oracle writes zeros to rows 26..29"}});
}

// Rank 1: it receives rank 0's rows with the others; and the recurrence of layer 1, one step later, in one
// row, from a clean input.
inline void add_rank_1(Record& record) {
  const int32_t gather = 1 + 3 * kLaunchesOfALayer + 8;
  add_launches(record, 1, 1, gather, gather);
  record.findings.push_back({.at = place_of(record, 1, 1, gather),
                             .argument = "out",
                             .owner = Owner::kGathered,
                             .rows = {26, 27, 28, 29},
                             .row_count = 4,
                             .nan = 4 * kWidth,
                             .elements = 2 * 30 * kWidth,
                             .max_abs = 4.25});
  const int32_t order = 1 + 1 * kLaunchesOfALayer + 3;
  add_launches(record, 1, 2, order);
  record.findings.push_back({.at = place_of(record, 1, 2, order),
                             .argument = "out",
                             .owner = Owner::kLive,
                             .sequences = {103},
                             .rows = {2},
                             .row_count = 1,
                             .nan = 86,
                             .elements = 4 * kWidth,
                             .max_abs = 12.5});
}

inline Record record() {
  Record record;
  Prompts zero({5, 5, 8, 8}), one({7, 5, 11, 7});
  for (const int32_t rank : {0, 1}) record.ranks.push_back(rank_entry(rank));
  record.steps.push_back(step_of(0, without_owners(zero.prefill(30)), {11, 12, 13, 14}));
  record.steps.push_back(step_of(1, one.prefill(30), {21, 22, 23, 24}));
  record.steps.push_back(step_of(1, one.decode(), {31, 32, -1, 34}));
  for (const int32_t rank : {0, 1}) {
    add_bindings(record, rank);
    for (uint64_t sequence = 1; sequence <= 8; ++sequence)
      record.ledger.push_back({.rank = rank,
                               .sequence = sequence,
                               .epoch = 1,
                               .op = "all_gather",
                               .group = "experts",
                               .number = sequence,
                               .dtype = "bf16",
                               .count = 30 * kWidth,
                               .finished = true});
  }
  record.faults.push_back({.fault = {.check = "L3",
                                     .moment = Moment::kPoison,
                                     .consumer = "paged_attention",
                                     .field = "out",
                                     .row = 26,
                                     .step = 1,
                                     .expected = "zero in a row that nobody owns",
                                     .found = "NaN"}});
  record.faults.back().message = record.faults.back().fault.message();
  record.faults.push_back(record.faults.back());
  record.faults.back().message = "rank 0: " + record.faults.front().message;
  record.faults.back().on_rank = 1;
  record.faults.back().told = true;
  add_rank_0(record);
  add_rank_1(record);
  return record;
}

}  // namespace lockstep::field_report
