// Field report 4: a stride that was assumed. Hybrid models let the pages of a cache interleave, and the
// gather computed addresses as page x (heads x head size x page size). The repair passes all strides; the
// shuffled layout had the same fault and was left for later. Every layout there is, then.
// vllm-project/vllm#37228.
#include "conformance/attention_rig.h"
#include "faults/kernels.h"

namespace lockstep::faults {
namespace {

struct GatherArgs {
  KvView cache;
  TensorView pages;  // [N] i32
  TensorView out;    // [N, D] f32: the first key of each page
};
constexpr OpArg kArgs[] = {{LS_ARG(GatherArgs, cache), .dims = "PKBD", .rows = RowsTouched::kOwned},
                           {LS_ARG(GatherArgs, pages), .dims = "N"},
                           {LS_ARG(GatherArgs, out), .access = Access::kWrite, .dims = "NE"}};
constexpr OpSpec kGather{.name = "gather_pages", .args = kArgs, .args_bytes = sizeof(GatherArgs)};
constexpr const OpSpec* kOps[] = {&kGather};
constexpr ConsumerSpec kConsumer{.name = "gather", .ops = kOps, .fields = {}};

void gather(const GatherArgs& args, Worker /*worker*/) {
  const int64_t page_size = int64_t{args.cache.heads} * args.cache.head_dim * args.cache.page_tokens;
  for (int64_t i = 0; i < args.out.dim(0); ++i) {
    const float* from =
        static_cast<const float*>(args.cache.k.data) + args.pages.as<int32_t>()[i] * page_size;
    std::copy_n(from, args.out.dim(1), args.out.as<float>() + i * args.out.dim(1));
  }
}

Status run_gather(const Where& where, const KvLayout& layout) {
  KernelRig rig(where);
  rig.step({{0, 3}}, bucket(4, 2, 1));
  return rig.record(kConsumer, gather,
                    GatherArgs{.cache = rig.cache(id_of(layout), {.heads = 2, .head_dim = 16}),
                               .pages = rig.ids("pages", {2}, {1, 3}),
                               .out = rig.memory("out", DType::kF32, {2, 16})});
}

// The one layout that the gather was written for is left alone, every other one is not.
Status wrong(const Where& where) {
  LS_TRY(run_gather(where, {}));
  Status last;
  for (const KvLayout& layout : all_kv_layouts()) {
    if (layout == KvLayout{}) continue;
    last = run_gather(where, layout);
    LS_TRY(must_say({.moment = Moment::kCapture, .check = "L1", .field = "cache"}, last));
  }
  return last;
}

// The house's own backend in every layout, eagerly and by graph, beside an oracle that knows no layout.
Status twin(const Where& where) {
  for (const KvLayout& layout : all_kv_layouts()) {
    const auto rig = LS_TRY(
        conformance::AttentionRig::create(conformance::paged_candidate(where.device), {.layout = layout}));
    const int32_t both[] = {rig->begin(), rig->begin()};
    LS_TRY(rig->step(conformance::prefill_step(both[0], 19)));
    LS_TRY(rig->step(conformance::prefill_step(both[1], 5)));
    LS_TRY(rig->decode(both, 2, conformance::Mode::kEager));
    LS_TRY(rig->decode(both, 4, conformance::Mode::kGraph));
    LS_TRY(rig->decode(both, 4, conformance::Mode::kGraph));
  }
  return {};
}

}  // namespace

const Entry kReport4 = {
    .id = "report/4",
    .fault_class = 'r',
    .title = "a gather that assumes how far pages lie apart",
    .thread = "vllm-project/vllm#37228",
    .expect = {.moment = Moment::kCapture,
               .check = "L1",
               .field = "cache",
               .consumer = "gather_pages (stage, layer -1)",
               .expected = "which its op honours"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
