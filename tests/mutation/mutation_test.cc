// Switches each rule off, one at a time, and runs every entry of the gallery that expects it: a rule without
// which nothing goes unnamed is not worth its cost, unless something else keeps it.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "faults/entries.h"

namespace lockstep {

// Stands in for the product's definition: one rule may be switched off, by name.
bool rule_is_on(std::string_view check) {
  const char* off = std::getenv("LOCKSTEP_TEST_RULE_OFF");
  return off == nullptr || check != off;
}

namespace faults {
namespace {

constexpr unsigned kSeconds = 60;  // for one entry

// A rule, and what keeps it where no entry of the gallery does.
struct Rule {
  std::string_view code;
  std::string_view kept_by;
};
constexpr auto kRules = std::to_array<Rule>({
    {"P1", ""},
    {"P2", ""},
    {"P3", ""},
    {"P4", ""},
    {"P5", ""},
    {"P6", ""},
    {"P7", ""},
    {"P8", "R5 sees it where there is a graph; steps without one have this rule alone (derived_test)"},
    {"P9", ""},
    {"P10", "counts of lists, places of fields: no other rule looks at them (geometry_test)"},
    {"P11", ""},
    {"GEO", ""},
    {"G1", ""},
    {"L1", ""},
    {"L2", ""},
    {"L3", ""},
    {"L4", ""},
    {"L5", ""},
    {"R1", ""},
    {"R2", ""},
    {"R3", "R4 sees that bytes differ, after the step; R3 says which field and which step, from before it"},
    {"R4", ""},
    {"R5", "R2 sees the bytes that a branch led to; R5 names the branch"},
    {"R6", ""},
    {"R7", "R2 sees the bytes that a count led to; R7 names the count"},
    {"N1", ""},
    {"N2", "a way to write kernels: held by the tests of ops, and seen from outside as N1"},
    {"N3", "a way to write kernels: held by the tests of ops"},
    {"N4", "a way to write kernels: held by the tests of ops"},
});

// What an entry came to without its rule.
enum class Outcome : int { kUnnamed, kNamedByAnother };

struct Seen {
  Outcome outcome = Outcome::kUnnamed;
  std::string other;  // the rule that named it
};

// In a process of its own: without its rule an entry may end it, or wait for ever.
Seen run_without(std::string_view rule, const Entry& entry) {
  int ends[2];
  if (pipe(ends) != 0) return {};
  const pid_t child = fork();
  if (child == 0) {
    alarm(kSeconds);
    setenv("LOCKSTEP_TEST_RULE_OFF", std::string(rule).c_str(), 1);
    const Status status = entry.wrong();
    if (const Fault* fault = status.fault()) {
      const ssize_t written = write(ends[1], fault->check.data(), fault->check.size());
      _exit(written > 0 ? 0 : 1);
    }
    _exit(0);
  }
  close(ends[1]);
  Seen seen;
  std::array<char, 16> name{};
  const ssize_t size = read(ends[0], name.data(), name.size());
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (size > 0) seen = {Outcome::kNamedByAnother, std::string(name.data(), static_cast<size_t>(size))};
  return seen;
}

struct Row {
  int entries = 0;
  int unnamed = 0;
  std::map<std::string, int> others;
};

Row examine(std::string_view rule) {
  Row row;
  for (const Entry* entry : all_entries()) {
    if (entry->expect.check != rule) continue;
    ++row.entries;
    const Seen seen = run_without(rule, *entry);
    if (seen.outcome == Outcome::kUnnamed) {
      ++row.unnamed;
    } else {
      ++row.others[seen.other];
    }
  }
  return row;
}

std::string text_of(const std::map<std::string, int>& others) {
  std::string text;
  for (const auto& [rule, count] : others) text += concat(text.empty() ? "" : ", ", count, " by ", rule);
  return text;
}

constexpr std::string_view kHeading = "## Which entry needs which check\n";

std::string table(const std::vector<Row>& rows) {
  std::string text(kHeading);
  text +=
      "\nEach rule switched off, and the entries of the [gallery](faults.md) that it names run without it. "
      "Printed by\n`mutation_test`; to print it anew, run it with `LOCKSTEP_PRINT_DOCS=1`.\n\n"
      "| code | entries | unnamed without it | still named | what keeps it when no entry does |\n"
      "|---|---|---|---|---|\n";
  for (size_t i = 0; i < kRules.size(); ++i) {
    text += concat("| ", kRules[i].code, " | ", rows[i].entries, " | ", rows[i].unnamed, " | ",
                   text_of(rows[i].others), " | ", kRules[i].kept_by, " |\n");
  }
  return text;
}

TEST(EveryRule, HasAnEntryThatGoesUnnamedWithoutItOrAReasonToStay) {
  std::vector<Row> rows;
  for (const Rule& rule : kRules) {
    rows.push_back(examine(rule.code));
    EXPECT_EQ(rows.back().unnamed == 0, !rule.kept_by.empty())
        << rule.code << ": " << rows.back().unnamed << " of " << rows.back().entries
        << " entries go unnamed without it; kept by \"" << rule.kept_by << "\"";
  }
  const std::string path = LOCKSTEP_SOURCE_DIR "/docs/checks.md";
  std::stringstream read;
  read << std::ifstream(path).rdbuf();
  std::string page = read.str();
  const size_t begin = std::min(page.find(kHeading), page.size());
  if (std::getenv("LOCKSTEP_PRINT_DOCS") != nullptr)
    std::ofstream(path) << page.substr(0, begin) + table(rows);
  EXPECT_EQ(page.substr(begin), table(rows)) << "docs/checks.md is old";
}

TEST(EveryEntry, ExpectsARuleOfTheList) {
  for (const Entry* entry : all_entries()) {
    const bool known = std::any_of(kRules.begin(), kRules.end(),
                                   [&](const Rule& rule) { return rule.code == entry->expect.check; });
    EXPECT_TRUE(known) << entry->id << " expects " << entry->expect.check;
  }
}

}  // namespace
}  // namespace faults
}  // namespace lockstep
