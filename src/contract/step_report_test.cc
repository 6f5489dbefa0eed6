#include "contract/step_report.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/fault.h"
#include "device/staging.h"
#include "kernels/table.h"
#include "plan/plan_builder.h"

namespace lockstep {
namespace {

constexpr GroupId kPages(0);

// A device that holds a plan of two sequences, 5 and 9 tokens in pages of 4, and its page table.
class StepReportTest : public ::testing::Test {
 protected:
  StepReportTest()
      : arena_(Arena::create("report", 1 << 20).value()),
        image_(DeviceImage::create(limits(), arena_).value()),
        table_(arena_.allocate("page table", DType::kI32, {4, 8}).value()),
        report_(StepReport::create(limits(), arena_).value()),
        tables_(4, 8),
        builder_(limits(), {&tables_}) {
    report_.set_tables({{kPages, table_}});
    for (const int32_t row : {1, 2}) {
      for (int32_t page = 0; page < 3; ++page) tables_.append(TableRow(row), PageId(3 * row + page));
    }
    for (const TableEdit& edit : tables_.pending_edits())
      table_.as<int32_t>()[edit.row.get() * 8 + edit.index] = edit.page.get();
    build(1);
  }

  static StepLimits limits() {
    StepLimits limits{.max_rows = 8,
                      .max_seqs = 4,
                      .max_logits_rows = 4,
                      .max_seq_len = 32,
                      .max_edits = 16,
                      .max_copies = 2,
                      .vocab_size = 100,
                      .num_groups = 1};
    limits.groups[0] = {
        .page_tokens = 4, .kernel_page_tokens = 4, .num_pages = 20, .table_rows = 4, .max_pages_per_seq = 8};
    return limits;
  }
  void build(uint64_t epoch, int32_t seqs = 4) {
    const TokenId tokens[] = {TokenId(7), TokenId(8)};
    std::vector<SequenceStep> steps;
    for (const int32_t computed : {4, 8}) {
      steps.push_back({.tokens = std::span(tokens).first(1),
                       .computed = TokenCount(computed),
                       .prompt_len = TokenCount(computed),
                       .wants_logits = true,
                       .sampling = {}});
      steps.back().table_rows[0] = TableRow(static_cast<int32_t>(steps.size()));
    }
    const Status built = builder_.build(
        {.epoch = Epoch(epoch),
         .source_epoch = Epoch(0),
         .sequences = steps,
         .bucket = {.rows = PaddedRows(seqs), .seqs = PaddedSeqs(seqs), .logits_rows = PaddedRows(seqs)}},
        plan_);
    ASSERT_TRUE(built.ok()) << built.message();
    builder_.accepted();
  }
  // A step: the plan's copy, the head, what `kernels` does, the tail.
  template <typename Kernels>
  std::string said(bool refresh, const Kernels& kernels) {
    const Launcher on{kernel_table(Isa::kReference), stream_};
    if (refresh) {
      EXPECT_TRUE(image_.refresh(plan_, stream_, staging_).ok());
    }
    EXPECT_TRUE(report_.head(plan_, image_, staging_, on).ok());
    kernels();
    EXPECT_TRUE(report_.tail(plan_, true, on).ok());
    EXPECT_TRUE(report_.download(plan_, stream_).ok());
    stream_.synchronize();
    return report_.check(plan_, image_).message();
  }
  int32_t* on_device(FieldId id) {
    return static_cast<int32_t*>(image_.view(plan_.layout(), id, kPages).data);
  }

  Arena arena_;
  DeviceImage image_;
  TensorView table_;
  StepReport report_;
  PageTables tables_;
  PlanBuilder builder_;
  Stream stream_{1};
  StagingRing staging_{4, 1 << 16};
  StepPlan plan_;
};

TEST_F(StepReportTest, SaysNothingOfAStepThatReadItsPlan) {
  EXPECT_EQ(said(true, [] {}), "");
  build(2);
  EXPECT_EQ(said(true, [] {}), "");
}

TEST_F(StepReportTest, NamesAStepWhosePlanNeverArrived) {
  EXPECT_EQ(said(true, [] {}), "");
  build(2);
  EXPECT_EQ(
      said(false, [] {}),
      "step 2: R3 device at the step's beginning: epoch is 1; expected 2, the step that the host planned");
}

TEST_F(StepReportTest, NamesTheEntryThatAKernelWroteInThePlan) {
  EXPECT_EQ(said(true, [&] { on_device(FieldId::seq_lens)[1] = 34891; }),
            "step 1: R4 a kernel of the step: seq_lens[1] is 34891; expected 9, as planned");
}

TEST_F(StepReportTest, NamesAWriteBehindAField) {
  for (const bool by_piece : {false, true}) {
    report_ = StepReport::create(limits(), arena_, {.overlapped = by_piece}).value();
    report_.set_tables({{kPages, table_}});
    const std::string harm = said(true, [&] { on_device(FieldId::num_rows)[1] = 34891; });
    EXPECT_TRUE(harm.starts_with("step 1: R4 a kernel of the step: plan is ")) << harm;
    EXPECT_EQ(harm.find("zeros in the 12 bytes behind num_rows") != std::string::npos, by_piece) << harm;
    EXPECT_NE(report_.tail_digest(), plan_.digest());
    EXPECT_EQ(said(true, [] {}), "");
    EXPECT_EQ(report_.tail_digest(), plan_.digest());
  }
}

// Of the first, the image is gone: its field has a name, its entry has not. Neither takes the other's bucket
// for its own.
TEST_F(StepReportTest, KeepsTheReportOfAStepWhileTheNextOneIsUnderWay) {
  const auto run = [&](bool harmed) {
    const Launcher on{kernel_table(Isa::kReference), stream_};
    EXPECT_TRUE(image_.refresh(plan_, stream_, staging_).ok());
    EXPECT_TRUE(report_.head(plan_, image_, staging_, on).ok());
    if (harmed) on_device(FieldId::seq_lens)[1] = 34891;
    EXPECT_TRUE(report_.tail(plan_, true, on).ok());
    EXPECT_TRUE(report_.download(plan_, stream_).ok());
    return plan_;
  };
  for (const int32_t next : {2, 4}) {
    for (const bool harmed : {false, true}) {
      report_ = StepReport::create(limits(), arena_, {.overlapped = true}).value();
      report_.set_tables({{kPages, table_}});
      build(1, 4);
      const StepPlan first = run(harmed);
      build(2, next);
      run(false);
      stream_.synchronize();

      const std::string harm = report_.check(first, image_).message();
      const std::string_view named = "step 1: R4 a kernel of the step: seq_lens is digest ";
      EXPECT_EQ(harm.substr(0, named.size()), harmed ? named : "");
      EXPECT_EQ(report_.head_epoch(), 1u);
      EXPECT_EQ(report_.check(plan_, image_).message(), "");
      EXPECT_EQ(report_.head_epoch(), 2u);
      EXPECT_EQ(report_.tail_digest(), plan_.digest());
    }
  }
}

TEST_F(StepReportTest, BringsAlongWhatLiesBehindIt) {
  report_ = StepReport::create(limits(), arena_).value();
  const TensorView outcome = arena_.allocate("outcome", DType::kU8, {64}).value();
  ASSERT_TRUE(report_.bring_along(outcome).ok());
  for (int64_t epoch = 1; epoch <= 3; ++epoch) {
    build(static_cast<uint64_t>(epoch));
    EXPECT_EQ(said(true, [&] { std::memset(outcome.data, static_cast<int>(epoch), 64); }), "");
    EXPECT_EQ(report_.brought(plan_)[0], static_cast<std::byte>(epoch));
    EXPECT_EQ(report_.brought(plan_)[63], static_cast<std::byte>(epoch));
  }
}

// The plan arrived whole; the table that its digests speak of is another one.
TEST_F(StepReportTest, NamesAPageTableThatIsNotTheOneThatWasPlanned) {
  table_.as<int32_t>()[2 * 8 + 1] = 17;
  const std::string other = said(true, [] {});
  EXPECT_TRUE(other.starts_with("step 1: R6 device (P3, ")) << other;
  EXPECT_NE(other.find(": table_digests[1] is "), std::string::npos) << other;

  table_.as<int32_t>()[2 * 8 + 1] = 20;  // no page of the pool
  const std::string outside = said(true, [] {});
  EXPECT_TRUE(outside.starts_with("step 1: R6 device (P3, ")) << outside;
  EXPECT_NE(outside.find(" is 20; expected 20"), std::string::npos) << outside;
}

}  // namespace
}  // namespace lockstep
