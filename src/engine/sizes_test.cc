#include <gtest/gtest.h>

#include <functional>

#include "engine/engine.h"
#include "model/builtin_configs.h"
#include "model/families/families.h"

namespace lockstep {
namespace {

DecoderSpec spec_of(std::string_view name) {
  return read_decoder_spec(parse_json(find_builtin_config(name)->json, {}, name).value()).value();
}

EngineConfig small() {
  EngineConfig config;
  config.threads = 2;
  config.max_model_len = 1000;
  config.num_pages = 40;
  config.isa = "reference";
  return config;
}

EngineSizes sizes_of(const EngineConfig& config, std::string_view model = "tiny-next-2048") {
  Result<EngineSizes> sizes = size_engine(config, spec_of(model), DType::kBF16, 1000);
  EXPECT_TRUE(sizes.ok()) << sizes.status().message();
  return sizes.ok() ? std::move(sizes).value() : EngineSizes{};
}

TEST(EngineSizes, FollowFromTheConfig) {
  const EngineSizes sizes = sizes_of(small());

  EXPECT_EQ(sizes.limits.max_rows, 2048);
  EXPECT_EQ(sizes.limits.max_seqs, 64);
  EXPECT_EQ(sizes.limits.max_seq_len, 1000);
  EXPECT_EQ(sizes.limits.vocab_size, 1024);
  EXPECT_EQ(sizes.limits.num_groups, 2);
  const CacheGroup& pages = sizes.limits.groups[0];
  EXPECT_EQ(pages.num_pages, 41);
  EXPECT_EQ(pages.page_tokens, 64);
  EXPECT_EQ(pages.max_pages_per_seq, 16);
  EXPECT_EQ(pages.table_rows, 65);
  EXPECT_EQ(pages.layout, "apart/token");
  EXPECT_EQ(pages.dtype, "bf16");
  EXPECT_EQ(sizes.limits.groups[1].num_pages, 66);
  EXPECT_EQ(sizes.executor.vocab_known, 1000);
  EXPECT_EQ(sizes.config.isa, "reference");
}

TEST(EngineSizes, ChooseWhatTheConfigLeavesOpen) {
  EngineConfig config;
  config.max_num_seqs = 4;

  const EngineSizes sizes = sizes_of(config);

  EXPECT_EQ(sizes.config.threads, detect_cpu().cpus);
  EXPECT_EQ(sizes.config.max_model_len, 4096);
  EXPECT_EQ(sizes.config.num_state_slots, 5);
  EXPECT_EQ(sizes.config.num_pages, 4 * 4096 / 64);  // a small model: memory does not bind
  EXPECT_EQ(sizes.config.isa, name_of(detect_cpu().best));
  EXPECT_TRUE(check_limits(sizes.limits).ok());
}

TEST(EngineSizes, KeepChunksAndSequencesWithinTheRowsOfAStep) {
  EngineConfig config = small();
  config.max_num_batched_tokens = 10;

  const EngineSizes sizes = sizes_of(config);

  EXPECT_EQ(sizes.config.chunk_size, 10);
  EXPECT_EQ(sizes.config.max_num_seqs, 10);
}

TEST(EngineSizes, SortGraphSizesAndMakeRoomForTheLargest) {
  EngineConfig config = small();
  config.max_num_seqs = 3;
  config.graph_sizes = {8, 2, 4};

  const EngineSizes sizes = sizes_of(config);

  EXPECT_EQ(sizes.config.graph_sizes, (std::vector<int32_t>{2, 4, 8}));
  EXPECT_EQ(sizes.limits.max_seqs, 8);
}

TEST(EngineSizes, AModelWithoutRecurrentLayersHasOneGroup) {
  EXPECT_EQ(sizes_of(small(), "qwen3-0.6b").limits.num_groups, 1);
}

TEST(EngineSizes, CompressedKeysHaveAGroupOfTheirOwn) {
  DecoderSpec spec = spec_of("tiny-next-2048");
  spec.softmax.sparse = SparseSpec{.top_blocks = 4, .window_blocks = 2, .dense_len = 300};
  EngineConfig config = small();
  Result<EngineSizes> dense = size_engine(config, spec_of("tiny-next-2048"), DType::kBF16, 1000);
  Result<EngineSizes> sparse = size_engine(config, spec, DType::kBF16, 1000);
  ASSERT_TRUE(dense.ok() && sparse.ok()) << sparse.status().message();
  const StepLimits& limits = sparse->limits;
  EXPECT_EQ(limits.num_groups, 3);
  EXPECT_EQ(limits.groups[2].kind, GroupKind::kPaged);
  EXPECT_EQ(limits.groups[2].num_pages, 41);
  EXPECT_EQ(limits.groups[2].page_tokens, 64);
  EXPECT_EQ(limits.groups[2].layout, "compressed");
  EXPECT_EQ(limits.selection.group, kCompressedGroup);
  EXPECT_EQ(limits.selection.most_blocks, 6);
  EXPECT_EQ(limits.selection.dense_len, 300);
  // 5 rows a page, of every layer and head, and a second page table.
  const int64_t layers = spec.count(Mixer::kSoftmax), tables = 65 * 16 * 4;
  const int64_t rows = 41 * 5 * int64_t{spec.softmax.kv_heads} * spec.softmax.head_dim * 2;
  EXPECT_EQ(sparse->memory.cache - dense->memory.cache, layers * rows + tables);

  config.page_size = 96;
  EXPECT_EQ(size_engine(config, spec, DType::kBF16, 1000).status().message(),
            "engine: --page-size is 96; expected a multiple of 64, the tokens of a block of qwen3_next");
  spec.softmax.sparse->block = 32;
  EXPECT_EQ(
      size_engine(config, spec, DType::kBF16, 1000).status().message(),
      "engine: qwen3_next has blocks of 32 keys, windows of 32 every 16; expected 64, 32 and 16, which is "
      "what block-sparse attention is made for");
}

TEST(EngineSizes, AreTheSameForEveryRankAndNeedNoneToBeStarted) {
  const DecoderSpec whole = spec_of("tiny-next-2048");
  const int64_t alone = sizes_of(small()).memory.cache;
  for (const MeshShape& shape : {MeshShape{.tp = 2}, MeshShape{.tp = 2, .dp = 2, .expert_parallel = true}}) {
    std::vector<std::pair<int64_t, int64_t>> memory;
    for (int32_t rank = 0; rank < shape.world(); ++rank) {
      const auto mesh = Mesh::without_ranks(shape, rank);
      EngineConfig config = small();
      config.parallel = shape;
      config.mesh = mesh.get();
      const DecoderSpec local = shard(whole, shard_of(shape, mesh->place())).value();
      const Result<EngineSizes> sizes = size_engine(config, local, DType::kBF16, 1000);
      ASSERT_TRUE(sizes.ok()) << sizes.status().message();
      memory.emplace_back(sizes->memory.cache, sizes->memory.activations);
    }
    EXPECT_EQ(memory, decltype(memory)(memory.size(), memory.front())) << describe(shape);
    EXPECT_LT(memory.front().first, alone) << describe(shape);
  }
}

struct Refusal {
  std::function<void(EngineConfig&)> change;
  std::string message;
};

TEST(EngineSizes, NumbersThatDoNotFitAreRefusedInASentence) {
  const Refusal refusals[] = {
      {[](EngineConfig& config) { config.parallel.cp = 2; },
       "engine: ranks of tp 1, dp 1, cp 2 are asked for; expected tp 1, dp 1, cp 1, as this one has joined"},
      {[](EngineConfig& config) { config.parallel.tp = 2; },
       "engine: ranks of tp 2, dp 1, cp 1 are asked for; expected tp 1, dp 1, cp 1, as this one has joined"},
      {[](EngineConfig& c) { c.threads = -1; }, "engine: --threads is -1; expected 1..1024"},
      {[](EngineConfig& c) { c.max_model_len = 4097; }, "engine: --max-model-len is 4097; expected 2..4096"},
      {[](EngineConfig& c) { c.max_model_len = 1; }, "engine: --max-model-len is 1; expected 2..4096"},
      {[](EngineConfig& c) { c.max_num_seqs = 0; }, "engine: --max-num-seqs is 0; expected 1..65536"},
      {[](EngineConfig& c) { c.max_num_batched_tokens = 0; },
       "engine: --max-num-batched-tokens is 0; expected 1..1048576"},
      {[](EngineConfig& c) { c.chunk_size = 0; }, "engine: --chunk-size is 0; expected 1..2048"},
      {[](EngineConfig& c) { c.page_size = 0; }, "engine: --page-size is 0; expected 1..65536"},
      {[](EngineConfig& c) { c.num_pages = -3; }, "engine: --num-pages is -3; expected 1..1073741824"},
      {[](EngineConfig& c) { c.num_state_slots = -1; }, "engine: --num-state-slots is -1; expected 1..65537"},
      {[](EngineConfig& c) {
         c.graph_sizes = {4, 0};
       },
       "engine: --graph-sizes is 0; expected 1..2048"},
      {[](EngineConfig& c) { c.isa = "neon"; },
       concat("engine: isa is neon; expected at most ", name_of(detect_cpu().best),
              ", which is what this CPU has")},
      {[](EngineConfig& c) { c.kv_layout = "apart"; },
       "kv layout: given \"apart\"; expected apart or interleaved, /token, /head, /shuffled4, /shuffled8 or "
       "/shuffled16, and /shared for a padded pool, as in apart/token"},
      {[](EngineConfig& c) {
         c.kv_layout = "apart/token/shared";
         c.num_pages = 10;
       },
       "kv layout apart/token/shared: 66 state slots; expected at most as many as the 11 pages they lie "
       "behind; "
       "lower --num-state-slots or raise --num-pages"},
  };
  for (const Refusal& refusal : refusals) {
    EngineConfig config = small();
    refusal.change(config);

    const Result<EngineSizes> sizes = size_engine(config, spec_of("tiny-next-2048"), DType::kBF16, 1000);

    ASSERT_FALSE(sizes.ok()) << refusal.message;
    EXPECT_EQ(sizes.status().message(), refusal.message);
  }
}

TEST(EngineSizes, RefuseACacheThatNoAddressSpaceHolds) {
  EngineConfig config = small();
  config.page_size = 65536;
  config.num_pages = 1 << 30;

  const Result<EngineSizes> sizes = size_engine(config, spec_of("qwen3-8b"), DType::kBF16, 1000);

  ASSERT_FALSE(sizes.ok());
  EXPECT_EQ(sizes.status().code(), Code::kResourceExhausted);
  EXPECT_EQ(
      sizes.status().message(),
      "cache: 1073741825 pages of 65536 tokens and 0 states take more than 2^60 bytes; lower --num-pages, "
      "--page-size or --num-state-slots");
}

// Every number is in its own range; only together they ask for a table that 32 bits cannot index.
TEST(EngineSizes, RefuseAPageTableThatCannotBeIndexed) {
  EngineConfig config = small();
  config.max_num_seqs = 65536;
  config.max_num_batched_tokens = 65536;
  config.page_size = 1;
  config.max_model_len = 40960;

  const Result<EngineSizes> sizes = size_engine(config, spec_of("qwen3-0.6b"), DType::kBF16, 1000);

  ASSERT_FALSE(sizes.ok());
  EXPECT_EQ(sizes.status().code(), Code::kInvalidArgument);
  EXPECT_EQ(
      sizes.status().message(),
      "limits: group 0 has a page table of 65537 rows of 40960 entries; expected at least 2 rows and at most "
      "2147483647 entries; lower max_seqs or max_seq_len");
}

}  // namespace
}  // namespace lockstep
