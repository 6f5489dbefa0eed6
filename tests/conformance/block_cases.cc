// Block-sparse attention as the engine has it: choices against the oracle, dense rows with the bits of dense
// attention, chunks that change nothing, graphs.
#include <algorithm>
#include <cstring>

#include "attention/sparse/sparse_backend.h"
#include "base/math.h"
#include "conformance/attention_cases.h"
#include "conformance/graph_cases.h"
#include "contract/selected_blocks.h"

namespace lockstep::conformance {
namespace {

AttentionOptions with_blocks(const BlockRule& rule) {
  const auto fields = selected_block_fields();
  return {.page_tokens = 64,
          .heads = 8,
          .kv_heads = 2,
          .head_dim = 16,
          .num_pages = 40,
          .max_rows = 640,
          .max_seq_len = 640,
          .derived = {fields.begin(), fields.end()},
          .blocks = rule};
}

AttentionCandidate candidate_of(const AttentionOptions& options, const DevicePtr& device) {
  const BlockRule rule = options.blocks.value_or(BlockRule{});
  const int32_t tokens = ceil_div(options.max_seq_len, options.page_tokens) * options.page_tokens;
  const SparseOptions sparse{.init_blocks = rule.init,
                             .window_blocks = rule.window,
                             .most_blocks = rule.most,
                             .dense_len = rule.dense_len,
                             .max_tokens = tokens,
                             .compressed = kCompressedPages};
  return {.name = "blocks",
          .make = [sparse](const CacheStorage& storage) -> Result<std::unique_ptr<AttentionBackend>> {
            return std::unique_ptr<AttentionBackend>(std::make_unique<SparseBackend>(storage, sparse));
          },
          .device = device};
}

Bucket bucket_of(int32_t rows, int32_t seqs) {
  return {.rows = PaddedRows(rows), .seqs = PaddedSeqs(seqs), .logits_rows = PaddedRows(0)};
}

// Prompts over several pages in uneven chunks, beside each other and beside decoding; pads, an empty step.
Status long_batches(AttentionRig& rig, Poison poison) {
  const int32_t a = rig.begin(), b = rig.begin();
  const auto step = [&](std::vector<Share> shares, const Bucket& bucket) {
    return rig.step({.shares = std::move(shares), .bucket = bucket, .poison = poison});
  };
  LS_TRY(step({{a, 301}, {b, 47}}, bucket_of(348, 3)));
  LS_TRY(step({{a, 1}, {b, 1}}, bucket_of(4, 4)));
  LS_TRY(step({{b, 220}, {a, 1}}, bucket_of(230, 4)));
  LS_TRY(step({}, bucket_of(3, 3)));
  for (int32_t i = 0; i < 20; ++i) LS_TRY(step({{a, 1}, {b, 1}}, bucket_of(4, 4)));
  return {};
}

Status run_long(const AttentionOptions& options, const DevicePtr& device, Digest* digest = nullptr,
                Poison poison = Poison::kNan) {
  const auto rig = LS_TRY(AttentionRig::create(candidate_of(options, device), options));
  LS_TRY(long_batches(*rig, poison));
  if (digest != nullptr) *digest = rig->digest();
  return {};
}

Status shapes(const DevicePtr& device) {
  for (const int32_t page_tokens : {64, 128}) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      for (const BlockRule rule : {BlockRule{1, 1, 4, 0}, BlockRule{0, 2, 3, 0}, BlockRule{2, 1, 5, 250}}) {
        AttentionOptions options = with_blocks(rule);
        options.page_tokens = page_tokens;
        options.dtype = dtype;
        LS_TRY(run_long(options, device));
      }
    }
  }
  AttentionOptions one = with_blocks({});
  one.kv_heads = 1;
  one.heads = 3;
  one.head_dim = 48;
  return run_long(one, device);
}

// A layout moves keys and values; means and choices are the same.
Status layouts(const DevicePtr& device) {
  Digest first = 0;
  for (const KvLayout& layout : all_kv_layouts()) {
    AttentionOptions options = with_blocks({});
    options.layout = layout;
    Digest digest = 0;
    LS_TRY(run_long(options, device, &digest));
    if (first == 0) first = digest;
    if (digest == first) continue;
    return error(Code::kInternal, layout, ": other bits than ", all_kv_layouts().front(),
                 "; expected a layout to change none");
  }
  return {};
}

Status poison(const DevicePtr& device) {
  Digest first = 0;
  for (const Poison each : {Poison::kNan, Poison::kLargest, Poison::kGarbage}) {
    Digest digest = 0;
    LS_TRY(run_long(with_blocks({}), device, &digest, each));
    if (first == 0) first = digest;
    if (digest == first) continue;
    return error(Code::kInternal, "live rows differ with poison ", static_cast<int>(each),
                 " in pad rows; expected the same bits whatever stands there");
  }
  return {};
}

// Rows below dense_len, and rows whose lists hold every block, are dense attention: on the CPU by its bits.
Status dense(const DevicePtr& device) {
  AttentionOptions plain = with_blocks({});
  plain.blocks.reset();
  plain.derived.clear();
  const auto paged = LS_TRY(AttentionRig::create(paged_candidate(device), plain));
  LS_TRY(long_batches(*paged, Poison::kNan));
  for (const BlockRule rule : {BlockRule{1, 1, 4, 1 << 20}, BlockRule{1, 1, 10, 0}}) {
    Digest digest = 0;
    LS_TRY(run_long(with_blocks(rule), device, &digest));
    if (digest == paged->digest() || device != nullptr) continue;
    return error(Code::kInternal, "up to ", rule.most, " blocks, dense below ", rule.dense_len,
                 " tokens: not the bits of dense attention; expected those where every block is chosen");
  }
  return {};
}

// The rows of one sequence of 600 tokens, in chunks of the given size.
Result<std::vector<float>> rows_in_chunks(const AttentionOptions& options, const DevicePtr& device,
                                          int32_t chunk) {
  const auto rig = LS_TRY(AttentionRig::create(candidate_of(options, device), options));
  const int32_t sequence = rig->begin();
  std::vector<float> rows;
  for (int32_t done = 0; done < 600; done += chunk) {
    const int32_t count = std::min(chunk, 600 - done);
    RigStep step = prefill_step(sequence, count);
    step.compare = false;
    LS_TRY(rig->step(step));
    rows.insert(rows.end(), rig->out().begin(),
                rig->out().begin() + int64_t{count} * options.heads * options.head_dim);
  }
  return rows;
}

Status chunks(const DevicePtr& device) {
  for (const int32_t dense_len : {0, 333}) {
    const AttentionOptions options = with_blocks({.dense_len = dense_len});
    const std::vector<float> whole = LS_TRY(rows_in_chunks(options, device, 600));
    for (const int32_t chunk : {1, 7, 64, 100}) {
      const std::vector<float> cut = LS_TRY(rows_in_chunks(options, device, chunk));
      for (size_t i = 0; i < whole.size(); ++i) {
        if (std::memcmp(&whole[i], &cut[i], sizeof(float)) == 0) continue;
        return error(Code::kInternal, "position ", i / static_cast<size_t>(options.heads * options.head_dim),
                     " in chunks of ", chunk, ": ", cut[i], "; expected ", whole[i], " as in one piece");
      }
    }
  }
  return {};
}

AttentionOptions tiny() {
  AttentionOptions options = with_blocks({.init = 0, .window = 1, .most = 2});
  options.heads = 2;
  options.kv_heads = 1;
  options.layers = 2;
  options.num_pages = 60;
  options.max_rows = 64;
  options.max_seq_len = 448;
  options.threads = 1;
  return options;
}

// Captured while rows see few blocks, replayed until they choose, ranks of sizes in turn.
Status grow(const AttentionCandidate& candidate, const AttentionOptions& other, std::array<Mode, 2> modes) {
  Pair<AttentionRig> pair = LS_TRY(Pair<AttentionRig>::create(candidate, tiny(), other));
  std::vector<int32_t> batch;
  for (int32_t i = 0; i < 4; ++i) batch.push_back(pair.begin());
  for (int32_t i = 0; i < 4; ++i) {
    for (int32_t chunk = 0; chunk < 1 + 2 * i; ++chunk)
      LS_TRY(pair.prefill(batch[static_cast<size_t>(i)], 57));
  }
  for (int32_t step = 0; step < 40; ++step) {
    const auto live = static_cast<size_t>(1 + step % 4);
    LS_TRY(pair.decode({batch.data(), live}, live == 3 ? 4 : static_cast<int32_t>(live), modes, true));
  }
  return {};
}

}  // namespace

std::vector<Case> block_cases(DevicePtr device) {
  const AttentionCandidate small = candidate_of(tiny(), device);
  AttentionOptions late = tiny(), full = tiny(), two = tiny();
  late.pace = Pace::kLate;
  full.level = GuardLevel::kFull;
  two.threads = 2;
  const std::array<Mode, 2> graphs = {Mode::kGraph, Mode::kGraph};
  std::vector<Case> cases = {
      {"shapes", [=] { return shapes(device); }},
      {"layouts", [=] { return layouts(device); }},
      {"poison", [=] { return poison(device); }},
      {"dense", [=] { return dense(device); }},
      {"chunks", [=] { return chunks(device); }},
      {"guarded",
       [=] {
         AttentionOptions options = with_blocks({.dense_len = 310});
         options.level = GuardLevel::kFull;
         return run_long(options, device);
       }},
      {"graph_equals_eager",
       [=] {
         return grow(small, tiny(), {Mode::kGraph, Mode::kEager});
       }},
      {"late", [=] { return grow(small, late, graphs); }},
      {"level_full", [=] { return grow(small, full, graphs); }},
      {"threads", [=] { return grow(small, two, graphs); }},
      {"sizes_in_a_row", [=] { return sizes_in_a_row<AttentionRig>(small, tiny()); }},
      {"decoy", [=] { return decoy<AttentionRig>(small, tiny()); }},
      {"many_replays", [=] { return many_replays<AttentionRig>(small, tiny(), 2000); }}};
  for (Case& each : cases) each.id = concat("conformance/blocks/", each.id);
  return cases;
}

}  // namespace lockstep::conformance
