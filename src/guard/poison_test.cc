#include "guard/poison.h"

#include <cmath>

#include "guard/test_step.h"
#include "kernels/common/live_rows.h"

namespace lockstep::guard_test {
namespace {

// --- ops over rows
// ------------------------------------------------------------------------------------------

// out[t] = 2 x[t], done right and in the ways in which the field does it wrong.
struct DoubleArgs {
  TensorView x;    // [T, E]
  TensorView out;  // [T, E]
  const LiveRows* num_rows = nullptr;
};
constexpr OpArg kDoubleArgs[] = {
    {LS_ARG(DoubleArgs, x), .access = Access::kRead, .dims = "TE", .rows = RowsTouched::kLive},
    {LS_ARG(DoubleArgs, out), .access = Access::kWrite, .dims = "TE"},
    {LS_ARG(DoubleArgs, num_rows), .rows = RowsTouched::kNone},
};
constexpr OpSpec kDouble{.name = "double", .args = kDoubleArgs, .args_bytes = sizeof(DoubleArgs)};

float* row_of(const TensorView& view, int64_t row) { return view.as<float>() + row * view.stride(0); }

void double_rows(const DoubleArgs& args, Worker) {
  for (int64_t t = 0; t < args.out.dim(0); ++t) {
    for (int64_t i = 0; i < kWidth; ++i)
      row_of(args.out, t)[i] = t < live_rows(args.num_rows, kRows) ? 2 * row_of(args.x, t)[i] : 0;
  }
}

void leaves_pads(const DoubleArgs& args, Worker) {
  for (int64_t t = 0; t < live_rows(args.num_rows, kRows); ++t) {
    for (int64_t i = 0; i < kWidth; ++i) row_of(args.out, t)[i] = 2 * row_of(args.x, t)[i];
  }
}

void leaves_the_last_live_element(const DoubleArgs& args, Worker worker) {
  const float kept = row_of(args.out, 3)[kWidth - 1];
  double_rows(args, worker);
  row_of(args.out, 3)[kWidth - 1] = kept;
}

void multiplies_by_a_mask(const DoubleArgs& args, Worker) {
  for (int64_t t = 0; t < args.out.dim(0); ++t) {
    const float mask = t < live_rows(args.num_rows, kRows) ? 1.0f : 0.0f;
    for (int64_t i = 0; i < kWidth; ++i) row_of(args.out, t)[i] = 2 * mask * row_of(args.x, t)[i];
  }
}

void writes_pads(const DoubleArgs& args, Worker worker) {
  double_rows(args, worker);
  row_of(args.out, 5)[0] = 3;
}

// A scale over all rows of the bucket, as quantisers per tensor take it.
void scales_by_the_largest_of_all_rows(const DoubleArgs& args, Worker worker) {
  float largest = 0;
  for (int64_t t = 0; t < args.x.dim(0); ++t) largest = std::max(largest, std::abs(row_of(args.x, t)[0]));
  double_rows(args, worker);
  for (int64_t i = 0; i < kWidth; ++i) row_of(args.out, 0)[i] = row_of(args.out, 0)[i] / largest * largest;
}

void adds_the_row_behind_it(const DoubleArgs& args, Worker worker) {
  double_rows(args, worker);
  row_of(args.out, 3)[0] += row_of(args.x, 4)[0];
}

void writes_behind_its_output(const DoubleArgs& args, Worker worker) {
  double_rows(args, worker);
  row_of(args.out, kRows)[1] += 1;
}

void writes_its_input(const DoubleArgs& args, Worker worker) {
  double_rows(args, worker);
  row_of(args.x, 2)[1] += 1;
}

class Rows : public ::testing::Test {
 protected:
  std::string said(Kernel<DoubleArgs> kernel) {
    const TensorView x = step_.rows("x"), out = step_.rows("out");
    step_.rows("behind");
    const Status status =
        step_.run(kDouble, kernel, DoubleArgs{.x = x, .out = out, .num_rows = step_.scalar(field::num_rows)});
    EXPECT_EQ(status.ok(), status.fault() == nullptr);
    return status.message();
  }
  TestStep step_;
};

TEST_F(Rows, AreRightAndStayAsTheLaunchLeftThem) {
  const TensorView x = step_.rows("x"), out = step_.rows("out");

  const Status status = step_.run(kDouble, double_rows,
                                  DoubleArgs{.x = x, .out = out, .num_rows = step_.scalar(field::num_rows)});

  EXPECT_TRUE(status.ok()) << status.message();
  for (int32_t i = 0; i < kRows * kWidth; ++i) {
    EXPECT_EQ(x.as<float>()[i], i < kLive * kWidth ? static_cast<float>(i + 1) : 0.0f) << i;
    EXPECT_EQ(out.as<float>()[i], 2 * x.as<float>()[i]) << i;
  }
}

TEST_F(Rows, MayBeDoubledInPlace) {
  const TensorView x = step_.rows("x");

  const Status status = step_.run(kDouble, double_rows,
                                  DoubleArgs{.x = x, .out = x, .num_rows = step_.scalar(field::num_rows)});

  EXPECT_TRUE(status.ok()) << status.message();
  for (int32_t i = 0; i < kLive * kWidth; ++i) EXPECT_EQ(x.as<float>()[i], 2 * static_cast<float>(i + 1));
}

TEST_F(Rows, ThatNobodyWritesAreNamed) {
  EXPECT_EQ(said(leaves_pads),
            "step 9: L3 double (stage, layer 0): out[4] is not written at element 0 of 6; expected 0 in rows "
            "of nobody");
  EXPECT_EQ(said(leaves_the_last_live_element),
            "step 9: L3 double (stage, layer 0): out[3] is not written at element 5 of 6; expected every "
            "element written");
}

TEST_F(Rows, OfNobodyThatAreMaskedByAProductAreNamed) {
  EXPECT_EQ(
      said(multiplies_by_a_mask),
      "step 9: N1 double (stage, layer 0): out[4] is nan when what must not enter is NaN; expected 0 in "
      "rows of nobody");
}

TEST_F(Rows, OfNobodyThatAreNotZeroAreNamed) {
  EXPECT_EQ(said(writes_pads),
            "step 9: L3 double (stage, layer 0): out[5] is 3; expected 0 in rows of nobody");
}

TEST_F(Rows, ThatDependOnRowsOfNobodyAreNamed) {
  EXPECT_EQ(said(adds_the_row_behind_it),
            "step 9: N1 double (stage, layer 0): out[3] is nan when what must not enter is NaN; expected 38");
  // std::max passes over NaN: only the largest number shows it.
  EXPECT_EQ(said(scales_by_the_largest_of_all_rows),
            "step 9: N1 double (stage, layer 0): out[0] is 1.9999999 when what must not enter is the largest "
            "number; expected 2");
}

TEST_F(Rows, OutsideOfTheOutputThatAreWrittenAreNamed) {
  EXPECT_EQ(said(writes_its_input),
            "step 9: L4 double (stage, layer 0): x[2] is overwritten with byte 112; expected unchanged, 96");
  EXPECT_EQ(said(writes_behind_its_output),
            "step 9: L4 double (stage, layer 0): memory/behind+6 (generation 8) is overwritten with byte 64; "
            "expected unchanged, 0");
}

// --- collectives
// --------------------------------------------------------------------------------------------

struct CountedArgs {
  TensorView out;     // [T, E]
  int64_t count = 0;  // address of a count outside of the step's memory, which no rerun restores
  const LiveRows* num_rows = nullptr;
};
constexpr OpArg kCountedArgs[] = {
    {LS_ARG(CountedArgs, out), .access = Access::kWrite, .dims = "TE"},
    {LS_ARG(CountedArgs, count), .rows = RowsTouched::kNone},
    {LS_ARG(CountedArgs, num_rows), .rows = RowsTouched::kNone},
};
constexpr OpSpec kCounted{.name = "counted", .args = kCountedArgs, .args_bytes = sizeof(CountedArgs)};
constexpr OpSpec kCollective{
    .name = "collective", .args = kCountedArgs, .args_bytes = sizeof(CountedArgs), .collective = true};

void zeros_and_counts(const CountedArgs& args, Worker) {
  std::fill_n(args.out.as<float>(), args.out.elements(), 0.0f);
  ++*reinterpret_cast<int64_t*>(args.count);
}

TEST(Collective, IsNotRunAgainByOneRankAlone) {
  TestStep step;
  int64_t runs = 0;
  const CountedArgs args{.out = step.rows("out"),
                         .count = reinterpret_cast<int64_t>(&runs),
                         .num_rows = step.scalar(field::num_rows)};

  const Status alone = step.run(kCounted, zeros_and_counts, args);
  const int64_t alone_runs = std::exchange(runs, 0);
  const Status together = step.run(kCollective, zeros_and_counts, args);

  EXPECT_TRUE(alone.ok()) << alone.message();
  EXPECT_EQ(alone_runs, 3) << "once, and twice over poison";
  EXPECT_TRUE(together.ok()) << together.message();
  EXPECT_EQ(runs, 1);
}

// --- workspaces
// ---------------------------------------------------------------------------------------------

struct PackArgs {
  TensorView x;          // [T, E]
  TensorView workspace;  // u8
  const LiveRows* num_rows = nullptr;
};
constexpr OpArg kPackArgs[] = {
    {LS_ARG(PackArgs, x), .access = Access::kRead, .dims = "TE", .rows = RowsTouched::kLive},
    {LS_ARG(PackArgs, workspace), .access = Access::kWrite, .dims = "W", .rows = RowsTouched::kNone},
    {LS_ARG(PackArgs, num_rows), .rows = RowsTouched::kNone},
};
constexpr OpSpec kPack{.name = "pack", .args = kPackArgs, .args_bytes = sizeof(PackArgs)};

void packs(const PackArgs& args, Worker) {
  const auto rows = static_cast<size_t>(live_rows(args.num_rows, kRows));
  std::memcpy(args.workspace.data, args.x.data, rows * kWidth * sizeof(float));
}

void packs_a_pad_row(const PackArgs& args, Worker) {
  const auto rows = static_cast<size_t>(live_rows(args.num_rows, kRows)) + 1;
  std::memcpy(args.workspace.data, args.x.data, rows * kWidth * sizeof(float));
}

TEST(Workspace, MayBeLeftHalfWrittenButHoldsNothingOfPadRows) {
  TestStep step;
  const PackArgs args{.x = step.rows("x"),
                      .workspace = step.allocate("workspace", DType::kU8, {1024}),
                      .num_rows = step.scalar(field::num_rows)};

  const Status right = step.run(kPack, packs, args);
  const Status wrong = step.run(kPack, packs_a_pad_row, args);

  EXPECT_TRUE(right.ok()) << right.message();
  EXPECT_EQ(wrong.message(),
            "step 9: N1 pack (stage, layer 0): workspace is 160 when what must not enter is NaN and 255 when "
            "it is the largest number; expected byte 96 to be 0");
}

// --- rows of several ranks
// ------------------------------------------------------------------------------------------

// Without a count of live rows, as experts run on the rows of all replicas: this step's plan says nothing of
// which rows are whose.
void double_all_rows(const DoubleArgs& args, Worker) {
  for (int64_t t = 0; t < args.out.dim(0); ++t) {
    for (int64_t i = 0; i < kWidth; ++i) row_of(args.out, t)[i] = 2 * row_of(args.x, t)[i];
  }
}

TEST(Poison, LeavesRowsOfSeveralRanksAsTheyAre) {
  TestStep step;
  const DoubleArgs args{.x = step.allocate("x", DType::kF32, {3 * kRows, kWidth}),
                        .out = step.allocate("out", DType::kF32, {3 * kRows, kWidth})};
  std::fill_n(args.x.as<float>(), args.x.elements(), 7.0f);

  const Status right = step.run<DoubleArgs>(kDouble, double_all_rows, args);

  EXPECT_TRUE(right.ok()) << right.message();
  for (int64_t i = 0; i < args.out.elements(); ++i) ASSERT_EQ(args.out.as<float>()[i], 14.0f) << i;
}

TEST(Poison, NamesRowsOfSeveralRanksThatAreNotWritten) {
  TestStep step;
  const DoubleArgs args{.x = step.allocate("x", DType::kF32, {3 * kRows, kWidth}),
                        .out = step.allocate("out", DType::kF32, {3 * kRows, kWidth})};
  const auto leaves_the_last_rank = [](const DoubleArgs& of, Worker worker) {
    DoubleArgs fewer = of;
    fewer.out = of.out.rows(0, 2 * kRows);
    double_all_rows(fewer, worker);
  };

  const Status status = step.run<DoubleArgs>(kDouble, leaves_the_last_rank, args);

  EXPECT_EQ(status.message(),
            "step 9: L3 double (stage, layer 0): out[16] is not written at element 0 of 6; expected every "
            "element written");
}

// --- ids
// ----------------------------------------------------------------------------------------------------

struct LookUpArgs {
  TensorView ids;      // [T] i32
  PackedWeight table;  // [V, E]
  const LiveRows* num_rows = nullptr;
};
constexpr OpArg kLookUpArgs[] = {
    {LS_ARG(LookUpArgs, ids), .access = Access::kRead, .dims = "T", .rows = RowsTouched::kLive},
    {LS_ARG(LookUpArgs, table), .access = Access::kRead, .dims = "VE", .rows = RowsTouched::kNone},
    {LS_ARG(LookUpArgs, num_rows), .rows = RowsTouched::kNone},
};
constexpr OpSpec kLookUp{.name = "look_up", .args = kLookUpArgs, .args_bytes = sizeof(LookUpArgs)};

TEST(Ids, ThatLeadPastATableAreNamedBeforeTheLaunch) {
  TestStep step;
  std::vector<float> table(10 * kWidth);
  LookUpArgs args{.ids = step.allocate("ids", DType::kI32, {kRows}),
                  .table = {.data = table.data(), .dtype = DType::kF32, .n = 10, .k = kWidth},
                  .num_rows = step.scalar(field::num_rows)};
  const auto nothing = [](const LookUpArgs&, Worker) {};
  std::fill_n(args.ids.as<int32_t>() + kLive, kRows - kLive, -1);
  const Status right = step.run<LookUpArgs>(kLookUp, nothing, args);
  args.ids.as<int32_t>()[2] = 10;

  const Status wrong = step.run<LookUpArgs>(kLookUp, nothing, args);

  EXPECT_TRUE(right.ok()) << right.message();
  EXPECT_EQ(wrong.message(), "step 9: P6 look_up (stage, layer 0): ids[2] is 10; expected 0..9");
  EXPECT_EQ(wrong.fault()->moment, Moment::kLaunch);
}

// As a table of which each rank has some rows: ids of the others' rows are as good.
struct LookUpShareArgs {
  TensorView ids;      // [T] i32
  PackedWeight table;  // [V, E]
  const LiveRows* num_rows = nullptr;
  int64_t vocab = 0;
};
constexpr OpArg kLookUpShareArgs[] = {
    {LS_ARG(LookUpShareArgs, ids), .access = Access::kRead, .dims = "T", .rows = RowsTouched::kLive},
    {LS_ARG(LookUpShareArgs, table), .access = Access::kRead, .dims = "VE", .rows = RowsTouched::kNone},
    {LS_ARG(LookUpShareArgs, num_rows), .rows = RowsTouched::kNone},
    {LS_ARG(LookUpShareArgs, vocab), .rows = RowsTouched::kNone},
};
constexpr OpSpec kLookUpShare{
    .name = "look_up", .args = kLookUpShareArgs, .args_bytes = sizeof(LookUpShareArgs)};

TEST(Ids, MayLeadToOtherRanksWhereTheTableIsAShare) {
  TestStep step;
  std::vector<float> table(10 * kWidth);
  const LookUpShareArgs args{.ids = step.allocate("ids", DType::kI32, {kRows}),
                             .table = {.data = table.data(), .dtype = DType::kF32, .n = 10, .k = kWidth},
                             .num_rows = step.scalar(field::num_rows),
                             .vocab = 19};
  const auto nothing = [](const LookUpShareArgs&, Worker) {};
  std::fill_n(args.ids.as<int32_t>() + kLive, kRows - kLive, -1);
  args.ids.as<int32_t>()[2] = 18;
  const Status right = step.run<LookUpShareArgs>(kLookUpShare, nothing, args);
  args.ids.as<int32_t>()[2] = 19;

  const Status wrong = step.run<LookUpShareArgs>(kLookUpShare, nothing, args);

  EXPECT_TRUE(right.ok()) << right.message();
  EXPECT_EQ(wrong.message(), "step 9: P6 look_up (stage, layer 0): ids[2] is 19; expected 0..18");
}

}  // namespace
}  // namespace lockstep::guard_test
