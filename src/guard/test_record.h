// For tests: a record in which every member differs from its default.
#pragma once

#include <cstring>

#include "guard/record.h"

namespace lockstep::test_record {

template <typename T>
RecordTensor tensor(DType dtype, std::vector<int64_t> shape, const std::vector<T>& values) {
  RecordTensor out{
      .dtype = dtype, .shape = std::move(shape), .bytes = std::vector<std::byte>(values.size() * sizeof(T))};
  std::memcpy(out.bytes.data(), values.data(), out.bytes.size());
  return out;
}

inline LaunchPlace place() {
  return {.step = 7,
          .phase = "prefill",
          .order = 31,
          .layer = 3,
          .layer_kind = LayerKind::kSoftmax,
          .stage = "attend",
          .op = "paged_attention",
          .collective = true};
}

inline RankEntry rank() {
  RankEntry rank;
  rank.place = "dp 0 of 2";
  rank.model = "storyteller";
  rank.device = "cpu";
  rank.guard = "full";
  rank.limits = {.max_rows = 32,
                 .max_seqs = 4,
                 .max_logits_rows = 4,
                 .max_seq_len = 64,
                 .max_edits = 8,
                 .max_copies = 2,
                 .vocab_size = 100,
                 .penalty_slots = 1,
                 .mask_slots = 1,
                 .num_groups = 1};
  rank.limits.groups[0] = {.page_tokens = 16,
                           .kernel_page_tokens = 16,
                           .num_pages = 9,
                           .table_rows = 5,
                           .max_pages_per_seq = 4,
                           .layout = "apart/token",
                           .dtype = "bf16"};
  rank.mixers = {LayerKind::kGatedDelta, LayerKind::kSoftmax};
  rank.groups.push_back({.name = "ep", .ranks = {0, 1}});
  rank.steps_before = 2;
  rank.epoch_before = 6;
  rank.logits_rows_before = 1;
  rank.tables_known = false;
  rank.tables.push_back({.group = 0, .edits = tensor<int32_t>(DType::kI32, {1, 3}, {1, 0, 5})});
  return rank;
}

inline void add_step(Record& record) {
  record.steps.push_back({.epoch = 7,
                          .bucket = {PaddedRows(30), PaddedSeqs(4), PaddedRows(4)},
                          .reason = "first of its size",
                          .graph_key = 10,
                          .plan_digest = 11,
                          .binding_set = 12,
                          .ended = true,
                          .head_epoch = 7,
                          .plan = tensor<uint8_t>(DType::kU8, {3}, {1, 2, 3}),
                          .sequence_ids = {5, uint64_t{1} << 60},
                          .head = {~Digest{0}, 1},
                          .tail = 3,
                          .tokens = {-1, 4},
                          .non_finite = {100, 0}});
  record.bindings.push_back({.set = 12,
                             .consumer = "attend",
                             .field = "seq_lens",
                             .group = 0,
                             .feed = "address",
                             .arena = "activations",
                             .allocation = "plan image",
                             .offset = 64,
                             .generation = 2,
                             .shape = {4},
                             .strides = {1},
                             .value = 3,
                             .epoch = 7});
  record.ledger.push_back({.sequence = 3,
                           .epoch = 7,
                           .op = "all_gather",
                           .group = "ep",
                           .number = 2,
                           .dtype = "bf16",
                           .count = 30,
                           .where = "layer 1 moe_sum",
                           .finished = true,
                           .order = 4});
  FaultEntry& entry = record.faults.emplace_back();
  entry.fault.check = "P1";
  entry.fault.consumer = "plan";
  entry.fault.field = "query_start_loc";
  entry.fault.row = 4;
  entry.fault.step = 7;
  entry.fault.expected = "30";
  entry.fault.found = "26";
  entry.message = "plan 7: P1 \"rows\" belong to no sequence";
  entry.on_rank = 1;
  entry.told = true;
}

// Every member of every entry has a value of its own.
inline Record full() {
  Record record;
  record.ranks.push_back(rank());
  add_step(record);
  record.launches.push_back({.at = place(), .source = Seen::kRerun, .bad = true});
  record.findings.push_back({.at = place(),
                             .source = Seen::kRerun,
                             .argument = "out",
                             .side = Side::kInput,
                             .owner = Owner::kUnowned,
                             .sequences = {5},
                             .rows = {26, 27, 28, 29},
                             .row_count = 4,
                             .nan = 8192,
                             .inf = 1,
                             .elements = 8192,
                             .max_abs = 0.1});
  FirstBadLaunch bad{
      .at = place(), .source = Seen::kRerun, .weights_digest = 77, .weights_path = "model.safetensors"};
  bad.inputs.push_back({.argument = "q", .clean = Verdict::kYes, .nan = 1, .inf = 2, .max_abs = 3.5});
  for (int twice = 0; twice < 2; ++twice)
    bad.captured.push_back({.name = "layer_input", .values = tensor<float>(DType::kF32, {2}, {1.5f, -2.0f})});
  record.first_bad_launch.push_back(bad);
  record.rerun.push_back({.step = 7,
                          .reproduced = Verdict::kYes,
                          .oracle_agrees = Verdict::kNo,
                          .oracle_difference = 0.25,
                          .f32_agrees = Verdict::kYes,
                          .f32_difference = 1e-6,
                          .cache_clean = Verdict::kYes,
                          .state_clean = Verdict::kNo,
                          .notes = {"a note"}});
  record.times.push_back({.epoch = 7, .began_ns = 1000, .took_ns = 2000});
  return record;
}

}  // namespace lockstep::test_record
