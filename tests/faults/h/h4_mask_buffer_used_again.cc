// One more host buffer that is used again, a multimodal mask: with two of them in turn, the third step
// refills the first before its copy has run. A ring of leases waits instead. vllm-project/vllm#31841.
#include <algorithm>

#include "faults/consumers.h"
#include "faults/entries.h"
#include "plan/step_plan.h"

namespace lockstep::faults {
namespace {

constexpr FieldUse kUses[] = {kSumUses[1], kSumUses[2]};
constexpr ConsumerSpec kSpec{.name = "mask_merge", .ops = kSumOps, .fields = kUses};

// How many values count comes from a mask of its own, uploaded before each step.
class MaskMerge final : public Sums {
 public:
  explicit MaskMerge(Workbench& bench) : Sums(bench, kSpec) { mask_ = bench.numbers("mask", {0, 0, 0, 0}); }
  const TensorView& mask() const { return mask_; }

 protected:
  Status bind(const Binder& binder, SumArgs& args) const override {
    args.values = bench_.values();
    args.lens = mask_;
    args.rows = LS_TRY(binder.address(spec_, FieldId::table_rows, kPages));
    args.out = bench_.sums();
    args.num_seqs = LS_TRY(binder.scalar_address(spec_, field::num_seqs));
    args.longest = kTokens;
    return {};
  }

 private:
  TensorView mask_;
};

std::array<int32_t, kSeqs> mask_of(const StepPlan& plan) {
  std::array<int32_t, kSeqs> mask{};
  for (size_t s = 0; s < mask.size(); ++s) mask[s] = plan.get(field::seq_lens)[s].get();
  return mask;
}

// Two buffers in turn, with nobody asking whether the copy before last is done.
class InTurn {
 public:
  Status upload(Workbench& bench, const TensorView& target, const std::array<int32_t, kSeqs>& mask) {
    const std::span bytes = std::as_bytes(std::span(mask));
    std::span<std::byte>& buffer = buffers_[next_++ % 2];
    if (!buffer.empty()) std::copy(bytes.begin(), bytes.end(), buffer.begin());
    StagingLease lease = LS_TRY(bench.staging().lease(bench.stream(), target.bytes()));
    std::copy(bytes.begin(), bytes.end(), lease.bytes().begin());
    buffer = lease.bytes();
    return bench.stream().copy(target, std::move(lease));
  }

 private:
  std::array<std::span<std::byte>, 2> buffers_;
  size_t next_ = 0;
};

Status serve(const Where& where, bool in_turn) {
  const auto bench = LS_TRY(Workbench::create(where, {.pace = Pace::kLate}));
  const MaskMerge merge(*bench);
  InTurn buffers;
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(30));
  StepPlan plan = LS_TRY(bench->decode({first}));
  LS_TRY(bench->capture(plan, merge));
  // The host runs ahead by three steps' masks.
  for (int32_t step = 0; step < 3; ++step) {
    plan = LS_TRY(bench->decode({first, second}));
    const std::array<int32_t, kSeqs> mask = mask_of(plan);
    LS_TRY(in_turn ? buffers.upload(*bench, merge.mask(), mask) : bench->upload(merge.mask(), mask.data()));
  }
  return bench->run(plan, merge);
}

Status wrong(const Where& where) { return serve(where, true); }
Status twin(const Where& where) { return serve(where, false); }

}  // namespace

const Entry kH4 = {
    .id = "H4",
    .fault_class = 'h',
    .title = "of two mask buffers in turn one is refilled before its copy",
    .thread = "vllm-project/vllm#31841",
    .expect = {.moment = Moment::kCommit,
               .check = "L5",
               .field = "staging",
               .expected = "until its copy has read it"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
