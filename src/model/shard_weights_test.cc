#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/shard.h"
#include "model/test_support.h"
#include "model/weights.h"
#include "weights/test_support.h"

namespace lockstep {
namespace {

// Ranks that share a model: tensor-parallel ones, and the replicas over which experts are spread as well.
struct Ranks {
  int32_t tp = 1;
  int32_t dp = 1;
  bool expert_parallel = false;

  std::vector<ShardSpec> places() const {
    const MeshShape shape{.tp = tp, .dp = dp, .expert_parallel = expert_parallel};
    std::vector<ShardSpec> all;
    for (int32_t d = 0; d < dp; ++d) {
      for (int32_t t = 0; t < tp; ++t) all.push_back(shard_of(shape, {.tp = t, .dp = d}));
    }
    return all;
  }
};

// A run of `count` heads or columns of `size` each, from number `first` on.
struct Pieces {
  int64_t first = 0, count = 0, size = 1;
};

std::vector<int64_t> indices(const std::vector<std::pair<int64_t, Pieces>>& blocks) {
  std::vector<int64_t> all;
  for (const auto& [base, pieces] : blocks) {
    for (int64_t i = 0; i < pieces.count * pieces.size; ++i)
      all.push_back(base + pieces.first * pieces.size + i);
  }
  return all;
}

// Which elements of the whole matrix, as it lies in memory, a shard's matrix must have; and how often each
// element of the whole was found in a shard.
class Union {
 public:
  Union(std::string name, const PackedWeight& whole)
      : name_(std::move(name)),
        whole_(whole),
        found_(static_cast<size_t>(whole.experts * whole.n * whole.k), 0) {}

  void add(const PackedWeight& local, const std::vector<int64_t>& rows, const std::vector<int64_t>& columns,
           int64_t first_expert) {
    ASSERT_EQ(local.k, static_cast<int64_t>(columns.size())) << name_;
    ASSERT_EQ(local.n, static_cast<int64_t>(rows.size())) << name_;
    for (int64_t x = 0; x < local.experts; ++x) {
      for (int64_t n = 0; n < local.n; ++n) {
        for (int64_t k = 0; k < local.k; ++k) {
          const int64_t row = rows[static_cast<size_t>(n)], column = columns[static_cast<size_t>(k)];
          const float value = element(local, x, n, k);
          if (row >= whole_.n) {
            ASSERT_EQ(value, 0.0f) << name_ << ": row " << row << " is past the vocabulary";
            continue;
          }
          const int64_t expert = first_expert + x;
          ASSERT_EQ(value, element(whole_, expert, row, column))
              << name_ << " expert " << expert << " row " << row << " column " << column;
          ++found_[static_cast<size_t>((expert * whole_.n + row) * whole_.k + column)];
        }
      }
    }
  }
  // Every element is in equally many shards.
  void expect_copies(int32_t copies) const {
    for (size_t i = 0; i < found_.size(); ++i) ASSERT_EQ(found_[i], copies) << name_ << " element " << i;
  }

 private:
  std::string name_;
  const PackedWeight& whole_;
  std::vector<int32_t> found_;
};

struct Loaded {
  DecoderWeights weights;
  std::optional<LoadedWeights> memory;
};

// From the golden checkpoint, or made up.
std::unique_ptr<Loaded> load(const DecoderSpec& whole, const ShardSpec& place, const Checkpoint* checkpoint) {
  auto loaded = std::make_unique<Loaded>();
  const WeightPlan plan = list_weights(whole, place, DType::kF32, loaded->weights);
  auto memory = checkpoint != nullptr ? load_weights(plan, *checkpoint, {}) : make_dummy_weights(plan, 3, {});
  EXPECT_TRUE(memory.ok()) << memory.status().message();
  if (memory.ok()) loaded->memory = std::move(memory).value();
  return loaded;
}

// All shards of a model beside the whole.
class Shards {
 public:
  Shards(DecoderSpec whole, const Ranks& ranks, const Checkpoint* checkpoint)
      : spec_(std::move(whole)), ranks_(ranks), places_(ranks.places()) {
    whole_ = load(spec_, {}, checkpoint);
    for (const ShardSpec& place : places_) parts_.push_back(load(spec_, place, checkpoint));
  }

  void expect_union() const {
    vocabulary(&DecoderWeights::embedding, "embedding");
    if (!spec_.tied_head) vocabulary(&DecoderWeights::head, "head");
    for (size_t i = 0; i < spec_.layers.size(); ++i) {
      if (spec_.layers[i].mixer == Mixer::kSoftmax) {
        softmax(i);
      } else {
        delta(i);
      }
      if (spec_.layers[i].mlp == Mlp::kDense) {
        mlp(
            i, [](const LayerWeights& w) -> const MlpWeights& { return w.dense; }, spec_.dense_width);
      } else {
        experts(i);
      }
    }
  }
  const LoadedWeights& memory(size_t rank) const { return *parts_[rank]->memory; }

 private:
  int64_t tp() const { return ranks_.tp; }
  Pieces share(const ShardSpec& place, int64_t count, int64_t size) const {
    return {count / tp() * place.tp_rank, count / tp(), size};
  }
  static std::vector<int64_t> all(int64_t count) { return indices({{0, {0, count, 1}}}); }

  // `rows` and `columns` of a place say which of the whole its shard has.
  template <typename Get, typename Rows, typename Columns>
  void hold(const std::string& name, const Get& get, const Rows& rows, const Columns& columns) const {
    Union sum(name, get(whole_->weights));
    for (size_t r = 0; r < places_.size(); ++r)
      sum.add(get(parts_[r]->weights), rows(places_[r]), columns(places_[r]), 0);
    sum.expect_copies(static_cast<int32_t>(places_.size()) / ranks_.tp);
  }
  void vocabulary(PackedWeight DecoderWeights::*member, const std::string& name) const {
    const int64_t each = (spec_.vocab + tp() - 1) / tp();
    hold(
        name, [&](const DecoderWeights& w) -> const PackedWeight& { return w.*member; },
        [&](const ShardSpec& place) {
          return indices({{0, {place.tp_rank, 1, each}}});
        },
        [&](const ShardSpec&) { return all(spec_.width); });
  }
  void softmax(size_t i) const {
    const SoftmaxMixerSpec& s = spec_.softmax;
    const int64_t step = s.query_step(), keys = s.heads * step;
    const int64_t values = keys + s.kv_heads * s.head_dim;
    const auto out = [&](const ShardSpec& place) {
      return indices({{0, share(place, s.heads, s.head_dim)}});
    };
    hold(
        concat("o_proj ", i),
        [&](const DecoderWeights& w) -> const PackedWeight& { return w.layers[i].softmax.out; },
        [&](const ShardSpec&) { return all(spec_.width); }, out);
    // Of key heads each is held by as many ranks as share its queries.
    const int64_t copies = std::max<int64_t>(tp() / s.kv_heads, 1);
    const PackedWeight& whole = whole_->weights.layers[i].softmax.qkv;
    std::vector<int32_t> seen(static_cast<size_t>(s.kv_heads), 0);
    for (size_t r = 0; r < places_.size(); ++r) {
      const Pieces queries = share(places_[r], s.heads, step);
      // The key head of the rank's first query head; its last one is of the last key head it holds.
      const int64_t first = queries.first / (s.heads / s.kv_heads);
      const int64_t count = (queries.first + queries.count - 1) / (s.heads / s.kv_heads) - first + 1;
      const Pieces held{first, count, s.head_dim};
      Union rank(concat("qkv ", i, " rank ", r), whole);
      rank.add(parts_[r]->weights.layers[i].softmax.qkv,
               indices({{0, queries}, {keys, held}, {values, held}}), all(spec_.width), 0);
      for (int64_t h = first; h < first + count; ++h) ++seen[static_cast<size_t>(h)];
    }
    for (const int32_t count : seen) EXPECT_EQ(count, copies * ranks_.dp);
    for (size_t r = 0; r < places_.size(); ++r) norms(i, r);
  }
  // One weight for all heads is on every rank; of a weight over all heads, what the rank's heads have.
  void norms(size_t i, size_t r) const {
    const SoftmaxMixerSpec& s = spec_.softmax;
    const SoftmaxWeights& whole = whole_->weights.layers[i].softmax;
    const SoftmaxWeights& part = parts_[r]->weights.layers[i].softmax;
    if (s.qk_norm == QkNorm::kNone) return;
    const bool all = s.qk_norm == QkNorm::kAllHeads;
    const Pieces queries = share(places_[r], s.heads, s.head_dim);
    const int64_t key_head = queries.first / (s.heads / s.kv_heads);
    const int64_t keys = std::max<int64_t>(s.kv_heads / tp(), 1);
    ASSERT_EQ(part.q_norm.elements(), all ? queries.count * s.head_dim : s.head_dim);
    ASSERT_EQ(part.k_norm.elements(), all ? keys * s.head_dim : s.head_dim);
    for (int64_t e = 0; e < part.q_norm.elements(); ++e) {
      const int64_t from = all ? queries.first * s.head_dim + e : e;
      ASSERT_EQ(part.q_norm.as<float>()[e], whole.q_norm.as<float>()[from]) << "rank " << r;
    }
    for (int64_t e = 0; e < part.k_norm.elements(); ++e) {
      const int64_t from = all ? key_head * s.head_dim + e : e;
      ASSERT_EQ(part.k_norm.as<float>()[e], whole.k_norm.as<float>()[from]) << "rank " << r;
    }
  }
  void delta(size_t i) const {
    const DeltaMixerSpec& d = spec_.delta;
    const int64_t keys = d.key_width(), values = d.value_width();
    hold(
        concat("delta in ", i),
        [&](const DecoderWeights& w) -> const PackedWeight& { return w.layers[i].delta.in; },
        [&](const ShardSpec& place) {
          const Pieces k = share(place, d.key_heads, d.key_dim), v = share(place, d.value_heads, d.value_dim);
          const Pieces heads = share(place, d.value_heads, 1);
          return indices({{0, k},
                          {keys, k},
                          {2 * keys, v},
                          {2 * keys + values, v},
                          {2 * (keys + values), heads},
                          {2 * (keys + values) + d.value_heads, heads}});
        },
        [&](const ShardSpec&) { return all(spec_.width); });
    hold(
        concat("delta out ", i),
        [&](const DecoderWeights& w) -> const PackedWeight& { return w.layers[i].delta.out; },
        [&](const ShardSpec&) { return all(spec_.width); },
        [&](const ShardSpec& place) {
          return indices({{0, share(place, d.value_heads, d.value_dim)}});
        });
    delta_tensors(i);
  }
  void delta_tensors(size_t i) const {
    const DeltaMixerSpec& d = spec_.delta;
    const DeltaWeights& whole = whole_->weights.layers[i].delta;
    for (size_t r = 0; r < places_.size(); ++r) {
      const DeltaWeights& part = parts_[r]->weights.layers[i].delta;
      const Pieces k = share(places_[r], d.key_heads, d.key_dim),
                   v = share(places_[r], d.value_heads, d.value_dim);
      const auto channels = indices({{0, k}, {d.key_width(), k}, {2 * d.key_width(), v}});
      ASSERT_EQ(part.conv.shape, Shape({static_cast<int64_t>(channels.size()), d.conv_width}));
      for (size_t c = 0; c < channels.size(); ++c) {
        for (int64_t w = 0; w < d.conv_width; ++w) {
          ASSERT_EQ(part.conv.as<float>()[static_cast<int64_t>(c) * d.conv_width + w],
                    whole.conv.as<float>()[channels[c] * d.conv_width + w]);
        }
      }
      const Pieces heads = share(places_[r], d.value_heads, 1);
      ASSERT_EQ(part.a_log.shape, Shape({heads.count}));
      for (int64_t h = 0; h < heads.count; ++h) {
        ASSERT_EQ(part.a_log.as<float>()[h], whole.a_log.as<float>()[heads.first + h]);
        ASSERT_EQ(part.dt_bias.as<float>()[h], whole.dt_bias.as<float>()[heads.first + h]);
      }
    }
  }
  template <typename Get>
  void mlp(size_t i, const Get& get, int64_t width) const {
    hold(
        concat("gate_up ", i),
        [&](const DecoderWeights& w) -> const PackedWeight& { return get(w.layers[i]).gate_up; },
        [&](const ShardSpec& place) {
          return indices({{0, share(place, width, 1)}, {width, share(place, width, 1)}});
        },
        [&](const ShardSpec&) { return all(spec_.width); });
    hold(
        concat("down ", i),
        [&](const DecoderWeights& w) -> const PackedWeight& { return get(w.layers[i]).down; },
        [&](const ShardSpec&) { return all(spec_.width); },
        [&](const ShardSpec& place) {
          return indices({{0, share(place, width, 1)}});
        });
  }
  void experts(size_t i) const {
    const int64_t width = spec_.moe.expert_width;
    const MoeWeights& whole = whole_->weights.layers[i].moe;
    if (whole.shared.gate_up)
      mlp(
          i, [](const LayerWeights& w) -> const MlpWeights& { return w.moe.shared; }, spec_.moe.shared_width);
    Union gate_up(concat("experts gate_up ", i), whole.experts.gate_up);
    Union down(concat("experts down ", i), whole.experts.down);
    for (size_t r = 0; r < places_.size(); ++r) {
      const MoeWeights& part = parts_[r]->weights.layers[i].moe;
      ASSERT_EQ(part.router.n, spec_.moe.experts);
      const bool parallel = ranks_.expert_parallel;
      const Pieces columns = parallel ? Pieces{0, width, 1} : share(places_[r], width, 1);
      const int64_t count = parallel ? spec_.moe.experts / (ranks_.tp * ranks_.dp) : spec_.moe.experts;
      ASSERT_EQ(part.experts.down.experts, count);
      const int64_t first = parallel ? count * static_cast<int64_t>(r) : 0;
      gate_up.add(part.experts.gate_up, indices({{0, columns}, {width, columns}}), all(spec_.width), first);
      down.add(part.experts.down, all(spec_.width), indices({{0, columns}}), first);
    }
    const int32_t copies = ranks_.expert_parallel ? 1 : ranks_.dp;
    gate_up.expect_copies(copies);
    down.expect_copies(copies);
  }

  DecoderSpec spec_;
  Ranks ranks_;
  std::vector<ShardSpec> places_;
  std::unique_ptr<Loaded> whole_;
  std::vector<std::unique_ptr<Loaded>> parts_;
};

struct GoldenCase {
  const char* family;
  Ranks ranks;
};

constexpr GoldenCase kGoldenCases[] = {
    {"qwen3", {.tp = 2}},
    {"qwen3_moe", {.tp = 2}},
    {"qwen3_moe", {.tp = 4}},  // two key heads: each on two ranks
    {"qwen3_moe", {.tp = 2, .expert_parallel = true}},
    {"qwen3_moe", {.tp = 4, .expert_parallel = true}},
    {"qwen3_moe", {.tp = 2, .dp = 2, .expert_parallel = true}},
    {"qwen3_moe", {.dp = 12, .expert_parallel = true}},  // one expert each
    {"qwen3_next", {.tp = 2}},
    {"qwen3_next", {.dp = 3, .expert_parallel = true}},
    {"llama", {.tp = 2}},
    {"qwen3_5", {.tp = 2}},
    {"qwen3_5_moe", {.tp = 2}},  // packed experts
    {"qwen3_5_moe", {.tp = 2, .dp = 5, .expert_parallel = true}},
    {"minimax_m2", {.tp = 2}},
    {"minimax_m2", {.tp = 6}},  // two key heads: each on three ranks
    {"minimax_m2", {.tp = 2, .expert_parallel = true}},
};

TEST(ShardWeights, AreTogetherTheWholeModel) {
  for (const GoldenCase& c : kGoldenCases) {
    SCOPED_TRACE(concat(c.family, " tp ", c.ranks.tp, " dp ", c.ranks.dp));
    const Checkpoint checkpoint = Checkpoint::open(golden(c.family)).value();
    const DecoderSpec spec = golden_spec(c.family);

    Shards(spec, c.ranks, &checkpoint).expect_union();
    Shards(spec, c.ranks, nullptr).expect_union();  // made up
    if (HasFatalFailure()) return;
  }
}

TEST(ShardWeights, TakeProjectionsThatAreNotGroupedApartAsWell) {
  DecoderSpec spec = golden_spec("qwen3_next");
  spec.naming.grouped_delta_projections = false;
  Shards(spec, {.tp = 2}, nullptr).expect_union();
  spec.delta.key_heads = 4;
  spec.delta.value_heads = 8;
  Shards(spec, {.tp = 4}, nullptr).expect_union();
}

// MiniMax-M2's: a norm over all heads, a correction bias, experts under names of their own.
TEST(ShardWeights, CutANormOverAllHeadsByTheRanksHeads) {
  DecoderSpec spec = golden_spec("qwen3_moe");
  spec.layers.resize(1);
  spec.softmax.qk_norm = QkNorm::kAllHeads;
  spec.moe.scoring = MoeScoring::kSigmoid;
  spec.moe.correction_bias = true;
  for (const Ranks& ranks :
       {Ranks{.tp = 2}, Ranks{.tp = 4}, Ranks{.tp = 2, .dp = 2, .expert_parallel = true}})
    Shards(spec, ranks, nullptr).expect_union();
}

// The golden checkpoints have a tensor per expert: this one has all experts in one.
TEST(ShardWeights, ComeFromPackedExpertsAsWell) {
  DecoderSpec spec = golden_spec("qwen3_moe");
  spec.layers.resize(1);
  DecoderWeights unused;
  RandomCheckpoint source(19);
  const WeightPlan plan = list_weights(spec, DType::kF32, unused);
  for (const TensorTarget& tensor : plan.tensors) source.add<float>(tensor.name, tensor.shape);
  for (const MatrixTarget& matrix : plan.matrices) {
    for (const WeightPart& part : matrix.otherwise.empty() ? matrix.parts : matrix.otherwise) {
      const Shape shape =
          matrix.otherwise.empty() ? Shape{part.rows, matrix.k} : Shape{matrix.experts, part.rows, matrix.k};
      source.add<float>(part.name, shape);
    }
  }
  const Checkpoint checkpoint = source.checkpoint();
  for (const Ranks& ranks :
       {Ranks{.tp = 2}, Ranks{.tp = 4}, Ranks{.tp = 2, .dp = 2, .expert_parallel = true}})
    Shards(spec, ranks, &checkpoint).expect_union();
}

TEST(ShardWeights, AreReadWithoutTheBytesOfOtherRanks) {
  for (const GoldenCase& c : kGoldenCases) {
    const Checkpoint checkpoint = Checkpoint::open(golden(c.family)).value();
    const DecoderSpec spec = golden_spec(c.family);
    const Shards shards(spec, c.ranks, &checkpoint);
    const std::vector<ShardSpec> places = c.ranks.places();
    for (size_t r = 0; r < places.size(); ++r) {
      const DecoderSpec local = shard(spec, places[r]).value();
      const int64_t zeros = std::max(local.vocab_rows.first + local.vocab_rows.count - spec.vocab, 0);
      const int64_t elements = local.parameters() - zeros * spec.width * (spec.tied_head ? 1 : 2);

      EXPECT_EQ(shards.memory(r).bytes_read, 4 * elements) << c.family << " rank " << r;  // of f32
    }
    EXPECT_EQ(load(spec, {}, &checkpoint)->memory->bytes_read, 4 * spec.parameters());
  }
}

}  // namespace
}  // namespace lockstep
