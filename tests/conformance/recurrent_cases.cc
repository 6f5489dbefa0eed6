#include <algorithm>
#include <cstring>

#include "attention/delta/delta_backend.h"
#include "attention/lightning/lightning_backend.h"
#include "conformance/graph_cases.h"
#include "conformance/recurrent_rig.h"

namespace lockstep::conformance {
namespace {

constexpr RecurrentOptions kTiny{.key_heads = 1,
                                 .value_heads = 2,
                                 .key_dim = 16,
                                 .value_dim = 16,
                                 .layers = 2,
                                 .max_rows = 40,
                                 .max_seq_len = 160,
                                 .threads = 1};

Bucket bucket_of(int32_t rows, int32_t seqs) { return {.rows = PaddedRows(rows), .seqs = PaddedSeqs(seqs)}; }

// Prompts past the kernel's chunks and shorter than the convolution, decode steps beside a prompt, pads, an
// empty sequence, an empty step.
Status mixed_batches(RecurrentRig& rig, Poison poison) {
  const int32_t a = rig.begin(), b = rig.begin();
  LS_TRY(rig.step({.shares = {{a, 70}, {b, 2}}, .bucket = bucket_of(72, 3), .poison = poison}));
  LS_TRY(rig.step({.shares = {{a, 1}, {b, 1}}, .bucket = bucket_of(4, 4), .poison = poison}));
  const int32_t c = rig.begin();
  LS_TRY(rig.step({.shares = {{a, 1}, {c, 130}, {b, 3}}, .bucket = bucket_of(140, 4), .poison = poison}));
  LS_TRY(rig.step({.shares = {}, .bucket = bucket_of(3, 3), .poison = poison}));
  rig.end(a);
  const int32_t d = rig.begin();
  LS_TRY(rig.step({.shares = {{c, 1}, {d, 1}, {b, 1}}, .bucket = bucket_of(4, 4), .poison = poison}));
  return rig.step({.shares = {{d, 64}, {b, 1}}, .bucket = bucket_of(65, 2), .poison = poison});
}

Status run_mixed(const RecurrentCandidate& candidate, const RecurrentOptions& options) {
  const auto rig = LS_TRY(RecurrentRig::create(candidate, options));
  return mixed_batches(*rig, Poison::kNan);
}

std::vector<Case> shapes(const RecurrentCandidate& candidate) {
  std::vector<Case> cases;
  struct Sizes {
    int32_t key_heads, value_heads, key_dim, value_dim;
  };
  for (const Sizes& each : {Sizes{1, 1, 64, 64}, Sizes{2, 4, 64, 64}, Sizes{1, 7, 32, 64},
                            Sizes{2, 2, 128, 128}, Sizes{1, 8, 128, 64}, Sizes{3, 6, 16, 48}}) {
    cases.push_back({concat("heads_", each.key_heads, "_", each.value_heads, "_sizes_", each.key_dim, "_",
                            each.value_dim),
                     [=] {
                       return run_mixed(candidate, {.key_heads = each.key_heads,
                                                    .value_heads = each.value_heads,
                                                    .key_dim = each.key_dim,
                                                    .value_dim = each.value_dim});
                     }});
  }
  for (const int32_t width : {2, 3, 4, 8}) {
    if (candidate.kind != RecurrentKind::kDelta) break;  // the others do not convolve
    cases.push_back({concat("window_", width), [=] {
                       RecurrentOptions options = kTiny;
                       options.conv_width = width;
                       options.max_rows = 160;
                       options.max_seq_len = 512;
                       return run_mixed(candidate, options);
                     }});
  }
  return cases;
}

Status poison(const RecurrentCandidate& candidate) {
  Digest first = 0;
  for (const Poison each : {Poison::kNan, Poison::kLargest, Poison::kGarbage}) {
    const auto rig = LS_TRY(RecurrentRig::create(candidate, {}));
    LS_TRY(mixed_batches(*rig, each));
    if (first == 0) first = rig->digest();
    if (rig->digest() == first) continue;
    return error(Code::kInternal, "live rows differ with poison ", static_cast<int>(each),
                 " in pad rows; expected the same bits whatever stands there");
  }
  return {};
}

// Each state slot's bytes before and after a step: only those of the plan's write slots may differ.
Status canaries(const RecurrentCandidate& candidate) {
  const auto rig = LS_TRY(RecurrentRig::create(candidate, {.layers = 2}));
  const int32_t a = rig->begin(), b = rig->begin(), c = rig->begin();
  LS_TRY(rig->step({.shares = {{a, 13}, {b, 30}, {c, 3}}, .bucket = bucket_of(46, 4)}));
  std::vector<uint8_t> before = LS_TRY(rig->rig().cache_bytes());
  for (int32_t round = 0; round < 4; ++round) {
    const int32_t rows = round % 2 == 0 ? 1 : 6;
    LS_TRY(rig->step({.shares = {{b, rows}, {a, 1}}, .bucket = bucket_of(rows == 1 ? 4 : 8, 4)}));
    const std::vector<uint8_t> after = LS_TRY(rig->rig().cache_bytes());
    const StateView& state = rig->rig().storage().state(0);
    const int64_t slot_bytes = state.memory.stride(0) * 4;
    const int64_t layer_bytes = slot_bytes * state.memory.dim(0);
    for (size_t i = 0; i < before.size(); ++i) {
      const auto slot = static_cast<int32_t>(static_cast<int64_t>(i) % layer_bytes / slot_bytes);
      const bool may =
          StateSlot(slot) == rig->planner().state_slot(a) || StateSlot(slot) == rig->planner().state_slot(b);
      if (before[i] == after[i] || may) continue;
      return error(Code::kInternal, "state slot ", slot, ": byte ", i,
                   " of the states changed; expected writes to the slots of the step alone");
    }
    before = after;
  }
  return {};
}

// States that lie further apart than 32 bits count, behind the pages of a shared pool.
Status wide_strides(const RecurrentCandidate& candidate) {
  const auto rig = LS_TRY(RecurrentRig::create(candidate, {.slots = 5, .slot_gap = int64_t{1} << 34}));
  if (rig->rig().storage().state(0).memory.stride(0) <= int64_t{1} << 31) {
    return error(Code::kInternal, "rig: a slot stride of ", rig->rig().storage().state(0).memory.stride(0),
                 " elements; expected more than 2^31");
  }
  return mixed_batches(*rig, Poison::kNan);
}

// The bits of a prompt that is computed at once, in pieces, and row by row. Only lightning attention promises
// so much.
Status cuts(const RecurrentCandidate& candidate) {
  constexpr int32_t kRows = 100;
  constexpr size_t kRow = 4 * 64;
  const auto whole = LS_TRY(RecurrentRig::create(candidate, {}));
  const int32_t a = whole->begin();
  LS_TRY(whole->step({.shares = {{a, kRows}}, .bucket = bucket_of(kRows, 1)}));
  for (const int32_t piece : {1, 7, 64, 65}) {
    const auto cut = LS_TRY(RecurrentRig::create(candidate, {}));
    if (cut->begin() != a) return error(Code::kInternal, "rig: sequences are not counted from the same one");
    for (int32_t begin = 0; begin < kRows; begin += piece) {
      const int32_t rows = std::min(piece, kRows - begin);
      LS_TRY(cut->step({.shares = {{a, rows}}, .bucket = bucket_of(rows + begin % 3, 1 + begin % 3)}));
      const float* want = whole->out().data() + static_cast<size_t>(begin) * kRow;
      if (std::memcmp(cut->out().data(), want, static_cast<size_t>(rows) * kRow * sizeof(float)) == 0)
        continue;
      return error(Code::kInternal, "rows from ", begin, " on have other bits in pieces of ", piece,
                   " rows; expected the same wherever a prompt is cut");
    }
  }
  return {};
}

// A row's bits follow from its own sequence, whoever shares the batch.
Status batch_mates(const RecurrentCandidate& candidate) {
  const auto together = LS_TRY(RecurrentRig::create(candidate, {}));
  const auto alone = LS_TRY(RecurrentRig::create(candidate, {}));
  const int32_t a = together->begin(), b = together->begin();
  if (alone->begin() != a) return error(Code::kInternal, "rig: sequences are not counted from the same one");
  LS_TRY(together->step({.shares = {{a, 71}, {b, 9}}, .bucket = bucket_of(90, 4)}));
  LS_TRY(alone->step({.shares = {{a, 71}}, .bucket = bucket_of(71, 1)}));
  for (int32_t i = 0; i < 20; ++i) {
    const int32_t both[] = {a, b}, one[] = {a};
    LS_TRY(together->decode(both, 4, Mode::kEager));
    LS_TRY(alone->decode(one, 1, Mode::kEager));
    constexpr size_t kRow = 4 * 64;
    if (std::memcmp(together->out().data(), alone->out().data(), kRow * sizeof(float)) == 0) continue;
    return error(Code::kInternal, "row 0 of decode step ", i,
                 " has other bits beside a second sequence; expected a row to follow from its own alone");
  }
  return {};
}

}  // namespace

RecurrentCandidate delta_candidate(DevicePtr device) {
  return {.name = "delta",
          .make = [](const CacheStorage& storage) -> Result<std::unique_ptr<RecurrentBackend>> {
            return std::unique_ptr<RecurrentBackend>(std::make_unique<DeltaBackend>(storage));
          },
          .device = std::move(device)};
}

RecurrentCandidate lightning_candidate(DevicePtr device) {
  return {.name = "lightning",
          .kind = RecurrentKind::kLightning,
          .make = [](const CacheStorage& storage) -> Result<std::unique_ptr<RecurrentBackend>> {
            return std::unique_ptr<RecurrentBackend>(std::make_unique<LightningBackend>(storage));
          },
          .device = std::move(device)};
}

std::vector<Case> recurrent_cases(const RecurrentCandidate& candidate) {
  std::vector<Case> cases = shapes(candidate);
  cases.push_back({"poison", [=] { return poison(candidate); }});
  cases.push_back({"guarded", [=] { return run_mixed(candidate, {.level = GuardLevel::kFull}); }});
  cases.push_back({"batch_mates", [=] { return batch_mates(candidate); }});
  if (candidate.kind == RecurrentKind::kLightning) cases.push_back({"cuts", [=] { return cuts(candidate); }});
  cases.push_back({"canaries", [=] { return canaries(candidate); }});
  cases.push_back({"wide_strides", [=] { return wide_strides(candidate); }});
  for (Case& each : graph_cases<RecurrentRig>(candidate, kTiny)) cases.push_back(std::move(each));
  for (Case& each : cases) each.id = concat("conformance/", candidate.name, "/", each.id);
  return cases;
}

}  // namespace lockstep::conformance
