// MiniCPM-SALA behind the length where it chooses its keys, against the plain torch reference: 700 tokens, by
// prompts that are long enough for every row to choose, and row by row from a prompt of one token.
#include <algorithm>
#include <cmath>
#include <iostream>

#include "../support/forced_ranks.h"
#include "../support/golden_file.h"

namespace lockstep::testing {
namespace {

constexpr double kRelativeError = 1e-4;  // of a logit, of the largest one: the bar of all golden values

class Sala : public ::testing::Test {
 protected:
  Sala()
      : file_(GoldenFile::open(golden_folder("minicpm_sala") + "/sparse.safetensors")),
        ids_(file_.token_ids("input_ids")),
        rows_(file_.token_ids("rows")) {}

  static ForcedOptions options(const MeshShape& shape = {}, bool captured = false) {
    return {.model = golden_folder("minicpm_sala"),
            .shape = shape,
            .max_rows = 2800,
            .max_seqs = 4,
            .max_len = 768,
            .captured = captured};
  }
  std::vector<int32_t> first(size_t tokens) const {
    return {ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(tokens)};
  }

  // Compares the logits of position `at`, where the reference has kept them.
  void compare(const std::vector<float>& got, const std::string& mode, size_t at) {
    const auto row = std::ranges::find(rows_, static_cast<int32_t>(at));
    if (row == rows_.end() || got.empty()) return;
    const std::vector<float> all = file_.read<float>(mode + ".logits");
    const size_t vocab = got.size(), begin = static_cast<size_t>(row - rows_.begin()) * vocab;
    double worst = 0, scale = 0;
    for (size_t v = 0; v < vocab; ++v) {
      worst = std::max(worst, std::abs(static_cast<double>(got[v]) - all[begin + v]));
      scale = std::max(scale, std::abs(static_cast<double>(all[begin + v])));
    }
    ++compared_;
    worst_ = std::max(worst_, worst / scale);
    ASSERT_LE(worst / scale, kRelativeError) << mode << " position " << at;
  }

  // Prompts of three lengths in steps of `most` rows, then the rest row by row.
  void prompts(ForcedRanks& ranks, int32_t most) {
    const size_t prompt[] = {260, 449, 691};
    size_t done[] = {0, 0, 0};
    for (const size_t length : prompt) ranks.add(first(length == 691 ? 700 : length + 8), length);
    while (ranks.left(0) + ranks.left(1) + ranks.left(2) > 0) {
      std::vector<int32_t> rows;
      for (size_t s = 0; s < 3; ++s) {
        const size_t left = done[s] < prompt[s] ? prompt[s] - done[s] : std::min<size_t>(1, ranks.left(s));
        rows.push_back(static_cast<int32_t>(std::min<size_t>(left, static_cast<size_t>(most))));
      }
      const Status status = ranks.step(rows);
      ASSERT_TRUE(status.ok()) << status.message();
      for (size_t s = 0; s < 3; ++s) {
        done[s] += static_cast<size_t>(rows[s]);
        if (rows[s] > 0) compare(ranks.logits(s), "sparse", done[s] - 1);
      }
      replays_ += ranks.replayed() ? 1 : 0;
      cuts_ += ranks.cut() ? 1 : 0;
    }
  }

  void say(const char* what) const {
    std::cout << what << ": " << compared_ << " rows, largest relative error " << worst_ << "\n";
  }

  GoldenFile file_;
  std::vector<int32_t> ids_, rows_;
  int64_t compared_ = 0, replays_ = 0, cuts_ = 0;
  double worst_ = 0;
};

TEST_F(Sala, ChoosesAsTheReferenceInPromptsOfAnyChunks) {
  for (const int32_t most : {700, 100}) {
    ForcedRanks ranks(options());
    prompts(ranks, most);
  }
  EXPECT_GT(compared_, 10);
  say("prompts");
}

TEST_F(Sala, ChoosesAsTheReferenceInReplayedGraphs) {
  ForcedRanks ranks(options({}, true));
  prompts(ranks, 700);
  EXPECT_GT(replays_, 3);
  EXPECT_GT(compared_, 5);
  say("graphs");
}

TEST_F(Sala, ChoosesAsTheReferenceOnTwoRanks) {
  for (const MeshShape& shape : {MeshShape{.tp = 2}, MeshShape{.cp = 2}}) {
    ForcedRanks ranks(options(shape));
    cuts_ = 0;
    prompts(ranks, 400);
    EXPECT_EQ(cuts_ > 0, shape.cp > 1);
  }
  EXPECT_GT(compared_, 10);
  say("two ranks");
}

// From a prompt of one token the row's own length decides: dense up to 255 tokens, then by choice.
TEST_F(Sala, GoesSparseWhereTheSequenceIsLongEnough) {
  ForcedRanks ranks(options());
  ranks.add(ids_, 1);
  for (size_t done = 0; done < 700;) {
    const size_t rows = done < 686 ? 7 - (done == 0 ? 6 : 0) : 1;
    const Status status = ranks.step({static_cast<int32_t>(rows)});
    ASSERT_TRUE(status.ok()) << status.message();
    done += rows;
    compare(ranks.logits(0), "position", done - 1);
  }
  EXPECT_GT(compared_, 90);
  say("row by row");
}

}  // namespace
}  // namespace lockstep::testing
