// The call takes the longest key length as a host integer. Too large is harmless, too small is wrong, and a
// capture freezes it. The right one captures under the longest there can be: then it is a bound that holds.
// Dao-AILab/flash-attention#1164, facebookresearch/xformers#968.
#include "faults/consumers.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

constexpr FieldUse kUses[] = {kSumUses[0],
                              kSumUses[1],
                              kSumUses[2],
                              {.field = FieldId::max_seq_len,
                               .feed = Feed::kValue,
                               .argument = "sum_values.longest",
                               .freeze = Freeze::kUpperBound}};
constexpr ConsumerSpec kSpec{.name = "varlen_attention", .ops = kSumOps, .fields = kUses};

class VarlenAttention final : public Sums {
 public:
  using Sums::Sums;

 protected:
  Status bind(const Binder& binder, SumArgs& args) const override {
    LS_TRY(Sums::bind(binder, args));
    args.longest = LS_TRY(binder.value(spec_, field::max_seq_len)).get();
    return {};
  }
};

Status capture_then_replay(const Where& where, int32_t captured, int32_t live) {
  const auto bench = LS_TRY(Workbench::create(where));
  const VarlenAttention attention(*bench, kSpec);
  const int32_t first = LS_TRY(bench->begin(captured)), second = LS_TRY(bench->begin(live));
  const int32_t short_one = LS_TRY(bench->begin(3));
  StepPlan plan = LS_TRY(bench->decode({first}));
  LS_TRY(bench->run(plan, attention));
  LS_TRY(bench->capture(plan, attention));
  plan = LS_TRY(bench->decode({short_one, second}));
  return bench->run(plan, attention);
}

Status wrong(const Where& where) { return capture_then_replay(where, 63, 199); }
Status twin(const Where& where) { return capture_then_replay(where, kTokens - 1, 199); }

}  // namespace

const Entry kA6 = {
    .id = "A6",
    .fault_class = 'a',
    .title = "the longest key length is a host number, frozen by capture",
    .thread = "Dao-AILab/flash-attention#1164",
    .expect = {.moment = Moment::kReplay,
               .check = "R2",
               .field = "max_seq_len",
               .consumer = "varlen_attention",
               .expected = "at most 64",
               .found = "200"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
