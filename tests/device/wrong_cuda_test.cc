// Kernels that go where they should not, and rows that should not have been taken for live ones, are named by
// the guard at the level full, on a CUDA device in the words of the CPU.
#include "conformance/rig.h"
#include "device/on_cuda.h"

namespace lockstep::testing {
namespace {

using conformance::Mode;
using conformance::Rig;
using conformance::RigOptions;
using conformance::Share;

constexpr int32_t kRows = 6;
constexpr int32_t kWidth = 40;

// The same kernel, of which this says that it writes nothing.
constexpr OpArg kQuietArgs[] = {
    {LS_ARG(SwigluArgs, gate_up), .dims = "TG", .rows = RowsTouched::kLive, .any_stride = true},
    {LS_ARG(SwigluArgs, out), .dims = "TF", .any_stride = true},
    {LS_ARG(SwigluArgs, num_rows), .rows = RowsTouched::kNone},
};
constexpr OpSpec kQuietSpec{.name = "quiet_swiglu", .args = kQuietArgs, .args_bytes = sizeof(SwigluArgs)};

constexpr const OpSpec* kOps[] = {&kSwigluSpec};
constexpr FieldUse kUses[] = {{.field = FieldId::num_rows, .argument = "swiglu.num_rows"},
                              {.field = FieldId::num_rows_padded, .argument = "swiglu.num_rows"}};
constexpr ConsumerSpec kConsumer{.name = "swiglu", .ops = kOps, .fields = kUses};

struct Wrong {
  const OpSpec* spec = &kSwigluSpec;
  bool padded_count = false;  // of the bucket, where that of the live rows belongs
};

class Program final : public StepProgram {
 public:
  Program(const Wrong& wrong, const CacheStorage& storage, const SwigluArgs& args)
      : wrong_(wrong), storage_(storage), args_(args) {}

  Status prepare(const Binder& binder, PreparedStep& step) const override {
    LS_TRY(conformance::prepare_tables(binder, step));
    SwigluArgs& args = step.add<SwigluArgs>(kConsumer);
    args = args_;
    args.num_rows = LS_TRY(binder.scalar_address(kConsumer, field::num_rows));
    if (!wrong_.padded_count) return {};
    const void* padded = LS_TRY(binder.scalar_address(kConsumer, field::num_rows_padded));
    args.num_rows = static_cast<const LiveRows*>(padded);
    return {};
  }
  Status enqueue(const PreparedStep& step, const Launcher& on) const override {
    LS_TRY(conformance::update_tables(step, storage_, on));
    launch(on.stream, *wrong_.spec, "act", on.table.swiglu, *LS_TRY(step.get<SwigluArgs>(kConsumer)));
    return {};
  }

 private:
  Wrong wrong_;
  const CacheStorage& storage_;
  SwigluArgs args_;
};

class GuardOfKernels : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const Result<DevicePtr> opened = open_device(GetParam());
    if (!opened.ok()) GTEST_SKIP() << opened.status().message();
  }

  // What the guard says of four live rows and two pads.
  static std::string said(const Wrong& wrong) {
    const CacheGeometry cache{
        .kv = {.dtype = DType::kF32, .num_pages = 8, .page_tokens = 16, .heads = 1, .head_dim = 8},
        .softmax_layers = 1,
        .table_rows = 4,
        .max_pages_per_seq = 2};
    const RigOptions options{.cache = cache,
                             .limits = conformance::limits_for(cache, kRows, 3, 32),
                             .device = open_device(GetParam()).value(),
                             .level = GuardLevel::kFull,
                             .work_bytes = 1 << 20,
                             .staging_bytes = 1 << 16,
                             .derived = {}};
    const std::unique_ptr<Rig> rig = Rig::create(options).value();
    const TensorView in = rig->work().allocate("in", DType::kF32, {kRows, 2 * kWidth}).value();
    const TensorView out = rig->work().allocate("out", DType::kF32, {kRows, kWidth}).value();
    std::vector<float> numbers(static_cast<size_t>(in.elements()));
    conformance::fill_numbers(1, numbers);
    EXPECT_EQ(rig->upload(in, numbers.data()).message(), "");
    const Share share{rig->planner().begin(), 4};
    StepPlan plan;
    const Bucket bucket{.rows = PaddedRows(kRows), .seqs = PaddedSeqs(2), .logits_rows = PaddedRows(0)};
    EXPECT_EQ(rig->planner().plan({&share, 1}, bucket, plan).message(), "");
    return rig->run(plan, Program(wrong, rig->storage(), {.gate_up = in, .out = out}), Mode::kEager)
        .message();
  }
};

TEST_P(GuardOfKernels, AKernelThatDoesWhatItsSpecSaysIsLeftAlone) { EXPECT_EQ(said({}), ""); }

TEST_P(GuardOfKernels, WhatIsWrittenWithoutBeingDeclaredIsNamed) {
  const std::string message = said({.spec = &kQuietSpec});
  EXPECT_EQ(message.substr(0, message.find(" is overwritten")),
            "step 1: L4 quiet_swiglu (act, layer -1): out[0]");
}

TEST_P(GuardOfKernels, PadRowsThatAreTakenForLiveOnesAreNamed) {
  const std::string message = said({.padded_count = true});
  EXPECT_EQ(message.substr(0, message.find(" is ")), "step 1: N1 swiglu (act, layer -1): out[4]") << message;
}

INSTANTIATE_TEST_SUITE_P(Devices, GuardOfKernels, ::testing::Values("cpu", "cuda"));

}  // namespace
}  // namespace lockstep::testing
