// The indices of the best tokens live in a buffer that is never cleared. Short rows need no choice and were
// passed over; the gather behind guards against negative ids alone, and garbage is positive: an id of 7e8
// into a table. First blamed on the drafter.
// tonyd2wild/DeepSeek-v4-Flash-Vision-Exp-DSpark-1M-NVFP4-KV-2x-DGX-Spark#2.
#include <algorithm>

#include "faults/kernels.h"

namespace lockstep::faults {
namespace {

constexpr int64_t kPicks = 2;

struct ChooseArgs {
  TensorView scores;  // [T, P] f32
  TensorView lens;    // [T] i32: how many of the scores a row has
  TensorView picks;   // [T, k] i32; -1: no more
  const LiveRows* num_rows = nullptr;
};
constexpr OpArg kArgs[] = {
    {LS_ARG(ChooseArgs, scores), .dims = "TP", .rows = RowsTouched::kLive},
    {LS_ARG(ChooseArgs, lens), .dims = "T", .rows = RowsTouched::kLive},
    {LS_ARG(ChooseArgs, picks), .access = Access::kWrite, .dims = "Tk", .pad = PadRows::kSkip},
    {LS_ARG(ChooseArgs, num_rows), .rows = RowsTouched::kNone}};
constexpr OpSpec kChoose{.name = "choose_top", .args = kArgs, .args_bytes = sizeof(ChooseArgs)};

void choose(const ChooseArgs& args, bool pass_over_short) {
  for (int64_t t = 0; t < args.picks.dim(0); ++t) {
    const bool live = t < args.num_rows->get();
    const int32_t count = live ? args.lens.as<int32_t>()[t] : 0;
    if (live && pass_over_short && count <= kPicks) continue;
    const float* scores = args.scores.as<float>() + t * args.scores.dim(1);
    int32_t* picks = args.picks.as<int32_t>() + t * kPicks;
    std::fill_n(picks, kPicks, -1);
    if (count > 0) picks[0] = static_cast<int32_t>(std::max_element(scores, scores + count) - scores);
  }
}
void choose_long(const ChooseArgs& args, Worker /*worker*/) { choose(args, true); }
void choose_all(const ChooseArgs& args, Worker /*worker*/) { choose(args, false); }

Status step(const Where& where, Kernel<ChooseArgs> kernel) {
  KernelRig rig(where);
  rig.step({{0, 3}, {1, 1}}, bucket(8, 4, 2));
  const ChooseArgs args{.scores = rig.numbers("scores", {8, 6}),
                        .lens = rig.ids("lens", {8}, {5, 2, 6, 4, 0, 0, 0, 0}),
                        .picks = rig.memory("picks", DType::kI32, {8, kPicks}),
                        .num_rows = rig.scalar(field::num_rows)};
  rig.fill(args.picks, 700000000);
  return rig.watch(kChoose, kernel, args);
}

Status wrong(const Where& where) { return step(where, choose_long); }
Status twin(const Where& where) { return step(where, choose_all); }

}  // namespace

const Entry kK2 = {
    .id = "K2",
    .fault_class = 'k',
    .title = "the buffer of chosen indices keeps garbage in rows that nobody wrote",
    .thread = "tonyd2wild/DeepSeek-v4-Flash-Vision-Exp-DSpark-1M-NVFP4-KV-2x-DGX-Spark#2",
    .expect = {.moment = Moment::kPoison,
               .check = "L3",
               .field = "picks",
               .consumer = "choose_top (stage, layer 0)",
               .row = 1,
               .expected = "every element written",
               .found = "not written"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
