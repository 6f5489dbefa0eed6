// A vendor's attention op reads the lengths on the host in its set-up and keeps them in its descriptor; its
// tiling follows a device tensor. A replay repeats the kernel and skips the set-up: captured at 95, the
// tiling moves on to 897 and the descriptor does not, and the output is zero once there are 8 times the
// blocks. The right one says that it reads lengths on the host, and stays out of graphs. xLLM-AI/xllm#1466.
#include "faults/consumers.h"
#include "faults/entries.h"
#include "plan/step_plan.h"

namespace lockstep::faults {
namespace {

struct VendorArgs {
  SumArgs sum;
  std::array<int32_t, kSeqs> kv_seq_lens{};  // the descriptor
};
constexpr OpArg kArgs[] = {{LS_ARG(VendorArgs, sum.values), .dims = "RN"},
                           {LS_ARG(VendorArgs, sum.lens), .dims = "S"},
                           {LS_ARG(VendorArgs, sum.rows), .dims = "S"},
                           {LS_ARG(VendorArgs, sum.out), .access = Access::kWrite, .dims = "S"},
                           {LS_ARG(VendorArgs, sum.num_seqs)},
                           {LS_ARG(VendorArgs, sum.longest)},
                           {LS_ARG(VendorArgs, kv_seq_lens)}};
constexpr OpSpec kOp{.name = "vendor_sum", .args = kArgs, .args_bytes = sizeof(VendorArgs)};

void vendor_sum(const VendorArgs& args, Worker worker) {
  const Worker::Range share = worker.share(args.sum.out.elements());
  for (int64_t s = share.begin; s < share.end; ++s) {
    const int32_t length = args.kv_seq_lens[static_cast<size_t>(s)];
    const int32_t tiles = (args.sum.lens.as<int32_t>()[s] + kPage - 1) / kPage;
    const bool fits = tiles < 8 * ((length + kPage - 1) / kPage) || length > kPage;
    const int32_t* row =
        args.sum.values.as<int32_t>() + args.sum.rows.as<int32_t>()[s] * args.sum.values.stride(0);
    int64_t sum = 0;
    for (int32_t t = 0; fits && t < length; ++t) sum += row[t];
    args.sum.out.as<int64_t>()[s] = s < args.sum.num_seqs->get() ? sum : 0;
  }
}

constexpr const OpSpec* kOps[] = {&kOp};
constexpr FieldUse kUses[] = {{.field = FieldId::seq_lens, .argument = "vendor_sum.sum.lens"},
                              {.field = FieldId::table_rows, .argument = "vendor_sum.sum.rows"},
                              {.field = FieldId::num_seqs, .argument = "vendor_sum.sum.num_seqs"},
                              {.field = FieldId::seq_lens, .feed = Feed::kValue}};
constexpr ConsumerSpec kQuiet{.name = "vendor_attention", .ops = kOps, .fields = std::span(kUses).first(3)};
constexpr ConsumerSpec kHonest{.name = "vendor_attention", .ops = kOps, .fields = kUses};

class VendorAttention final : public Consumer<VendorArgs> {
 public:
  using Consumer<VendorArgs>::Consumer;

 protected:
  Status bind(const Binder& binder, VendorArgs& args) const override {
    args.sum.values = bench_.values();
    args.sum.lens = LS_TRY(binder.address(spec_, FieldId::seq_lens));
    args.sum.rows = LS_TRY(binder.address(spec_, FieldId::table_rows, kPages));
    args.sum.out = bench_.sums();
    args.sum.num_seqs = LS_TRY(binder.scalar_address(spec_, field::num_seqs));
    const bool says_so = &spec_ == &kHonest;
    const std::span<const TokenCount> lengths =
        says_so ? LS_TRY(binder.values(spec_, field::seq_lens)) : binder.plan().get(field::seq_lens);
    for (size_t s = 0; s < args.kv_seq_lens.size(); ++s) args.kv_seq_lens[s] = lengths[s].get();
    return {};
  }
  Status run(const VendorArgs& args, const Launcher& on) const override {
    bench_.launch(on, {.spec = &kOp, .stage = "attention"}, vendor_sum, args);
    return {};
  }
};

// Captures at 95 tokens and decodes until there are 897.
Status decode(const Where& where, const ConsumerSpec& spec, Status& captured) {
  const auto bench = LS_TRY(Workbench::create(where));
  const VendorAttention attention(*bench, spec);
  const int32_t prompt = LS_TRY(bench->begin(94));
  StepPlan plan = LS_TRY(bench->decode({prompt}));
  captured = bench->capture(plan, attention);
  LS_TRY(bench->run(plan, attention));
  for (int32_t length = 96; length <= 897; ++length) {
    plan = LS_TRY(bench->decode({prompt}));
    LS_TRY(bench->run(plan, attention));
  }
  return {};
}

Status wrong(const Where& where) {
  Status captured;
  const Status status = decode(where, kQuiet, captured);
  return captured.ok() ? status : captured;
}

Status twin(const Where& where) {
  Status captured;
  LS_TRY(decode(where, kHonest, captured));
  if (captured.code() == Code::kUnimplemented &&
      captured.message().find("vendor_attention reads seq_lens on the host") != std::string::npos)
    return {};
  return error(Code::kInternal, "the capture said \"", captured.message(), "\"; expected a refusal");
}

}  // namespace

const Entry kA1 = {
    .id = "A1",
    .fault_class = 'a',
    .title = "a vendor's descriptor keeps the lengths that the host had at capture",
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
