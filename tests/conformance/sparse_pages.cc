#include "conformance/sparse_pages.h"

#include <algorithm>

#include "base/math.h"
#include "conformance/sparse_kernels.h"
#include "kernels/kv_cache/kv_cache.h"
#include "plan/step_plan.h"

namespace lockstep::conformance {
namespace {

constexpr GroupId kPages{0};
constexpr FieldId kSources[] = {FieldId::seq_lens, FieldId::num_seqs, FieldId::table_rows};

int64_t live_sequences(const StepLimits& /*limits*/, const StepPlan& plan) {
  return plan.scalar(field::num_seqs).get();
}
int64_t live_starts(const StepLimits& limits, const StepPlan& plan) {
  return live_sequences(limits, plan) + 1;
}
int64_t live_pages(const StepLimits& limits, const StepPlan& plan) {
  int64_t pages = 0;
  for (int64_t s = 0; s < live_sequences(limits, plan); ++s) {
    const int32_t length = plan.get(field::seq_lens)[static_cast<size_t>(s)].get();
    pages += std::min(kTopPages, ceil_div(length, limits.group(kPages).page_tokens));
  }
  return pages;
}

int64_t room_for_counts(const StepLimits& limits) { return limits.max_seqs; }
int64_t room_for_starts(const StepLimits& limits) { return limits.max_seqs + 1; }
int64_t room_for_pages(const StepLimits& limits) { return int64_t{limits.max_seqs} * kTopPages; }

DerivedSpec::Range range_of_counts(const StepLimits& /*limits*/, const StepPlan& /*plan*/) {
  return {1, kTopPages + 1};
}
DerivedSpec::Range range_of_starts(const StepLimits& limits, const StepPlan& /*plan*/) {
  return {0, limits.max_seqs * kTopPages + 1};
}
DerivedSpec::Range range_of_pages(const StepLimits& limits, const StepPlan& /*plan*/) {
  return {0, limits.group(kPages).max_pages_per_seq};
}

constexpr const OpSpec* kOps[] = {&kStoreKvSpec, &kSelectPagesSpec, &kSparseAttentionSpec};
constexpr FieldUse kUses[] = {
    {.field = FieldId::slot_mapping, .argument = "store_kv.slot_mapping"},
    {.field = FieldId::num_rows, .argument = "store_kv.num_rows"},
    {.field = FieldId::table_rows, .argument = "*.table_rows"},
    {.field = FieldId::seq_lens, .argument = "*.seq_lens"},
    {.field = FieldId::num_seqs, .argument = "*.num_seqs"},
};
// As above; and it has the planner's offsets as its own buffer.
constexpr FieldUse kWrongUses[] = {
    {.field = FieldId::slot_mapping, .argument = "store_kv.slot_mapping"},
    {.field = FieldId::num_rows, .argument = "store_kv.num_rows"},
    {.field = FieldId::table_rows, .argument = "*.table_rows"},
    {.field = FieldId::seq_lens, .argument = "*.seq_lens"},
    {.field = FieldId::num_seqs, .argument = "*.num_seqs"},
    {.field = FieldId::query_start_loc, .argument = "*.selected_starts"},
};
constexpr const DerivedSpec* kDerives[] = {&kSelectedCounts, &kSelectedStarts, &kSelectedPages};
constexpr const DerivedSpec* kReads[] = {&kSelectedStarts, &kSelectedPages};
constexpr ConsumerSpec kConsumer{.name = "sparse_pages",
                                 .ops = kOps,
                                 .fields = kUses,
                                 .derives = kDerives,
                                 .reads = kReads,
                                 .needs = {.uniform_query_len = 1}};
constexpr ConsumerSpec kWrongConsumer{.name = "sparse_pages",
                                      .ops = kOps,
                                      .fields = kWrongUses,
                                      .derives = kDerives,
                                      .reads = kReads,
                                      .needs = {.uniform_query_len = 1}};

struct SparseLaunch {
  TensorView slot_mapping, table_rows, seq_lens;
  TensorView counts, starts, pages;              // as the first kernel writes them
  TensorView starts_to_attend, pages_to_attend;  // as the second one reads them
  const LiveRows* num_rows = nullptr;
  const LiveSeqs* num_seqs = nullptr;
};

}  // namespace

const DerivedSpec kSelectedCounts{.name = "selected_counts",
                                  .maker = DerivedMaker::kDevice,
                                  .unit = Unit::kPages,
                                  .form = Form::kPerSequence,
                                  .rule = DerivedRule::kRange,
                                  .sources = kSources,
                                  .capacity = room_for_counts,
                                  .range = range_of_counts,
                                  .live = live_sequences};
const DerivedSpec kSelectedStarts{.name = "selected_starts",
                                  .maker = DerivedMaker::kDevice,
                                  .unit = Unit::kPages,
                                  .form = Form::kCumulative,
                                  .rule = DerivedRule::kPrefixSum,
                                  .sources = kSources,
                                  .of = &kSelectedCounts,
                                  .capacity = room_for_starts,
                                  .range = range_of_starts,
                                  .live = live_starts};
const DerivedSpec kSelectedPages{.name = "selected_pages",
                                 .maker = DerivedMaker::kDevice,
                                 .unit = Unit::kPages,
                                 .form = Form::kPerSequence,
                                 .rule = DerivedRule::kUnique,
                                 .sources = kSources,
                                 .of = &kSelectedStarts,
                                 .capacity = room_for_pages,
                                 .range = range_of_pages,
                                 .live = live_pages};

const ConsumerSpec& SparsePages::spec() const { return sums_ == SumsIn::kPlan ? kWrongConsumer : kConsumer; }

int64_t SparsePages::workspace_bytes(int /*threads*/, int32_t /*heads*/, int32_t /*kv_heads*/,
                                     int32_t /*head_dim*/) const {
  return 0;
}

Status SparsePages::prepare(const Binder& binder, GroupId group, PreparedStep& step) const {
  const ConsumerSpec& own = spec();
  SparseLaunch& launch = step.add<SparseLaunch>(own, group);
  launch.slot_mapping = LS_TRY(binder.address(own, FieldId::slot_mapping, group));
  launch.table_rows = LS_TRY(binder.address(own, FieldId::table_rows, group));
  launch.seq_lens = LS_TRY(binder.address(own, FieldId::seq_lens));
  launch.num_rows = LS_TRY(binder.scalar_address(own, field::num_rows));
  launch.num_seqs = LS_TRY(binder.scalar_address(own, field::num_seqs));
  launch.counts = LS_TRY(binder.derive_on_device(own, kSelectedCounts));
  launch.pages = LS_TRY(binder.derive_on_device(own, kSelectedPages));
  launch.pages_to_attend = LS_TRY(binder.derived(own, kSelectedPages));
  if (sums_ == SumsIn::kPlan) {
    launch.starts = LS_TRY(binder.address(own, FieldId::query_start_loc));
    launch.starts_to_attend = launch.starts;
    return {};
  }
  launch.starts = LS_TRY(binder.derive_on_device(own, kSelectedStarts));
  launch.starts_to_attend = LS_TRY(binder.derived(own, kSelectedStarts));
  return {};
}

Status SparsePages::run(const PreparedStep& step, GroupId group, const AttentionTensors& tensors,
                        int32_t layer, const Launcher& on) const {
  const SparseLaunch& bound = *LS_TRY(step.get<SparseLaunch>(spec(), group));
  const KvView& cache = storage_.kv(layer);
  LS_TRY(store_kv(on,
                  {.k = tensors.k,
                   .v = tensors.v,
                   .slot_mapping = bound.slot_mapping,
                   .cache = cache,
                   .num_rows = bound.num_rows},
                  "store_kv"));
  const SelectPagesArgs select{.q = tensors.q,
                               .cache = cache,
                               .page_table = storage_.page_table(),
                               .table_rows = bound.table_rows,
                               .seq_lens = bound.seq_lens,
                               .selected_counts = bound.counts,
                               .selected_starts = bound.starts,
                               .selected_pages = bound.pages,
                               .num_seqs = bound.num_seqs};
  const LaunchSite choose{.spec = &kSelectPagesSpec, .stage = "select_pages"};
  launch_on_host(host_.get(), on.stream, choose, &select_pages, select);
  const SparseAttentionArgs attend{.q = tensors.q,
                                   .cache = cache,
                                   .page_table = storage_.page_table(),
                                   .table_rows = bound.table_rows,
                                   .seq_lens = bound.seq_lens,
                                   .selected_starts = bound.starts_to_attend,
                                   .selected_pages = bound.pages_to_attend,
                                   .out = tensors.out,
                                   .num_seqs = bound.num_seqs,
                                   .scale = tensors.scale};
  const LaunchSite sum{.spec = &kSparseAttentionSpec, .stage = "attention"};
  launch_on_host(host_.get(), on.stream, sum, &sparse_attention, attend, Parts::kAll);
  return {};
}

}  // namespace lockstep::conformance
