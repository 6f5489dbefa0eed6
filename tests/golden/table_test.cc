// The golden table: every family against transformers in every way that the engine can come to a token's
// logits. The page docs/golden.md is this table, printed.

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>

#include "../support/forced_ranks.h"
#include "../support/golden_file.h"

namespace lockstep::testing {
namespace {

constexpr double kRelativeError = 1e-4;  // of a logit, of the largest one: the bar of all golden values
constexpr std::string_view kPage = LOCKSTEP_SOURCE_DIR "/docs/golden.md";

struct Family {
  std::string_view name;       // folder
  std::string_view reference;  // folder of the golden values
  std::string_view about;
};
constexpr Family kFamilies[] = {
    {"qwen3", "qwen3", "softmax attention"},
    {"qwen3_moe", "qwen3_moe", "experts"},
    {"qwen3_next", "qwen3_next", "Gated DeltaNet, gated attention, experts"},
    {"llama", "llama", "llama3 rotation"},
    {"llama_yarn", "llama_yarn", "YaRN rotation"},
    {"qwen3_5", "qwen3_5", "a multi-modal checkpoint's text model, dense"},
    {"qwen3_5_moe", "qwen3_5_moe", "the same with packed experts"},
    {"qwen3_5_moe_per_expert", "qwen3_5_moe", "the same flat, a tensor per expert"},
    {"minimax_m2", "minimax_m2", "norm over all heads, half-rotated, biased sigmoid routing"},
    {"minicpm_sala", "minicpm_sala", "lightning attention, gated attention without positions, multipliers"},
};

// How far the logits of some rows are from the reference's.
struct Distance {
  double log_probability = 0;  // largest error
  double relative = 0;         // of a logit, of the largest logit
  int same = 0;                // rows with the reference's likeliest token
  int near_ties = 0;           // others, where the reference's two best are closer than the errors
  int rows = 0;
};

double log_sum(std::span<const float> logits) {
  const double largest = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum);
}

void compare(std::span<const float> got, std::span<const float> want, Distance& distance) {
  ASSERT_EQ(got.size(), want.size());
  const double ours = log_sum(got), theirs = log_sum(want);
  double worst = 0, scale = 0;
  for (size_t v = 0; v < want.size(); ++v) {
    const double error = static_cast<double>(got[v]) - want[v];
    worst = std::isnan(error) ? HUGE_VAL : std::max(worst, std::abs(error));
    scale = std::max(scale, std::abs(static_cast<double>(want[v])));
    distance.log_probability = std::max(distance.log_probability, std::abs(error - ours + theirs));
  }
  distance.relative = std::max(distance.relative, worst / scale);
  std::vector<float> best(want.begin(), want.end());
  std::ranges::partial_sort(best, best.begin() + 2, std::greater());
  const auto token = std::ranges::max_element(want) - want.begin();
  const bool same = std::ranges::max_element(got) - got.begin() == token;
  ++distance.rows;
  distance.same += same ? 1 : 0;
  distance.near_ties += !same && best[0] - best[1] <= 4 * worst ? 1 : 0;
}

// The golden sequences of a family, and a run over them that has logits to compare after any step.
class Comparison {
 public:
  Comparison(const Family& family, ForcedOptions options)
      : file_(GoldenFile::open(golden_folder(std::string(family.reference)) + "/golden.safetensors")),
        ranks_((options.model = golden_folder(std::string(family.name)), options)) {
    for (const std::string name : {"long", "short"})
      cases_.push_back({file_.token_ids(name + ".input_ids"), file_.read<float>(name + ".logits")});
  }

  // The first `prompt` tokens of case `c` as the prompt of a sequence of `tokens`.
  void add(size_t c, size_t tokens, size_t prompt) {
    const std::vector<int32_t>& ids = cases_[c].ids;
    ranks_.add({ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(tokens)}, prompt);
    case_of_.push_back(c);
    done_.push_back(0);
  }

  // At most `most` rows of every sequence.
  void step(int32_t most) {
    std::vector<int32_t> rows;
    for (size_t s = 0; s < done_.size(); ++s)
      rows.push_back(std::min(most, static_cast<int32_t>(ranks_.left(s))));
    const Status status = ranks_.step(rows);
    ASSERT_TRUE(status.ok()) << status.message();
    for (size_t s = 0; s < done_.size(); ++s) {
      done_[s] += static_cast<size_t>(rows[s]);
      const std::vector<float> got = rows[s] > 0 ? ranks_.logits(s) : std::vector<float>();
      if (got.empty()) continue;
      const size_t vocab = got.size();
      compare(got, std::span(cases_[case_of_[s]].logits).subspan((done_[s] - 1) * vocab, vocab), distance_);
      for (size_t rank = 1; rank < ranks_.ranks(); ++rank)
        EXPECT_EQ(ranks_.logits(s, rank), got) << "rank " << rank;
    }
  }

  bool done() const {
    for (size_t s = 0; s < done_.size(); ++s)
      if (ranks_.left(s) > 0) return false;
    return true;
  }
  const ForcedRanks& ranks() const { return ranks_; }
  const Distance& distance() const { return distance_; }

 private:
  struct Case {
    std::vector<int32_t> ids;
    std::vector<float> logits;  // [T, V]
  };
  GoldenFile file_;
  ForcedRanks ranks_;
  std::vector<Case> cases_;
  std::vector<size_t> case_of_;  // by sequence
  std::vector<size_t> done_;     // tokens fed
  Distance distance_;
};

// Prefixes that end beside the edges of chunks and pages, each a prompt of its own.
void add_prefixes(Comparison& run) {
  for (const size_t length : {1, 2, 3, 15, 16, 17, 31, 36, 37}) run.add(1, length, length);
  for (const size_t length : {63, 64, 65, 100, 127, 128, 129, 150}) run.add(0, length, length);
}

Distance prefill(const Family& family) {
  Comparison run(family, {.max_rows = 1024, .max_seqs = 17});
  add_prefixes(run);
  run.step(150);
  EXPECT_TRUE(run.done());
  return run.distance();
}

Distance split_prefill(const Family& family) {
  Comparison run(family, {.max_rows = 1024, .max_seqs = 17});
  add_prefixes(run);
  while (!run.done() && !::testing::Test::HasFatalFailure()) run.step(13);
  return run.distance();
}

// From short prompts to the ends, one token after the other.
Distance decode(const Family& family, ForcedOptions options) {
  options.max_seqs = 3;
  Comparison run(family, options);
  run.add(0, 150, 5);
  run.add(1, 37, 5);
  run.step(5);
  while (!run.done() && !::testing::Test::HasFatalFailure()) {
    run.step(1);
    EXPECT_EQ(run.ranks().replayed(), options.captured);
  }
  return run.distance();
}

// Prompts in two parts, then decoding, on ranks that all have the same logits.
Distance on_ranks(const Family& family, const MeshShape& shape) {
  Comparison run(family, {.shape = shape, .max_seqs = 4, .captured = true});
  run.add(0, 150, 100);
  run.add(1, 37, 9);
  run.add(0, 70, 61);
  run.step(57);
  EXPECT_EQ(run.ranks().cut(), shape.cp > 1);
  run.step(57);
  while (!run.done() && !::testing::Test::HasFatalFailure()) {
    run.step(1);
    EXPECT_TRUE(run.ranks().replayed());
  }
  return run.distance();
}

struct Way {
  std::string_view name;
  Distance (*measure)(const Family& family);
};
constexpr Way kWays[] = {
    {"prefill", prefill},
    {"split prefill", split_prefill},
    {"decode", [](const Family& family) { return decode(family, {}); }},
    {"graph decode", [](const Family& family) { return decode(family, {.captured = true}); }},
    {"TP 2", [](const Family& family) { return on_ranks(family, {.tp = 2}); }},
    {"CP 2", [](const Family& family) { return on_ranks(family, {.cp = 2}); }},
};

// "2e-06, 17 of 17": the error rounded up to one digit.
std::string cell(const Distance& distance) {
  const double power = std::pow(10.0, std::floor(std::log10(distance.log_probability)));
  std::ostringstream text;
  text << std::ceil(distance.log_probability / power) * power << ", " << distance.same << " of "
       << distance.rows;
  return text.str();
}

std::string line_of(const Family& family, const std::vector<Distance>& distances) {
  std::string line = concat("| `", family.name, "` | ", family.about, " |");
  for (const Distance& distance : distances) line += concat(" ", cell(distance), " |");
  return line;
}

std::string page(const std::vector<std::string>& lines) {
  std::string text =
      "# The golden table\n\n"
      "Tiny random checkpoints of every family ([tests/golden](../tests/golden/README.md)) in fp32 on the "
      "CPU, against "
      "the\nreference implementation: the largest error of a log probability over all rows compared, and in "
      "how many of "
      "them\nthe likeliest token is the reference's. `golden_test --gtest_filter='*Table*'` measures and "
      "holds every "
      "logit to 1e-4 of the\nlargest one; with `LOCKSTEP_PRINT_DOCS=1` it prints this page anew. Last digits "
      "depend on "
      "the instruction set.\n\n"
      "| family | what is in it |";
  for (const Way& way : kWays) text += concat(" ", way.name, " |");
  text += "\n|---|---|";
  for ([[maybe_unused]] const Way& way : kWays) text += "---|";
  text += "\n";
  for (const std::string& line : lines) text += line + "\n";
  return text +
         "\nPrefill: prompts of 1 to 150 tokens in one step; split: 13 tokens a step. Decode: from prompts "
         "of 5 "
         "tokens, one row a\nstep; graph: every such step replays a captured graph. TP 2, CP 2: two ranks as "
         "threads, "
         "prompts in parts of 57, then graphs;\nboth ranks have the same logits bit for bit.\n";
}

// What the page says about a family, by way; empty when it does not.
std::vector<std::string> cells_on_the_page(std::string_view family) {
  std::ifstream file{std::string(kPage)};
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(concat("| `", family, "` |"))) continue;
    std::vector<std::string> cells;
    std::istringstream rest(line);
    for (std::string each; std::getline(rest, each, '|');) cells.push_back(each);
    cells.erase(cells.begin(), cells.begin() + 3);
    return cells;
  }
  return {};
}

// Another instruction set may round otherwise: ten times the error, and near ties.
void expect_as_stated(const std::string& stated, const Distance& distance) {
  double error = 0;
  int same = 0, rows = 0;
  ASSERT_EQ(std::sscanf(stated.c_str(), " %lf, %d of %d", &error, &same, &rows), 3) << stated;
  EXPECT_LE(distance.log_probability, 10 * error) << "docs/golden.md is old";
  EXPECT_EQ(distance.rows, rows) << "docs/golden.md is old";
  EXPECT_GE(distance.same + distance.near_ties, same) << "docs/golden.md is old";
}

TEST(GoldenTable, AgreesWithTheReferenceInEveryWayAsItsPageSays) {
  const bool print = std::getenv("LOCKSTEP_PRINT_DOCS") != nullptr;
  std::vector<std::string> lines;
  for (const Family& family : kFamilies) {
    SCOPED_TRACE(family.name);
    const std::vector<std::string> stated = cells_on_the_page(family.name);
    std::vector<Distance> distances;
    for (const Way& way : kWays) {
      SCOPED_TRACE(way.name);
      const Distance distance = distances.emplace_back(way.measure(family));
      EXPECT_LE(distance.relative, kRelativeError);
      EXPECT_EQ(distance.same + distance.near_ties, distance.rows);
      EXPECT_GT(distance.rows, 16);
      if (print) continue;
      ASSERT_EQ(stated.size(), std::size(kWays)) << "docs/golden.md is old";
      expect_as_stated(stated[distances.size() - 1], distance);
    }
    lines.push_back(line_of(family, distances));
    std::cout << lines.back() << "\n";
  }
  if (print) std::ofstream(std::string(kPage)) << page(lines);
}

}  // namespace
}  // namespace lockstep::testing
