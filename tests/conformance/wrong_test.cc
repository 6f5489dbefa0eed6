// The suite sees what it is there to see: each wrong backend is the house's own but for one line.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "attention/paged/paged_backend.h"
#include "attention/plugin/plugin_backend.h"
#include "base/fault.h"
#include "conformance/attention_rig.h"
#include "kernels/paged_attention/paged_attention.h"
#include "kernels/table.h"

namespace lockstep::conformance {
namespace {

// What may be spoilt: the Args of the two launches, before they are launched.
struct Wrong {
  std::function<void(StoreKvArgs&)> store = [](StoreKvArgs&) {};
  std::function<void(PagedAttentionArgs&)> attend = [](PagedAttentionArgs&) {};
  std::function<Status(const CacheStorage&, const Launcher&)> besides =
      [](const CacheStorage&, const Launcher&) { return Status(); };
  const OpSpec* store_spec = &kStoreKvSpec;
  const OpSpec* attend_spec = &kPagedAttentionSpec;
  const ConsumerSpec* spec = nullptr;
};

constexpr FieldUse kUses[] = {
    {.field = FieldId::slot_mapping, .argument = "*.slot_mapping"},
    {.field = FieldId::table_rows, .argument = "*.table_rows"},
    {.field = FieldId::query_start_loc, .argument = "*.query_start_loc"},
    {.field = FieldId::seq_lens, .argument = "*.seq_lens"},
    {.field = FieldId::num_rows, .argument = "*.num_rows"},
    {.field = FieldId::num_seqs, .argument = "*.num_seqs"},
};
constexpr const OpSpec* kOps[] = {&kStoreKvSpec, &kPagedAttentionSpec};
constexpr ConsumerSpec kSpec{.name = "wrong", .ops = kOps, .fields = kUses};

class WrongBackend final : public AttentionBackend {
 public:
  WrongBackend(const CacheStorage& storage, Wrong wrong) : storage_(storage), wrong_(std::move(wrong)) {}
  const ConsumerSpec& spec() const override { return wrong_.spec == nullptr ? kSpec : *wrong_.spec; }
  int64_t workspace_bytes(int threads, int32_t heads, int32_t kv_heads, int32_t head_dim) const override {
    return paged_attention_workspace_bytes(threads, heads, kv_heads, head_dim);
  }
  Status prepare(const Binder& binder, GroupId group, PreparedStep& step) const override {
    Fields& fields = step.add<Fields>(spec(), group);
    fields.slots = LS_TRY(binder.address(spec(), FieldId::slot_mapping, group));
    fields.rows = LS_TRY(binder.address(spec(), FieldId::table_rows, group));
    fields.starts = LS_TRY(binder.address(spec(), FieldId::query_start_loc));
    fields.lengths = LS_TRY(binder.address(spec(), FieldId::seq_lens));
    fields.num_rows = LS_TRY(binder.scalar_address(spec(), field::num_rows));
    fields.num_seqs = LS_TRY(binder.scalar_address(spec(), field::num_seqs));
    return {};
  }
  Status run(const PreparedStep& step, GroupId group, const AttentionTensors& tensors, int32_t layer,
             const Launcher& on) const override {
    const Fields& fields = *LS_TRY(step.get<Fields>(spec(), group));
    StoreKvArgs store{.k = tensors.k,
                      .v = tensors.v,
                      .slot_mapping = fields.slots,
                      .cache = storage_.kv(layer),
                      .num_rows = fields.num_rows};
    wrong_.store(store);
    launch(on.stream, *wrong_.store_spec, "store_kv", on.table.store_kv, store);
    LS_TRY(wrong_.besides(storage_, on));
    PagedAttentionArgs attend{.q = tensors.q,
                              .cache = storage_.kv(layer),
                              .page_table = storage_.page_table(),
                              .table_rows = fields.rows,
                              .query_start_loc = fields.starts,
                              .seq_lens = fields.lengths,
                              .out = tensors.out,
                              .workspace = tensors.workspace,
                              .num_rows = fields.num_rows,
                              .num_seqs = fields.num_seqs,
                              .scale = tensors.scale};
    wrong_.attend(attend);
    launch(on.stream, *wrong_.attend_spec, "attention", on.table.paged_attention, attend);
    return {};
  }

 private:
  struct Fields {
    TensorView slots, rows, starts, lengths;
    const LiveRows* num_rows = nullptr;
    const LiveSeqs* num_seqs = nullptr;
  };
  const CacheStorage& storage_;
  Wrong wrong_;
};

AttentionCandidate candidate_of(const Wrong& wrong) {
  return {.name = "wrong",
          .make = [wrong](const CacheStorage& storage) -> Result<std::unique_ptr<AttentionBackend>> {
            return std::unique_ptr<AttentionBackend>(std::make_unique<WrongBackend>(storage, wrong));
          }};
}

Status run_one(const AttentionCandidate& candidate, std::string_view name) {
  for (const Case& each : attention_cases(candidate)) {
    if (each.id == concat("conformance/", candidate.name, "/", name)) return each.run();
  }
  return error(Code::kNotFound, "no case ", name);
}

bool starts_with(const std::string& text, std::string_view begin) {
  return text.compare(0, begin.size(), begin) == 0;
}

TEST(ConformanceSuite, PassesABackendThatIsRight) {
  for (const char* name :
       {"layout_interleaved-head-shared", "canaries", "poison", "length_frozen_by_capture"})
    EXPECT_EQ(run_one(candidate_of({}), name).message(), "") << name;
}

// FR4: page times the size of a page, whatever the layout says.
TEST(ConformanceSuite, SeesAStrideThatWasAssumed) {
  const Wrong wrong{.attend = [](PagedAttentionArgs& args) {
    args.cache.k.page_stride = int64_t{args.cache.page_tokens} * args.cache.heads * args.cache.head_dim;
    args.cache.v.page_stride = args.cache.k.page_stride;
  }};
  EXPECT_EQ(run_one(candidate_of(wrong), "layout_apart-token").message(), "");
  EXPECT_TRUE(
      starts_with(run_one(candidate_of(wrong), "layout_interleaved-token").message(), "layer 0, row "));
  EXPECT_TRUE(
      starts_with(run_one(candidate_of(wrong), "layout_apart-token-shared").message(), "layer 0, row "));
  EXPECT_FALSE(run_one(candidate_of(wrong), "wide_strides").ok());
}

TEST(ConformanceSuite, SeesAScaleThatIsOffByAThousandth) {
  const Wrong wrong{.attend = [](PagedAttentionArgs& args) { args.scale *= 1.001f; }};
  for (const char* name : {"page_size_16", "head_size_256", "heads_6_of_1", "many_replays"})
    EXPECT_TRUE(starts_with(run_one(candidate_of(wrong), name).message(), "layer 0, row ")) << name;
}

TEST(ConformanceSuite, SeesKeysThatAreTakenFromNextDoor) {
  const Wrong wrong{.store = [](StoreKvArgs& args) { args.k.data = static_cast<float*>(args.k.data) + 1; }};
  EXPECT_TRUE(starts_with(run_one(candidate_of(wrong), "page_size_16").message(), "layer 0, row "));
}

// A number of the backend's own where the kernel expects the plan's.
TEST(ConformanceSuite, NamesAnArgumentThatDoesNotPointAtThePlan) {
  static constexpr LiveSeqs kOne(1);
  const Wrong wrong{.attend = [](PagedAttentionArgs& args) { args.num_seqs = &kOne; }};
  const Status status = run_one(candidate_of(wrong), "capture_then_others");
  ASSERT_NE(status.fault(), nullptr) << status.message();
  EXPECT_EQ(status.fault()->check, "R1");
  EXPECT_EQ(status.fault()->field, "num_seqs");
}

// The reserved page as a place for rubbish: no result shows it.
TEST(ConformanceSuite, SeesAPageThatIsWrittenAndNobodys) {
  const Wrong wrong{.besides = [](const CacheStorage& storage, const Launcher& on) {
    static constexpr int32_t kCopies[] = {22, 0}, kCount = 1;
    const KvPageRuns runs = kv_page_runs(storage.geometry().layout, storage.geometry().kv);
    return copy_pages(on,
                      {.copies = dense_view(const_cast<int32_t*>(kCopies), DType::kI32, {1, 2}),
                       .num_copies = &kCount,
                       .base = storage.kv(0).k.data,
                       .num_pages = storage.geometry().kv.num_pages,
                       .page_stride_bytes = runs.page_stride_bytes,
                       .segment_stride_bytes = runs.run_stride_bytes,
                       .segment_bytes = runs.run_bytes,
                       .segments = runs.runs},
                      "besides");
  }};
  EXPECT_EQ(run_one(candidate_of(wrong), "page_size_16").message(), "");
  EXPECT_TRUE(starts_with(run_one(candidate_of(wrong), "canaries").message(), "layout apart/token: byte "));
}

TEST(ConformanceSuite, SeesPadRowsThatAreNotWritten) {
  const Wrong wrong{.attend = [](PagedAttentionArgs& args) {
    args.q = args.q.rows(0, 1);
    args.out = args.out.rows(0, 1);
  }};
  EXPECT_FALSE(run_one(candidate_of(wrong), "page_size_16").ok());
}

// Ops that declare indices of 32 bits are taken up to where those reach.
template <typename Args, size_t N>
std::array<OpArg, N> narrowed(const OpArg (&args)[N]) {
  std::array<OpArg, N> narrow{};
  for (size_t i = 0; i < N; ++i) {
    narrow[i] = args[i];
    if (narrow[i].kind == ArgKind::kKvCache) narrow[i].index_bits = 32;
  }
  return narrow;
}

TEST(ConformanceSuite, HoldsNarrowIndicesToWhatTheyReach) {
  const auto store_args = narrowed<StoreKvArgs>(kStoreKvArgs);
  const auto attend_args = narrowed<PagedAttentionArgs>(kPagedAttentionArgs);
  const OpSpec store{.name = "store_kv", .args = store_args, .args_bytes = sizeof(StoreKvArgs)};
  const OpSpec attend{
      .name = "paged_attention", .args = attend_args, .args_bytes = sizeof(PagedAttentionArgs)};
  const OpSpec* ops[] = {&store, &attend};
  const ConsumerSpec spec{.name = "narrow", .ops = ops, .fields = kUses};
  const AttentionCandidate narrow =
      candidate_of({.store_spec = &store, .attend_spec = &attend, .spec = &spec});
  EXPECT_EQ(run_one(narrow, "index_width").message(), "");
  EXPECT_EQ(run_one(narrow, "wide_strides").code(), Code::kUnimplemented);
}

// A module whose run() fails: its rows are not a number, and the next step says why.
int failing(uint32_t, lockstep_backend* out) {
  static constexpr lockstep_use kUse{
      .size = sizeof(lockstep_use), .tensor = LOCKSTEP_OUT, .access = LOCKSTEP_WRITE, .index_bits = 64};
  static constexpr lockstep_stage kStage{
      .size = sizeof(lockstep_stage), .num_uses = 1, .name = "attend", .uses = &kUse, .parallel = 1};
  *out = {.size = sizeof(*out),
          .abi = LOCKSTEP_BACKEND_ABI,
          .instance = nullptr,
          .describe = [](void*, lockstep_description* description, char*) -> int {
            *description = {.size = sizeof(*description),
                            .name = "failing",
                            .stages = &kStage,
                            .num_stages = 1,
                            .cache_dtypes = 1u << LOCKSTEP_F32};
            return LOCKSTEP_OK;
          },
          .prepare = [](void*, const lockstep_prepare*, void*, char*) -> int { return LOCKSTEP_OK; },
          .run = [](void*, const lockstep_run*, char* message) -> int {
            std::copy_n("out of luck", 12, message);
            return LOCKSTEP_RESOURCE_EXHAUSTED;
          },
          .destroy = [](void*) {}};
  return LOCKSTEP_OK;
}

TEST(Plugin, WhoseRunFailsYieldsNoNumbersAndSaysWhyAtTheNextStep) {
  const auto plugin = make_plugin("failing.so", failing);
  ASSERT_TRUE(plugin.ok()) << plugin.status().message();
  const AttentionCandidate candidate{.name = "failing", .make = [&](const CacheStorage& storage) {
                                       return PluginBackend::create(*plugin, storage);
                                     }};
  auto rig = AttentionRig::create(candidate, {});
  ASSERT_TRUE(rig.ok()) << rig.status().message();
  const int32_t one[] = {(*rig)->begin()};
  EXPECT_FALSE((*rig)->decode(one, 1, Mode::kEager).ok());
  EXPECT_TRUE(std::isnan((*rig)->out()[0]));
  const Status next = (*rig)->decode(one, 1, Mode::kEager);
  EXPECT_EQ(next.message(), "backend failing: run: out of luck");
  EXPECT_EQ(next.code(), Code::kResourceExhausted);
}

}  // namespace
}  // namespace lockstep::conformance
