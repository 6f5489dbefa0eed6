// Reach: pages that lie further apart than 32 bits count, in address space that costs no memory.
#include <algorithm>

#include "base/fault.h"
#include "base/math.h"
#include "conformance/attention_cases.h"

namespace lockstep::conformance {
namespace {

// States of about `bytes` bytes between the pages push them apart.
StateGeometry gap_of(int64_t bytes, int32_t slots) {
  return {.slots = slots,
          .conv_channels = 16,
          .conv_width = 2,
          .value_heads = 1,
          .key_dim = 16,
          .value_dim = static_cast<int32_t>((bytes - 64) / 64)};
}

Status prompt_and_decode(AttentionRig& rig, int32_t rows, Mode mode) {
  const int32_t one[] = {rig.begin()};
  LS_TRY(
      rig.step({.shares = {{one[0], rows}},
                .bucket = {.rows = PaddedRows(rows), .seqs = PaddedSeqs(1), .logits_rows = PaddedRows(0)}}));
  for (int32_t i = 0; i < 3; ++i) LS_TRY(rig.decode(one, 2, mode));
  return {};
}

// The narrowest index that any op of the backend declares for a cache.
int declared_bits(const AttentionCandidate& candidate) {
  const auto backend = candidate.make(CacheStorage());
  int bits = 64;
  if (!backend.ok()) return bits;
  for (const OpSpec* op : (*backend)->spec().ops) {
    for (const OpArg& arg : op->args)
      if (arg.kind == ArgKind::kKvCache) bits = std::min(bits, arg.index_bits);
  }
  return bits;
}

// Page strides past 2^31 elements, not only bytes.
Status wide_strides(const AttentionCandidate& candidate) {
  if (declared_bits(candidate) < 64) {
    return error(Code::kUnimplemented, candidate.name, ": declares indices of ", declared_bits(candidate),
                 " bits; expected 64 for a cache of this size");
  }
  for (const char* id : {"apart/token/shared", "interleaved/head/shared", "apart/shuffled8/shared"}) {
    const KvLayout layout = LS_TRY(parse_kv_layout(id));
    const auto rig =
        LS_TRY(AttentionRig::create(candidate, {.layout = layout,
                                                .num_pages = 6,
                                                .max_seqs = 2,
                                                .behind_pages = gap_of((int64_t{1} << 33) + 65536, 6)}));
    if (rig->rig().storage().kv(0).k.page_stride <= int64_t{1} << 31)
      return error(Code::kInternal, "rig: a page stride of ", rig->rig().storage().kv(0).k.page_stride,
                   " elements; expected more than 2^31");
    LS_TRY(prompt_and_decode(*rig, 37, Mode::kEager));
    LS_TRY(prompt_and_decode(*rig, 18, Mode::kGraph));
  }
  return {};
}

// A cache of two pages whose planes are `width` bytes wide from the first to the last.
Status at_width(const AttentionCandidate& candidate, int64_t width, int32_t rows) {
  AttentionOptions options{
      .layout = LS_TRY(parse_kv_layout("apart/token/shared")), .num_pages = 2, .max_seqs = 2};
  options.max_seq_len = options.page_tokens;
  options.max_rows = options.page_tokens;
  const int64_t page = int64_t{options.page_tokens} * options.kv_heads * options.head_dim * 4;
  options.behind_pages = gap_of(width - 2 * page, 2);
  const auto rig = LS_TRY(AttentionRig::create(candidate, options));
  const int64_t stride = rig->rig().storage().kv(0).k.page_stride * 4;
  if (stride + page != width)
    return error(Code::kInternal, "rig: a plane of ", stride + page, " bytes; expected ", width);
  return prompt_and_decode(*rig, rows, Mode::kGraph);
}

// A backend with indices of fewer bits works up to what they reach and is refused, by name, one step beyond.
Status index_width(const AttentionCandidate& candidate) {
  const int bits = declared_bits(candidate);
  const int64_t limit = int64_t{1} << (std::min(bits, 32) - 1);
  constexpr int64_t kStep = 64;  // bytes by which the rig's gap can grow
  LS_TRY(at_width(candidate, limit - kStep, 9));
  const Status beyond = at_width(candidate, limit, 9);
  if (bits >= 64) return beyond;
  if (!beyond.ok() && beyond.fault() != nullptr && beyond.fault()->check == "P6") return {};
  return error(Code::kInternal, "a cache of ", limit,
               " bytes: ", beyond.ok() ? std::string("nobody objects") : beyond.message(),
               "; expected P6, for indices of ", bits, " bits");
}

}  // namespace

std::vector<Case> attention_reach_cases(const AttentionCandidate& candidate) {
  return {{"wide_strides", [=] { return wide_strides(candidate); }},
          {"index_width", [=] { return index_width(candidate); }}};
}

}  // namespace lockstep::conformance
