#include "model/shard.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "base/math.h"

namespace lockstep {
namespace {

// Something of the model that a number of ranks does not divide.
struct Misfit {
  std::string_view name;  // as in config.json
  int32_t size = 0;
  bool or_multiple = false;  // a multiple would do as well
};

// The first thing that tp ranks cannot share.
std::optional<Misfit> misfit_of(const DecoderSpec& whole, int32_t tp, bool expert_parallel) {
  const auto cut = [tp](int32_t size) { return size % tp == 0; };
  if (whole.count(Mixer::kSoftmax) > 0) {
    const int32_t heads = whole.softmax.heads, kv_heads = whole.softmax.kv_heads;
    if (!cut(heads)) return Misfit{"num_attention_heads", heads};
    // The heads of a group choose their blocks together.
    if (whole.softmax.sparse && !cut(kv_heads)) return Misfit{"num_key_value_heads", kv_heads};
    if (!cut(kv_heads) && tp % kv_heads != 0) return Misfit{"num_key_value_heads", kv_heads, true};
  }
  if (whole.count(Mixer::kDelta) > 0 && !cut(whole.delta.key_heads))
    return Misfit{"linear_num_key_heads", whole.delta.key_heads};
  if (whole.count(Mixer::kLightning) > 0) {
    if (!cut(whole.lightning.heads)) return Misfit{"lightning_nh", whole.lightning.heads};
    if (!cut(whole.lightning.kv_heads)) return Misfit{"lightning_nkv", whole.lightning.kv_heads};
  }
  if (whole.count(Mlp::kDense) > 0 && !cut(whole.dense_width))
    return Misfit{"intermediate_size", whole.dense_width};
  if (whole.count(Mlp::kMoe) > 0) {
    const MoeSpec& moe = whole.moe;
    if (!expert_parallel && !cut(moe.expert_width)) return Misfit{"moe_intermediate_size", moe.expert_width};
    if (!cut(moe.shared_width)) return Misfit{"shared_expert_intermediate_size", moe.shared_width};
  }
  return std::nullopt;
}

// Whether each of tp ranks has a row of the vocabulary, when each has ceil(V / tp).
bool shares_vocabulary(int32_t vocab, int32_t tp) { return int64_t{tp - 1} * ceil_div(vocab, tp) < vocab; }

bool fits(const DecoderSpec& whole, int32_t tp, bool expert_parallel) {
  return !misfit_of(whole, tp, expert_parallel) && shares_vocabulary(whole.vocab, tp);
}

// "1, 2 or 4": the counts that `accepts`, up to `most`.
template <typename Accepts>
std::string choices(int32_t most, const Accepts& accepts) {
  std::vector<int32_t> good;
  for (int32_t n = 1; n <= most; ++n) {
    if (accepts(n)) good.push_back(n);
  }
  std::string text;
  for (size_t i = 0; i < good.size(); ++i)
    text += concat(i == 0 ? "" : i + 1 == good.size() ? " or " : ", ", good[i]);
  return text;
}

// More ranks than this share no model that there is.
constexpr int32_t kMostRanks = 1024;

Status check_tp(const DecoderSpec& whole, const ShardSpec& place) {
  const auto accepts = [&](int32_t n) { return fits(whole, n, place.expert_parallel); };
  if (place.tp >= 1 && place.tp <= kMostRanks && accepts(place.tp)) return {};
  std::string expected = concat("1 to ", kMostRanks);
  if (place.tp >= 1 && place.tp <= kMostRanks) {
    const std::optional<Misfit> misfit = misfit_of(whole, place.tp, place.expert_parallel);
    expected = misfit ? concat("a divisor ", misfit->or_multiple ? "or a multiple " : "", "of ", misfit->name,
                               " = ", misfit->size)
                      : concat("a row of the vocabulary on each rank, with ceil(vocab_size / ", place.tp,
                               ") rows each of vocab_size = ", whole.vocab);
  }
  return error(Code::kInvalidArgument, "--tensor-parallel-size is ", place.tp, "; expected ", expected,
               "; choose ", choices(kMostRanks, accepts));
}

Status check_experts(const DecoderSpec& whole, const ShardSpec& place) {
  const int32_t experts = whole.moe.experts;
  if (!place.expert_parallel) return {};
  if (whole.count(Mlp::kMoe) == 0) {
    return error(Code::kInvalidArgument, "--enable-expert-parallel is given for ", whole.family,
                 ", which has no experts; expected a model of experts; leave the flag away");
  }
  if (place.expert_ranks >= 1 && experts % place.expert_ranks == 0) return {};
  return error(Code::kInvalidArgument, "--enable-expert-parallel spreads the experts over ",
               place.expert_ranks,
               " ranks, tensor times data parallel; expected a divisor of num_experts = ", experts,
               "; choose ", choices(experts, [&](int32_t n) { return experts % n == 0; }), " ranks");
}

}  // namespace

ShardSpec shard_of(const MeshShape& shape, const MeshPlace& place) {
  ShardSpec spec{.tp_rank = place.tp, .tp = shape.tp, .expert_parallel = shape.expert_parallel};
  if (!shape.expert_parallel) return spec;
  spec.expert_rank = place.dp * shape.tp + place.tp;
  spec.expert_ranks = shape.tp * shape.dp;
  return spec;
}

Result<DecoderSpec> shard(const DecoderSpec& whole, const ShardSpec& place) {
  LS_TRY(check_tp(whole, place));
  LS_TRY(check_experts(whole, place));
  LS_CHECK(place.tp_rank >= 0 && place.tp_rank < place.tp, "rank ", place.tp_rank, " of ", place.tp);
  LS_CHECK(place.expert_rank >= 0 && place.expert_rank < place.expert_ranks, "rank ", place.expert_rank,
           " of ", place.expert_ranks);
  DecoderSpec local = whole;
  local.softmax.heads /= place.tp;
  local.softmax.kv_heads = std::max(whole.softmax.kv_heads / place.tp, std::min(whole.softmax.kv_heads, 1));
  // Where `copies` ranks hold the same key head, the first of them counts it.
  const int32_t copies = ceil_div(place.tp, std::max(whole.softmax.kv_heads, 1));
  local.softmax.counted_kv_heads = place.tp_rank % copies == 0 ? local.softmax.kv_heads : 0;
  local.delta.key_heads /= place.tp;
  local.delta.value_heads /= place.tp;
  local.lightning.heads /= place.tp;
  local.lightning.kv_heads /= place.tp;
  local.lightning.first_head = place.tp_rank * local.lightning.heads;
  local.dense_width /= place.tp;
  local.moe.shared_width /= place.tp;
  if (place.expert_parallel) {
    const int32_t count = whole.moe.experts / place.expert_ranks;
    local.moe.held = {.first = place.expert_rank * count, .count = count};
  } else {
    local.moe.expert_width /= place.tp;
  }
  const int32_t rows = ceil_div(whole.vocab, place.tp);
  local.vocab_rows = {.first = place.tp_rank * rows, .count = rows};
  return local;
}

}  // namespace lockstep
