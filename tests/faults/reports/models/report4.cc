// Field report 4 on the shape that it was met on: Qwen3.5's hybrid layers, 16 query and 2 key heads of 256,
// pages of keys and values that interleave in a pool whose other tenants are recurrent states. Wrong: a
// gather that knows how long a page is. Right: a whole engine, prompts and graphs, draws the same in every
// layout of such a pool as in the plainest one, bit for bit. vllm-project/vllm#37228.
#include <algorithm>

#include "faults/kernels.h"
#include "faults/reports/models/entries.h"
#include "faults/reports/models/runs.h"

namespace lockstep::faults {
namespace {

constexpr std::string_view kModel = "tiny-qwen3.5-moe";
constexpr int32_t kHeads = 2, kHeadDim = 256;

struct GatherArgs {
  KvView cache;
  TensorView pages;  // [N] i32
  TensorView out;    // [N, K * D] f32: the first token's keys of each page
};
constexpr OpArg kArgs[] = {{LS_ARG(GatherArgs, cache), .dims = "PKBD", .rows = RowsTouched::kOwned},
                           {LS_ARG(GatherArgs, pages), .dims = "N"},
                           {LS_ARG(GatherArgs, out), .access = Access::kWrite, .dims = "NE"}};
constexpr OpSpec kGather{.name = "gather_heads", .args = kArgs, .args_bytes = sizeof(GatherArgs)};
constexpr const OpSpec* kOps[] = {&kGather};
constexpr ConsumerSpec kConsumer{.name = "gather", .ops = kOps, .fields = {}};

void gather(const GatherArgs& args, Worker /*worker*/) {
  const int64_t page = int64_t{args.cache.heads} * args.cache.head_dim * args.cache.page_tokens;
  for (int64_t i = 0; i < args.out.dim(0); ++i) {
    const float* from = static_cast<const float*>(args.cache.k.data) + args.pages.as<int32_t>()[i] * page;
    std::copy_n(from, args.out.dim(1), args.out.as<float>() + i * args.out.dim(1));
  }
}

Status wrong(const Where& where) {
  KernelRig rig(where);
  rig.step({{0, 3}}, bucket(4, 2, 1));
  return rig.record(
      kConsumer, gather,
      GatherArgs{.cache = rig.cache("interleaved/token/shared", {.heads = kHeads, .head_dim = kHeadDim}),
                 .pages = rig.ids("pages", {2}, {1, 3}),
                 .out = rig.memory("out", DType::kF32, {2, kHeads * kHeadDim})});
}

Status run_layouts(const Where& where, std::span<const std::string_view> layouts) {
  EngineConfig config = model_config(kModel, 256);
  config.device = where.name;
  config.page_size = 32;
  std::vector<Request> requests;
  for (const int32_t length : {70, 3, 33}) requests.push_back(model_request(37228, length, 12, 512));
  const ModelOutcome plain = LS_TRY(run_model(config, {}, requests));
  for (const std::string_view layout : layouts) {
    config.kv_layout = layout;
    const ModelOutcome other = LS_TRY(run_model(config, {}, requests));
    LS_TRY(expect_same(plain, other, true));
    if (other.replays == 0)
      return error(Code::kInternal, layout, ": no step replayed a graph; expected most to");
  }
  return {};
}

Status twin(const Where& where) {
  constexpr std::string_view kReports[] = {"interleaved/token/shared"};
  return run_layouts(where, kReports);
}

}  // namespace

Status report4_in_full(const Where& where) {
  constexpr std::string_view kAll[] = {
      "interleaved/token/shared", "interleaved/head/shared", "interleaved/shuffled8/shared",
      "apart/token/shared",       "apart/head/shared",       "interleaved/token",
      "interleaved/shuffled16"};
  return run_layouts(where, kAll);
}

const Entry kReport4Model = {
    .id = "report/4/qwen3_5",
    .fault_class = 'r',
    .title = "the same on Qwen3.5's shape: heads of 256, pages that interleave in a pool shared with states",
    .thread = "vllm-project/vllm#37228",
    .expect = {.moment = Moment::kCapture,
               .check = "L1",
               .field = "cache",
               .consumer = "gather_heads (stage, layer -1)",
               .expected = "which its op honours"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
