// For tests: a step on a device, for kernels of the test's own. Two live sequences of 3 and 1 rows and pads
// up to 8 rows; pages of 4 tokens, state slots, a plan where kernels read it.
#pragma once

#include <gtest/gtest.h>

#include <memory>

#include "contract/device_image.h"
#include "guard/guard.h"
#include "kernels/kv_cache/kv_layout.h"
#include "plan/plan_builder.h"

namespace lockstep::guard_test {

inline constexpr GroupId kPages{0};
inline constexpr GroupId kStates{1};
inline constexpr int32_t kRows = 8, kLive = 4, kWidth = 6;

inline StepLimits test_limits() {
  StepLimits limits{.max_rows = 16,
                    .max_seqs = 6,
                    .max_logits_rows = 6,
                    .max_seq_len = 16,
                    .max_edits = 8,
                    .max_copies = 4,
                    .vocab_size = 100,
                    .penalty_slots = 1,
                    .mask_slots = 1,
                    .num_groups = 2};
  limits.groups[0] = {.page_tokens = 4,
                      .kernel_page_tokens = 4,
                      .num_pages = 12,
                      .table_rows = 5,
                      .max_pages_per_seq = 4,
                      .layout = "apart/token",
                      .dtype = "f32"};
  limits.groups[1] = {.kind = GroupKind::kState, .num_pages = 6, .layout = "slots", .dtype = "f32"};
  return limits;
}

class TestStep {
 public:
  TestStep() {
    map_.add(arena_);
    tables_.append(TableRow(1), PageId(3));
    tables_.append(TableRow(2), PageId(5));
    tables_.append(TableRow(2), PageId(6));
    page_table_ = allocate("page table", DType::kI32, {5, 4});
    auto* pages = page_table_.as<int32_t>();
    pages[4] = 3, pages[8] = 5, pages[9] = 6;
    build();
    guard_ = std::make_unique<Guard>(
        GuardOptions{.limits = limits_, .layers = {{LayerKind::kSoftmax, LayerKind::kMoe}}}, map_,
        image_->bytes());
    stream_.set_observer(guard_->observer());
  }

  // Memory of the arena, 1, 2, 3, ... where it holds floats; pad rows, if it has any, zero.
  TensorView allocate(std::string_view name, DType dtype, const Shape& shape) {
    Result<TensorView> view = arena_.allocate(name, dtype, shape);
    EXPECT_TRUE(view.ok()) << view.status().message();
    return *view;
  }
  TensorView rows(std::string_view name) {
    const TensorView view = allocate(name, DType::kF32, {kRows, kWidth});
    for (int32_t i = 0; i < kLive * kWidth; ++i) view.as<float>()[i] = static_cast<float>(i + 1);
    return view;
  }

  // Runs one launch as the only one of a step, and what the guard says of it.
  template <typename Args>
  Status run(const OpSpec& spec, Kernel<Args> kernel, const Args& args) {
    guard_->begin_step(plan_);
    stream_.set_layer(0);
    launch(stream_, spec, "stage", kernel, args);
    return guard_->end_step();
  }

  template <typename T>
  const T* scalar(Field<T> f) const {
    return static_cast<const T*>(image_->view(plan_.layout(), f.id, GroupId(0)).data);
  }
  TensorView field(FieldId id, GroupId group = GroupId(0)) const {
    return image_->view(plan_.layout(), id, group);
  }
  const TensorView& page_table() const { return page_table_; }
  StepPlan& plan() { return plan_; }
  Guard& guard() { return *guard_; }

 private:
  void build() {
    const std::vector<TokenId> prompt{TokenId(7), TokenId(8), TokenId(9)}, next{TokenId(4)};
    std::vector<SequenceStep> steps(2);
    steps[0] = {.tokens = prompt,
                .last_token_source = TokenSource::literal(),
                .computed = TokenCount(0),
                .prompt_len = TokenCount(3),
                .state_slot = StateSlot(2),
                .wants_logits = true,
                .sampling = {}};
    steps[0].table_rows[0] = TableRow(1);
    steps[1] = {.tokens = next,
                .last_token_source = TokenSource::literal(),
                .computed = TokenCount(5),
                .prompt_len = TokenCount(5),
                .state_slot = StateSlot(4),
                .wants_logits = true,
                .sampling = {}};
    steps[1].table_rows[0] = TableRow(2);
    PlanBuilder builder(limits_, {&tables_, nullptr});
    const Status built = builder.build(
        {.epoch = Epoch(9),
         .source_epoch = Epoch(0),
         .sequences = steps,
         .bucket = {.rows = PaddedRows(kRows), .seqs = PaddedSeqs(4), .logits_rows = PaddedRows(3)}},
        plan_);
    EXPECT_TRUE(built.ok()) << built.message();
    image_.emplace(DeviceImage::create(limits_, arena_).value());
    EXPECT_TRUE(image_->refresh(plan_, stream_, staging_).ok());
  }

  StepLimits limits_ = test_limits();
  Arena arena_ = Arena::create("memory", 1 << 20).value();
  MemoryMap map_;
  PageTables tables_{5, 4};
  TensorView page_table_;
  StepPlan plan_;
  std::optional<DeviceImage> image_;
  Stream stream_{1};
  StagingRing staging_{2, 1 << 16};
  std::unique_ptr<Guard> guard_;
};

}  // namespace lockstep::guard_test
