// MiniCPM-SALA beyond dense_len against tools/sala_reference.py: logits, and the blocks that the last sparse
// layer chooses, for every way a sequence of 700 tokens can come to them.
#include <cmath>

#include "../support/forced_ranks.h"
#include "../support/golden_file.h"
#include "contract/selected_blocks.h"

namespace lockstep::testing {
namespace {

constexpr double kRelativeError = 1e-4;  // of a logit, of the largest one
constexpr int kLastSparseLayer = 3;
constexpr size_t kKvHeads = 2, kMostBlocks = 6;

class SparseModel : public ::testing::Test {
 protected:
  // `mode`: of the file. The first `prompt` tokens are the prompt, fed `rows` a step; then one row a step.
  void run(const std::string& mode, ForcedOptions options, size_t prompt, int32_t rows) {
    options.model = golden_folder("minicpm_sala");
    options.max_len = 704;
    options.max_seqs = 2;
    ForcedRanks ranks(options);
    ranks.add(ids_, prompt);
    const std::vector<float> logits = file_.read<float>(mode + ".logits");
    const std::vector<int8_t> blocks = file_.read<int8_t>(concat(mode, ".blocks.", kLastSparseLayer));
    size_t compared = 0, lists = 0;
    for (size_t done = 0; done < ids_.size();) {
      const size_t next = done < prompt ? std::min<size_t>(prompt - done, static_cast<size_t>(rows)) : 1;
      const Status status = ranks.step({static_cast<int32_t>(next)});
      ASSERT_TRUE(status.ok()) << status.message();
      if (options.shape.world() == 1) lists += compare_blocks(ranks, blocks, done, next);
      done += next;
      const auto row = std::ranges::find(kept_, static_cast<int64_t>(done) - 1);
      if (row == kept_.end() || done < prompt) continue;
      compare_logits(ranks.logits(0), logits, static_cast<size_t>(row - kept_.begin()));
      ++compared;
    }
    EXPECT_GT(compared, 0u);
    EXPECT_TRUE(options.shape.world() > 1 || lists > 0);
  }

 private:
  void compare_logits(const std::vector<float>& got, const std::vector<float>& all, size_t row) const {
    double worst = 0, scale = 0;
    for (size_t v = 0; v < got.size(); ++v) {
      const double want = all[row * got.size() + v];
      worst = std::isnan(got[v]) ? HUGE_VAL : std::max(worst, std::abs(got[v] - want));
      scale = std::max(scale, std::abs(want));
    }
    EXPECT_LE(worst, kRelativeError * scale) << "position " << kept_[row];
  }

  // The lists of rows [done, done + count); those of a dense row are empty.
  size_t compare_blocks(ForcedRanks& ranks, const std::vector<int8_t>& all, size_t done, size_t count) const {
    const auto starts = ranks.derived(kSelectedStarts), blocks = ranks.derived(kSelectedBlocks);
    size_t lists = 0;
    for (size_t i = 0; i < count * kKvHeads; ++i) {
      const auto want = all.begin() + static_cast<std::ptrdiff_t>((done * kKvHeads + i) * kMostBlocks);
      const std::vector<int32_t> expected(want, std::find(want, want + kMostBlocks, -1));
      const auto from = blocks.begin() + starts[i], to = blocks.begin() + starts[i + 1];
      EXPECT_EQ(std::vector<int32_t>(from, to), expected) << "position " << done + i / kKvHeads;
      lists += expected.empty() ? 0 : 1;
    }
    return lists;
  }

  GoldenFile file_ = GoldenFile::open(golden_folder("minicpm_sala/sparse.safetensors"));
  std::vector<int32_t> ids_ = file_.token_ids("input_ids");
  std::vector<int64_t> kept_ = file_.read<int64_t>("rows");  // positions with golden logits
};

TEST_F(SparseModel, GrowsFromADensePromptIntoSparseRows) {
  run("position", {}, 200, 200);
  run("position", {.captured = true}, 200, 77);
}

TEST_F(SparseModel, RunsALongPromptSparselyHoweverItIsCut) {
  run("sparse", {.max_rows = 704}, 700, 700);
  run("sparse", {}, 700, 100);
  run("sparse", {}, 600, 33);
}

TEST_F(SparseModel, RunsAShortPromptSparselyWhereThatIsAskedFor) {
  run("sparse", {.captured = true, .dense_as_sparse = true}, 100, 100);
}

TEST_F(SparseModel, IsTheSameOnSeveralRanks) {
  run("position", {.shape = {.tp = 2}, .captured = true}, 200, 77);
  run("sparse", {.shape = {.tp = 2}}, 640, 160);
  run("position", {.shape = {.cp = 2}, .captured = true}, 200, 77);
  run("sparse", {.shape = {.cp = 2}}, 640, 160);
}

}  // namespace
}  // namespace lockstep::testing
