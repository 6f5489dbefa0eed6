#include "conformance/attention_cases.h"
#include "conformance/graph_cases.h"
#include "conformance/sparse_pages.h"

namespace lockstep::conformance {
namespace {

constexpr int64_t kTouched = int64_t{1} << 20;  // bytes, of one launch at most

AttentionOptions tiny() {
  return {.page_tokens = 4,
          .heads = 2,
          .kv_heads = 1,
          .head_dim = 16,
          .layers = 2,
          .num_pages = 192,
          .max_seqs = 4,
          .max_rows = 4,
          .max_seq_len = 160,
          .threads = 1,
          .derived = {&kSelectedCounts, &kSelectedStarts, &kSelectedPages},
          .top_pages = kTopPages};
}

// Sequences that begin one after the other, so that their pages fill at different steps.
Status grow(const AttentionCandidate& candidate, const AttentionOptions& other, std::array<Mode, 2> modes) {
  Pair<AttentionRig> pair = LS_TRY(Pair<AttentionRig>::create(candidate, tiny(), other));
  std::vector<int32_t> batch;
  for (int32_t step = 0; step < 120; ++step) {
    if (step % 30 == 0) batch.push_back(pair.begin());
    LS_TRY(pair.decode(batch, 4, modes, true));
  }
  return {};
}

}  // namespace

AttentionCandidate sparse_candidate(SumsIn sums, DevicePtr device) {
  const auto make = [=](const CacheStorage& storage) -> Result<std::unique_ptr<AttentionBackend>> {
    auto host = LS_TRY(HostKernels::create(device, kTouched));
    return std::unique_ptr<AttentionBackend>(std::make_unique<SparsePages>(storage, sums, std::move(host)));
  };
  return {.name = "sparse", .make = make, .device = device};
}

std::vector<Case> sparse_cases(DevicePtr device) {
  // Of functions of the host a device's graph makes many pieces.
  const int32_t replays = device != nullptr ? 2000 : 20000;
  const AttentionCandidate candidate = sparse_candidate(SumsIn::kOwnField, std::move(device));
  AttentionOptions late = tiny(), full = tiny(), two = tiny();
  late.pace = Pace::kLate;
  full.level = GuardLevel::kFull;
  two.threads = 2;
  const std::array<Mode, 2> graphs = {Mode::kGraph, Mode::kGraph};
  std::vector<Case> cases = {
      {"graph_equals_eager",
       [=] {
         return grow(candidate, tiny(), {Mode::kGraph, Mode::kEager});
       }},
      {"late", [=] { return grow(candidate, late, graphs); }},
      {"level_full", [=] { return grow(candidate, full, graphs); }},
      {"threads", [=] { return grow(candidate, two, graphs); }},
      {"sizes_in_a_row", [=] { return sizes_in_a_row<AttentionRig>(candidate, tiny()); }},
      {"decoy", [=] { return decoy<AttentionRig>(candidate, tiny()); }},
      {"many_replays", [=] { return many_replays<AttentionRig>(candidate, tiny(), replays); }}};
  for (Case& each : cases) each.id = concat("conformance/sparse/", each.id);
  return cases;
}

Status sparse_sums_in_the_plan(Mode mode, DevicePtr device) {
  const auto candidate = sparse_candidate(SumsIn::kPlan, std::move(device));
  const auto rig = LS_TRY(AttentionRig::create(candidate, tiny()));
  const int32_t one[] = {rig->begin()};
  for (int32_t step = 0; step < 12; ++step) LS_TRY(rig->decode(one, 1, mode));
  return {};
}

}  // namespace lockstep::conformance
