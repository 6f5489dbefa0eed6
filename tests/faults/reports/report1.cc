// The first report: decode runs in a graph, the vendor's attention keeps the lengths of its set-up, and some
// 800 steps later everything is zero. Here with two layers of attention, pages of 128 tokens and the report's
// numbers. The right ones: paged attention through 1,400 replays from a prompt of 95, bit for bit as without
// graphs; and a vendor that says what it does, and stays out of graphs. xLLM-AI/xllm#1466.
#include <algorithm>
#include <array>

#include "attention/paged/paged_backend.h"
#include "conformance/attention_cases.h"
#include "faults/entries.h"
#include "faults/reports/vendor.h"
#include "plan/step_plan.h"

namespace lockstep::faults {
namespace {

using conformance::AttentionCandidate;
using conformance::AttentionOptions;
using conformance::AttentionRig;
using conformance::Mode;

constexpr int32_t kPageTokens = 128;
constexpr size_t kMostSeqs = 4;
constexpr int64_t kTouched = int64_t{4} << 20;  // bytes, of one launch of the vendor's at most

// What is left of the vendor's op once its set-up is done: lengths in a descriptor, tiles from the device.
struct VendorArgs {
  TensorView out;   // [T, H, D] f32
  TensorView lens;  // [S] i32
  std::array<int32_t, kMostSeqs> kv_seq_lens{};
};
constexpr OpArg kArgs[] = {{LS_ARG(VendorArgs, out), .access = Access::kReadWrite, .dims = "THD"},
                           {LS_ARG(VendorArgs, lens), .dims = "S"},
                           {LS_ARG(VendorArgs, kv_seq_lens)}};
constexpr OpSpec kOp{.name = "vendor_attention", .args = kArgs, .args_bytes = sizeof(VendorArgs)};
constexpr const OpSpec* kOps[] = {&kOp};
constexpr FieldUse kUses[] = {{.field = FieldId::seq_lens, .argument = "vendor_attention.lens"},
                              {.field = FieldId::seq_lens, .feed = Feed::kValue}};
constexpr ConsumerSpec kQuiet{.name = "vendor_attention", .ops = kOps, .fields = std::span(kUses).first(1)};
constexpr ConsumerSpec kHonest{.name = "vendor_attention", .ops = kOps, .fields = kUses};

int32_t tiles(int32_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

// A row whose sequence has 8 times the tiles that its descriptor was made for comes out as zeros.
void vendor_attention(const VendorArgs& args, Worker) {
  const int64_t width = args.out.dim(1) * args.out.dim(2);
  for (int64_t s = 0; s < args.lens.dim(0) && s < args.out.dim(0); ++s) {
    const int32_t kept = args.kv_seq_lens[static_cast<size_t>(s)];
    if (tiles(args.lens.as<int32_t>()[s]) >= 8 * tiles(kept) && kept <= kPageTokens)
      std::fill_n(args.out.as<float>() + s * width, width, 0.0f);
  }
}

class Vendor final : public AttentionBackend {
 public:
  Vendor(const CacheStorage& storage, const ConsumerSpec& spec,
         std::unique_ptr<conformance::HostKernels> host)
      : paged_(storage), spec_(spec), host_(std::move(host)) {}
  const ConsumerSpec& spec() const override { return spec_; }
  int64_t workspace_bytes(int threads, int32_t heads, int32_t kv_heads, int32_t head_dim) const override {
    return paged_.workspace_bytes(threads, heads, kv_heads, head_dim);
  }
  Status prepare(const Binder& binder, GroupId group, PreparedStep& step) const override {
    LS_TRY(paged_.prepare(binder, group, step));
    VendorArgs& args = step.add<VendorArgs>(spec_, group);
    args.lens = LS_TRY(binder.address(spec_, FieldId::seq_lens));
    const std::span<const TokenCount> lengths = &spec_ == &kHonest
                                                    ? LS_TRY(binder.values(spec_, field::seq_lens))
                                                    : binder.plan().get(field::seq_lens);
    for (size_t s = 0; s < std::min(kMostSeqs, lengths.size()); ++s) args.kv_seq_lens[s] = lengths[s].get();
    return {};
  }
  Status run(const PreparedStep& step, GroupId group, const AttentionTensors& tensors, int32_t layer,
             const Launcher& on) const override {
    LS_TRY(paged_.run(step, group, tensors, layer, on));
    VendorArgs args = *LS_TRY(step.get<VendorArgs>(spec_, group));
    args.out = tensors.out;
    const LaunchSite site{.spec = &kOp, .stage = "attention"};
    conformance::launch_on_host(host_.get(), on.stream, site, vendor_attention, args);
    return {};
  }

 private:
  PagedBackend paged_;
  const ConsumerSpec& spec_;
  std::unique_ptr<conformance::HostKernels> host_;
};

AttentionCandidate vendor(const Where& where, const ConsumerSpec& spec) {
  const auto make = [&spec, device = where.device](
                        const CacheStorage& storage) -> Result<std::unique_ptr<AttentionBackend>> {
    auto host = LS_TRY(conformance::HostKernels::create(device, kTouched));
    return std::unique_ptr<AttentionBackend>(std::make_unique<Vendor>(storage, spec, std::move(host)));
  };
  return {.name = "vendor", .make = make, .device = where.device};
}

constexpr AttentionOptions kShape{.page_tokens = kPageTokens,
                                  .heads = 2,
                                  .kv_heads = 1,
                                  .head_dim = 16,
                                  .layers = 2,
                                  .num_pages = 24,
                                  .max_rows = 96,
                                  .max_seq_len = 1536,
                                  .threads = 1};

Status wrong(const Where& where) {
  return decode_by_vendor(where, {.honest = false, .mode = Mode::kGraph, .length = 900}, kShape);
}

Status twin(const Where& where) {
  const Status refused =
      decode_by_vendor(where, {.honest = true, .mode = Mode::kGraph, .length = 96}, kShape);
  if (refused.code() != Code::kUnimplemented ||
      refused.message().find("vendor_attention reads seq_lens on the host") == std::string::npos)
    return error(Code::kInternal, "the capture said \"", refused.message(), "\"; expected a refusal");
  LS_TRY(decode_by_vendor(where, {.honest = true, .mode = Mode::kEager, .length = 900}, kShape));
  for (const conformance::Case& each : attention_graph_cases(conformance::paged_candidate(where.device))) {
    if (each.id.ends_with("length_frozen_by_capture")) return each.run();
  }
  return error(Code::kInternal, "the suite has no case of 1,400 decode steps");
}

}  // namespace

Status decode_by_vendor(const Where& where, const VendorRun& run, const AttentionOptions& shape) {
  const auto rig = LS_TRY(AttentionRig::create(vendor(where, run.honest ? kHonest : kQuiet), shape));
  const int32_t one[] = {rig->begin()};
  LS_TRY(rig->step(conformance::prefill_step(one[0], 94)));
  for (int32_t tokens = 95; tokens <= run.length; ++tokens)
    LS_TRY(rig->decode(one, 1, run.mode, tokens % 100 == 0 || tokens > 890));
  return {};
}

const Entry kReport1 = {
    .id = "report/1",
    .fault_class = 'r',
    .title = "a length is frozen by graph capture; some 800 steps later all is zero",
    .thread = "xLLM-AI/xllm#1466",
    .expect = {.moment = Moment::kReplay,
               .check = "R2",
               .field = "seq_lens",
               .consumer = "vendor_attention",
               .row = 0,
               .expected = "95",
               .found = "96"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
