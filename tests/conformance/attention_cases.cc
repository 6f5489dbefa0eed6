// Arithmetic and memory: every cache, every shape, and nothing written that is nobody's business.
#include "conformance/attention_cases.h"

#include <algorithm>
#include <cstring>

#include "attention/paged/paged_backend.h"
#include "base/clock.h"
#include "conformance/conformance.h"

namespace lockstep::conformance {
namespace {

Bucket bucket_of(int32_t rows, int32_t seqs) {
  return {.rows = PaddedRows(rows), .seqs = PaddedSeqs(seqs), .logits_rows = PaddedRows(0)};
}

// Two prompts of uneven length, a third one beside their decode steps, pads of one row and of a page, an
// empty sequence, an empty step.
Status mixed_batches(AttentionRig& rig, Poison poison) {
  const int32_t a = rig.begin(), b = rig.begin();
  const int32_t page = rig.planner().limits().group(GroupId(0)).page_tokens;
  LS_TRY(rig.step({.shares = {{a, 13}, {b, 7}}, .bucket = bucket_of(20, 3), .poison = poison}));
  LS_TRY(rig.step({.shares = {{a, 1}, {b, 1}}, .bucket = bucket_of(4, 4), .poison = poison}));
  const int32_t c = rig.begin();
  const int32_t pads = std::min(page, 5);
  LS_TRY(
      rig.step({.shares = {{a, 1}, {c, 18}, {b, 2}}, .bucket = bucket_of(21 + pads, 4), .poison = poison}));
  LS_TRY(rig.step({.shares = {}, .bucket = bucket_of(3, 3), .poison = poison}));
  return rig.step({.shares = {{c, 1}, {a, 1}, {b, 1}}, .bucket = bucket_of(4, 4), .poison = poison});
}

Status run_mixed(const AttentionCandidate& candidate, const AttentionOptions& options) {
  const auto rig = LS_TRY(AttentionRig::create(candidate, options));
  return mixed_batches(*rig, Poison::kNan);
}

// FR4: bits that follow from a layout were read from addresses that somebody assumed.
Status layout_changes_no_bits(const AttentionCandidate& candidate, const KvLayout& layout,
                              int32_t page_tokens) {
  Digest exact = 0;
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    AttentionOptions options{.dtype = dtype, .page_tokens = page_tokens, .num_pages = 12 + 96 / page_tokens};
    const auto plain = LS_TRY(AttentionRig::create(candidate, options));
    LS_TRY(mixed_batches(*plain, Poison::kNan));
    options.layout = layout;
    const auto rig = LS_TRY(AttentionRig::create(candidate, options));
    LS_TRY(mixed_batches(*rig, Poison::kNan));
    if (rig->digest() != plain->digest()) {
      return error(Code::kInternal, layout, " ", dtype, ", pages of ", page_tokens,
                   ": not the bits of apart/token; expected a layout to change none");
    }
    if (dtype == DType::kF32) exact = rig->digest();
    if (dtype == DType::kF32 || rig->digest() != exact) continue;
    return error(Code::kInternal, layout, " ", dtype, ": the bits of f32; expected the cache to round");
  }
  return {};
}

// Every layout with every dtype and page size.
std::vector<Case> layouts(const AttentionCandidate& candidate) {
  std::vector<Case> cases;
  for (const KvLayout& layout : all_kv_layouts()) {
    std::string id = id_of(layout);
    std::replace(id.begin(), id.end(), '/', '-');
    cases.push_back({concat("layout_", id), [=]() -> Status {
                       for (const int32_t page_tokens : {1, 16, 64, 128})
                         LS_TRY(layout_changes_no_bits(candidate, layout, page_tokens));
                       return {};
                     }});
  }
  return cases;
}

std::vector<Case> shapes(const AttentionCandidate& candidate) {
  std::vector<Case> cases;
  for (const int32_t page_tokens : {1, 16, 64, 128}) {
    cases.push_back({concat("page_size_", page_tokens), [=]() -> Status {
                       const AttentionOptions base{.page_tokens = page_tokens,
                                                   .num_pages = 24 + 192 / page_tokens,
                                                   .max_seq_len = 160};
                       const auto rig = LS_TRY(AttentionRig::create(candidate, base));
                       LS_TRY(mixed_batches(*rig, Poison::kNan));
                       return cross_pages(*rig, page_tokens);
                     }});
  }
  for (const int32_t head_dim : {64, 80, 96, 128, 192, 256}) {
    cases.push_back({concat("head_size_", head_dim), [=]() -> Status {
                       for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16})
                         LS_TRY(run_mixed(candidate, {.dtype = dtype, .head_dim = head_dim}));
                       return {};
                     }});
  }
  struct Heads {
    int32_t heads, kv_heads;
  };
  for (const Heads& each : {Heads{3, 3}, Heads{4, 2}, Heads{8, 2}, Heads{14, 2}, Heads{16, 2}, Heads{6, 1}}) {
    cases.push_back({concat("heads_", each.heads, "_of_", each.kv_heads),
                     [=] { return run_mixed(candidate, {.heads = each.heads, .kv_heads = each.kv_heads}); }});
  }
  return cases;
}

// N1: what stands in pad rows and behind inputs does not reach live rows.
Status poison(const AttentionCandidate& candidate) {
  Digest first = 0;
  for (const Poison each : {Poison::kNan, Poison::kLargest, Poison::kGarbage}) {
    const auto rig = LS_TRY(AttentionRig::create(candidate, {}));
    LS_TRY(mixed_batches(*rig, each));
    if (first == 0) first = rig->digest();
    if (rig->digest() == first) continue;
    return error(Code::kInternal, "live rows differ with poison ", static_cast<int>(each),
                 " in pad rows; expected the same bits whatever stands there");
  }
  return {};
}

// Every launch again over spoiled inputs, and every byte that it may not write: by the guard.
Status guarded(const AttentionCandidate& candidate) {
  for (const KvLayout& layout : all_kv_layouts())
    LS_TRY(run_mixed(candidate, {.layout = layout, .level = GuardLevel::kFull}));
  return run_mixed(candidate, {.page_tokens = 1, .heads = 14, .num_pages = 64, .level = GuardLevel::kFull});
}

// A row's bits follow from its own sequence, whoever shares the batch.
Status batch_mates(const AttentionCandidate& candidate) {
  const auto together = LS_TRY(AttentionRig::create(candidate, {}));
  const auto alone = LS_TRY(AttentionRig::create(candidate, {}));
  const int32_t a = together->begin(), b = together->begin();
  if (alone->begin() != a) return error(Code::kInternal, "rig: sequences are not counted from the same one");
  LS_TRY(together->step({.shares = {{a, 21}, {b, 9}}, .bucket = bucket_of(32, 3)}));
  LS_TRY(alone->step({.shares = {{a, 21}}, .bucket = bucket_of(21, 1)}));
  for (int32_t i = 0; i < 20; ++i) {
    const int32_t both[] = {a, b}, one[] = {a};
    LS_TRY(together->decode(both, 4, Mode::kEager));
    LS_TRY(alone->decode(one, 1, Mode::kEager));
    const auto row = static_cast<size_t>(4 * 64);
    if (std::memcmp(together->out().data(), alone->out().data(), row * sizeof(float)) == 0) continue;
    return error(Code::kInternal, "row 0 of decode step ", i,
                 " has other bits beside a second sequence; expected a row to follow from its own alone");
  }
  return {};
}

// The bytes of the caches before and after a step differ in the slots that the plan names, and nowhere else.
Status canaries(const AttentionCandidate& candidate) {
  for (const KvLayout& layout : all_kv_layouts()) {
    const auto rig = LS_TRY(AttentionRig::create(candidate, {.layout = layout, .head_dim = 64}));
    const int32_t a = rig->begin(), b = rig->begin();
    LS_TRY(rig->step({.shares = {{a, 13}, {b, 30}}, .bucket = bucket_of(48, 4)}));
    std::vector<uint8_t> bytes = LS_TRY(rig->rig().cache_bytes());
    for (const bool decode : {false, true}) {
      const std::vector<int32_t> rows = decode ? std::vector<int32_t>{1, 1} : std::vector<int32_t>{7, 2};
      LS_TRY(rig->step(
          {.shares = {{a, rows[0]}, {b, rows[1]}}, .bucket = decode ? bucket_of(4, 4) : bucket_of(16, 4)}));
      const std::vector<uint8_t> after = LS_TRY(rig->rig().cache_bytes());
      LS_TRY(only_owned_slots(*rig, layout, bytes, after));
      bytes = after;
    }
  }
  return {};
}

}  // namespace

// Decodes over the ends of pages and of the kernel's blocks.
Status cross_pages(AttentionRig& rig, int32_t page_tokens) {
  const int32_t first = rig.begin();
  const int32_t start = std::min(std::max(page_tokens - 3, 1), 40);
  LS_TRY(rig.step({.shares = {{first, start}}, .bucket = bucket_of(start, 1)}));
  while (rig.planner().length(first) < std::max(page_tokens + 3, 70)) {
    const int32_t one[] = {first};
    LS_TRY(rig.decode(one, 2, Mode::kEager));
  }
  return {};
}

Status only_owned_slots(AttentionRig& rig, const KvLayout& layout, std::span<const uint8_t> before,
                        std::span<const uint8_t> after) {
  const KvView& cache = rig.rig().storage().kv(0);
  const auto* base = static_cast<const char*>(cache.k.data);
  const int64_t size = size_of(cache.dtype);
  std::vector<uint8_t> may(before.size(), 0);
  for (const SlotOrSkip slot : rig.plan().get(field::slot_mapping)) {
    if (slot.is_skip()) continue;
    const int64_t page = slot.slot() / cache.page_tokens, token = slot.slot() % cache.page_tokens;
    for (const KvPlane* plane : {&cache.k, &cache.v}) {
      const int64_t plane_at = static_cast<const char*>(plane->data) - base;
      for (int64_t i = 0; i < int64_t{cache.heads} * cache.head_dim; ++i) {
        const int64_t at = plane->offset(page, i / cache.head_dim, token, i % cache.head_dim);
        std::fill_n(may.begin() + plane_at + at * size, size, uint8_t{1});
      }
    }
  }
  for (size_t i = 0; i < before.size(); ++i) {
    if (before[i] == after[i] || may[i] != 0) continue;
    return error(Code::kInternal, "layout ", layout, ": byte ", i,
                 " of the cache changed and belongs to no slot of the step; expected writes to slots alone");
  }
  return {};
}

CaseResult run_case(const Case& each) {
  const int64_t start = now_ns();
  Status status = each.run();
  return {.id = each.id, .status = std::move(status), .seconds = seconds_since(start)};
}

AttentionCandidate paged_candidate(DevicePtr device) {
  return {.name = "paged",
          .make = [](const CacheStorage& storage) -> Result<std::unique_ptr<AttentionBackend>> {
            return std::unique_ptr<AttentionBackend>(std::make_unique<PagedBackend>(storage));
          },
          .device = std::move(device)};
}

std::vector<Case> attention_cases(const AttentionCandidate& candidate) {
  std::vector<Case> cases = layouts(candidate);
  const auto take = [&cases](std::vector<Case> more) {
    for (Case& each : more) cases.push_back(std::move(each));
  };
  take(shapes(candidate));
  cases.push_back({"poison", [=] { return poison(candidate); }});
  cases.push_back({"guarded", [=] { return guarded(candidate); }});
  cases.push_back({"batch_mates", [=] { return batch_mates(candidate); }});
  cases.push_back({"canaries", [=] { return canaries(candidate); }});
  take(attention_graph_cases(candidate));
  take(attention_reach_cases(candidate));
  for (Case& each : cases) each.id = concat("conformance/", candidate.name, "/", each.id);
  return cases;
}

}  // namespace lockstep::conformance
