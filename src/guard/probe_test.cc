#include "guard/probe.h"

#include <cmath>
#include <limits>

#include "guard/test_step.h"

namespace lockstep::guard_test {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(Owners, FollowFromWhereSequencesBeginWhateverTheCountSays) {
  TestStep step;
  Owners owners;
  owners.read(step.plan());
  for (int32_t row = 0; row < kRows; ++row) {
    const Owner owner = row < kLive ? Owner::kLive : Owner::kPad;
    EXPECT_EQ(owners.rows()[static_cast<size_t>(row)].owner, owner) << row;
  }
  EXPECT_EQ(owners.rows()[2], (OwnedEntry{Owner::kLive, 0}));
  EXPECT_EQ(owners.rows()[3], (OwnedEntry{Owner::kLive, 1}));
  EXPECT_EQ(owners.logits_rows()[1], (OwnedEntry{Owner::kLive, 1}));
  EXPECT_EQ(owners.logits_rows()[2].owner, Owner::kPad);

  // The pad sequences lose their rows; the count claims all of them.
  for (RowOffset& start : step.plan().edit(field::query_start_loc).subspan(3)) start = RowOffset(kLive);
  step.plan().edit(field::num_rows)[0] = LiveRows(kRows);
  owners.read(step.plan());
  for (size_t row = kLive; row < kRows; ++row) EXPECT_EQ(owners.rows()[row].owner, Owner::kUnowned) << row;
}

TEST(Count, TellsNanFromInfinityByOwnerThroughStrides) {
  std::vector<float> values(3 * 8, 2.0f);
  values[0] = kNan;
  values[2] = -std::numeric_limits<float>::infinity();
  values[3] = kNan;       // columns 3 to 7 belong to others
  values[8 + 1] = -7.0f;  // the largest magnitude of row 1
  values[16] = values[17] = values[18] = kNan;
  TensorView view = dense_view(values.data(), DType::kF32, {3, 8}).columns(0, 3);
  const std::vector<OwnedEntry> owners{{Owner::kLive, 5}, {Owner::kPad, 6}};  // and row 2 is nobody's

  const CountsByOwner counts = count(view, owners);

  const ProbeCounts &live = counts[0], &pad = counts[1], &unowned = counts[2];
  EXPECT_EQ(live.nan, 1);
  EXPECT_EQ(live.inf, 1);
  EXPECT_EQ(live.elements, 3);
  EXPECT_EQ(live.row_count, 1);
  EXPECT_EQ(live.sequences, std::vector<int32_t>{5});
  EXPECT_EQ(live.max_abs, 2.0f);
  EXPECT_TRUE(pad.clean());
  EXPECT_EQ(pad.max_abs, 7.0f);
  EXPECT_EQ(unowned.nan, 3);
  EXPECT_EQ(unowned.rows, std::vector<int32_t>{2});
}

struct CopyArgs {
  TensorView x;
  TensorView out;
  const LiveRows* num_rows = nullptr;
  float broken = 0;  // written to one element of row 1
};
constexpr OpArg kCopyArgs[] = {
    {LS_ARG(CopyArgs, x), .access = Access::kRead, .dims = "TE", .rows = RowsTouched::kLive},
    {LS_ARG(CopyArgs, out), .access = Access::kWrite, .dims = "TE"},
    {LS_ARG(CopyArgs, num_rows), .rows = RowsTouched::kNone},
    {LS_ARG(CopyArgs, broken), .rows = RowsTouched::kNone},
};
constexpr OpSpec kCopy{.name = "copy", .args = kCopyArgs, .args_bytes = sizeof(CopyArgs)};

void copies(const CopyArgs& args, Worker) {
  for (int32_t i = 0; i < kRows * kWidth; ++i)
    args.out.as<float>()[i] = i < kLive * kWidth ? args.x.as<float>()[i] : 0.0f;
  if (args.broken != 0) args.out.as<float>()[kWidth] = args.broken;
}

TEST(Probe, KeepsTheFirstBadLaunchWithTheStateOfItsInputsAndTellsEachPlaceOnce) {
  TestStep step;
  CopyArgs args{.x = step.rows("x"), .out = step.rows("out"), .num_rows = step.scalar(field::num_rows)};
  EXPECT_TRUE(step.run(kCopy, copies, args).ok());
  const Probe& probe = step.guard().probe();
  EXPECT_FALSE(probe.first_bad_launch().has_value());
  EXPECT_TRUE(probe.findings().empty());

  args.broken = kNan;
  EXPECT_TRUE(step.run(kCopy, copies, args).ok());
  std::swap(args.x, args.out);
  EXPECT_TRUE(step.run(kCopy, copies, args).ok());

  ASSERT_TRUE(probe.first_bad_launch().has_value());
  const FirstBadLaunch& first = *probe.first_bad_launch();
  EXPECT_EQ(first.at.op, "copy");
  EXPECT_EQ(first.at.step, 9u);
  EXPECT_EQ(first.at.layer, 0);
  EXPECT_EQ(first.at.layer_kind, LayerKind::kSoftmax);
  ASSERT_EQ(first.inputs.size(), 1u);
  EXPECT_EQ(first.inputs[0].clean, Verdict::kYes);
  EXPECT_EQ(first.inputs[0].max_abs, 24.0);
  ASSERT_EQ(probe.findings().size(), 2u);  // an output, and later an input of the same name and place
  EXPECT_EQ(probe.findings()[0].side, Side::kOutput);
  EXPECT_EQ(probe.findings()[0].owner, Owner::kLive);
  EXPECT_EQ(probe.findings()[0].rows, std::vector<int32_t>{1});
  EXPECT_EQ(probe.findings()[0].sequences, std::vector<uint64_t>{0});
  EXPECT_EQ(probe.findings()[0].elements, kLive * kWidth);
  EXPECT_EQ(probe.findings()[1].side, Side::kInput);
}

}  // namespace
}  // namespace lockstep::guard_test
