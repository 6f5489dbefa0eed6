// Ranks that disagree, as threads: every rank hears the same words, at once. tests/dist runs the same drills
// over processes.
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <fstream>
#include <regex>
#include <sstream>
#include <thread>

#include "../support/golden_file.h"
#include "base/fault.h"
#include "comm/thread_fabric.h"
#include "wrong_rank.h"

namespace lockstep::testing {
namespace {

// Longer than anything takes here: what is found is found at once, or not.
constexpr std::chrono::seconds kPatient{30};

const RankDrill& drill_of(std::string_view name) {
  for (const RankDrill& drill : rank_drills()) {
    if (drill.name == name) return drill;
  }
  ADD_FAILURE() << "no drill is called " << name;
  return rank_drills()[0];
}

struct Heard {
  std::vector<Status> ranks;
  double seconds = 0;  // from the wrong act to the end of the last rank
};

Heard run(const RankDrill& drill) {
  using Clock = std::chrono::steady_clock;
  const auto world = std::make_shared<ThreadWorld>(kDrillShape.world(), kPatient);
  Heard heard{.ranks = std::vector<Status>(static_cast<size_t>(kDrillShape.world()))};
  Clock::time_point wrong_at = Clock::now();
  {
    std::vector<std::jthread> threads;
    for (int32_t rank = 0; rank < kDrillShape.world(); ++rank) {
      threads.emplace_back([&, rank] {
        auto mesh = Mesh::create(kDrillShape, std::make_unique<ThreadFabric>(world, rank));
        heard.ranks[static_cast<size_t>(rank)] =
            mesh.ok() ? play_rank({.drill = drill,
                                   .mesh = **mesh,
                                   .model = golden_folder("qwen3_moe"),
                                   .goes_wrong = [&wrong_at] { wrong_at = Clock::now(); }})
                      : mesh.status();
      });
    }
  }
  heard.seconds = std::chrono::duration<double>(Clock::now() - wrong_at).count();
  return heard;
}

// Digests depend on what a plan consists of, and widths of columns on them; who differs from whom does not.
std::string plain(const std::string& text) {
  const std::string hidden = std::regex_replace(text, std::regex("(digest|graph) [0-9a-f]{8,16}"), "$1 #");
  return std::regex_replace(hidden, std::regex(" {2,}"), "  ");
}

class Disagreements : public ::testing::TestWithParam<const RankDrill*> {};

TEST_P(Disagreements, ReachEveryRankInTheSameWordsWithinFiveSeconds) {
  const Heard heard = run(*GetParam());

  EXPECT_LT(heard.seconds, 5);
  for (const Status& status : heard.ranks) {
    ASSERT_NE(status.fault(), nullptr) << status.message();
    EXPECT_EQ(status.fault()->check, "G1");
    EXPECT_EQ(status.code(), Code::kInternal) << "which the exit code for ranks that disagree stands for";
    EXPECT_EQ(status.message(), heard.ranks[0].message());
    EXPECT_NE(status.message().find("differs"), std::string::npos) << "a table of who said what";
  }
}

std::vector<const RankDrill*> drills() {
  std::vector<const RankDrill*> all;
  for (const RankDrill& drill : rank_drills()) {
    if (drill.rank >= 0 && !drill.crosses_groups) all.push_back(&drill);
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Ranks, Disagreements, ::testing::ValuesIn(drills()), [](const auto& of) {
  std::string name;
  for (const char letter : of.param->name) {
    if (letter != ' ') name += letter;
  }
  return name;
});

TEST(RanksThatAgree, HearNothing) {
  for (const Status& status : run(drill_of("nothing wrong")).ranks)
    EXPECT_TRUE(status.ok()) << status.message();
}

// The gallery's page says which of its entries are drilled.
TEST(RankDrills, StandOnThePageOfTheGallery) {
  std::stringstream page;
  page << std::ifstream(LOCKSTEP_SOURCE_DIR "/docs/faults.md").rdbuf();
  for (const RankDrill& drill : rank_drills()) {
    if (drill.fault.empty()) continue;
    const std::string id = drill.fault == "FR2" ? "report/2" : std::string(drill.fault);
    EXPECT_NE(page.str().find(concat("| ", id, " | ", drill.name, " |\n")), std::string::npos) << drill.name;
  }
}

struct Words {
  std::string_view drill;
  std::string_view message;
};

constexpr auto kWords = std::to_array<Words>(
    {{"own row count",
      "step {S}: G1 dp_row_counts is digest # on rank 2; expected digest #, as on rank 0\n"
      "data-parallel  rank 0  rank 1  rank 2  rank 3\n"
      "participation  active-decode  active-decode  idle  idle\n"
      "epoch  {S}  {S}  {S}  {S}\n"
      "source_epoch  {P}  {P}  0  0\n"
      "num_rows  3  3  0  0\n"
      "num_seqs  3  3  0  0\n"
      "num_logits_rows  3  3  0  0\n"
      "max_seq_len  8  8  1  1\n"
      "phase  1  1  0  0\n"
      "num_rows_padded  4  4  1  1\n"
      "num_seqs_padded  4  4  1  1\n"
      "num_logits_rows_padded  4  4  1  1\n"
      "dp_row_counts  digest #  digest #  digest #  digest #  differs\n"
      "graph_key  graph #  graph #  eager  eager  differs"},
     {"own graph",
      "step {S}: G1 graph_key is eager on rank 1; expected graph #, as on rank 0\n"
      "tensor-parallel  rank 0  rank 1\n"
      "participation  active-decode  active-decode\n"
      "epoch  {S}  {S}\n"
      "num_rows  3  3\n"
      "num_rows_padded  4  4\n"
      "graph_key  graph #  eager  differs"},
     {"own float decision",
      "step {S}: G1 num_rows is 2 on rank 1; expected 3, as on rank 0\n"
      "tensor-parallel  rank 0  rank 1\n"
      "participation  active-decode  active-decode\n"
      "epoch  {S}  {S}\n"
      "num_rows  3  2  differs\n"
      "num_rows_padded  4  4\n"
      "graph_key  graph #  graph #"},
     {"idle rank skips",
      "step {S}: G1 dp: {C} is all_gather of 32 u8 at shape on rank 2; expected all_gather of 8 u8 at "
      "agreement, as on rank 0\n"
      "rank  op  root  dtype  count  collective  step  of\n"
      "  0  all_gather  -  u8  8  {N}  {S}  agreement\n"
      "  2  all_gather  -  u8  32  {N}  {P}  shape  differs"},
     {"other order",
      "step {S}: G1 tp: {C} is all_gather of 192 f32 at layer 0 o_proj_sum on rank 1; expected all_gather of "
      "192 f32 at embedding_sum, as on rank 0\n"
      "rank  op  root  dtype  count  collective  of\n"
      "  0  all_gather  -  f32  192  {N}  embedding_sum\n"
      "  1  all_gather  -  f32  192  {N}  layer 0 o_proj_sum  differs"},
     {"one output",
      "step {S}: G1 tp: {C} is all_gather of 192 f32 into 1 output at embedding_sum on rank 1; expected "
      "all_gather of 192 f32 at embedding_sum, as on rank 0\n"
      "rank  op  root  dtype  count  outputs  collective  of\n"
      "  0  all_gather  -  f32  192  2  {N}  embedding_sum\n"
      "  1  all_gather  -  f32  192  1  {N}  embedding_sum  differs"}});

// How many steps and collectives come before depends on how engines begin.
std::string with_numbers(std::string_view text, const Fault& fault) {
  std::string filled(text);
  const auto fill = [&](const char* place, const std::string& value) {
    filled = std::regex_replace(filled, std::regex(concat("\\{", place, "\\}")), value);
  };
  fill("S", concat(fault.step));
  fill("P", concat(fault.step - 1));
  fill("C", fault.field);
  fill("N", fault.field.substr(fault.field.find(' ') + 1));
  return filled;
}

class DisagreementTables : public ::testing::TestWithParam<Words> {};

INSTANTIATE_TEST_SUITE_P(Ranks, DisagreementTables, ::testing::ValuesIn(kWords));

TEST_P(DisagreementTables, SayWhoSaidWhat) {
  const Status said = run(drill_of(GetParam().drill)).ranks[0];
  ASSERT_NE(said.fault(), nullptr) << said.message();
  EXPECT_EQ(plain(said.message()), with_numbers(GetParam().message, *said.fault()));
}

}  // namespace
}  // namespace lockstep::testing
