// docs/faults.md is the gallery, printed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "faults/entries.h"

namespace lockstep::faults {
namespace {

constexpr std::string_view kIntro =
    "# The fault gallery\n\n"
    "Faults of the field: real disagreements between a step's plan and the kernels that read it, each done "
    "the "
    "way it was done there,\nwith its right twin, in a file of its own under `tests/faults`. The wrong one "
    "must "
    "be named, by this rule at this moment; the twin\nmust be left alone. `lockstep doctor` runs them on "
    "your "
    "machine; [checks.md](checks.md) says what the rules are. Printed from the\nentries; a test compares. To "
    "print it anew, run `faults_test --gtest_filter='Page.*'` with `LOCKSTEP_PRINT_DOCS=1`.\n\n"
    "A plan is named when it is made (`plan`), a consumer when it asks for fields (`bind`), a launch when it "
    "is "
    "recorded (`capture`) or runs\n(`launch`, `poison`: at level full), a graph before or after its replay "
    "(`replay`, `commit`), a rank when it meets the others (`group`).\n\n"
    "Not here: faults that no rule can name, arithmetic that is wrong inside a kernel which keeps what it "
    "has "
    "declared (a decay summed from\nthe wrong row, an exponent that overflows). Oracles and golden values "
    "are "
    "for those.\n";

// Nobody names these yet.
std::string unnamed() {
  std::string text =
      "\n## What goes unnamed\n\n| id | what goes wrong | what should name it |\n|---|---|---|\n";
  for (const Entry* entry : unnamed_entries())
    text += concat("| ", entry->id, " | ", entry->title, " | ", entry->expect.check, ", at the ",
                   name_of(entry->expect.moment), " |\n");
  return unnamed_entries().empty() ? "" : text;
}

// Drills of whole engines (tests/ranks/wrong_rank.h), by the entry that does the same to a plan or a group.
struct Drilled {
  std::string_view id;
  std::string_view drill;
};
constexpr Drilled kDrilled[] = {{"F5", "own configuration"},   {"G1f", "own row count"},
                                {"G2f", "own graph"},          {"G3f", "idle rank skips"},
                                {"G4f", "own float decision"}, {"G5f", "other size"},
                                {"G6f", "own phase"},          {"G11f", "own random numbers"},
                                {"N4t", "own source"},         {"report/2", "missing collective"},
                                {"report/2", "one output"}};

std::string drilled() {
  std::string text =
      "\n## As ranks of a whole engine\n\nWhat goes wrong between ranks is done once more by a rank of four "
      "that "
      "serve together: as threads in\n`tests/ranks/disagreements_test.cc`, as processes by "
      "`tests/dist/disagreements.py --all`, with drills that have no entry here.\nEach ends within 5 s with "
      "the "
      "same table from every rank.\n\n| id | drill |\n|---|---|\n";
  for (const Drilled& each : kDrilled) text += concat("| ", each.id, " | ", each.drill, " |\n");
  return text;
}

std::string page() {
  std::string text(kIntro);
  char before = 0;
  for (const Entry* entry : all_entries()) {
    if (entry->fault_class != before) {
      before = entry->fault_class;
      text +=
          concat("\n## ", class_name(before), "\n\n| id | what went wrong | thread | named | by | field |\n",
                 "|---|---|---|---|---|---|\n");
    }
    text += concat("| ", entry->id, " | ", entry->title, " | ", entry->thread, " | ",
                   name_of(entry->expect.moment), " | ", entry->expect.check, " | `", entry->expect.field,
                   "` |\n");
  }
  return text + drilled() + unnamed();
}

TEST(Page, NamesEntriesThatThereAre) {
  for (const Drilled& each : kDrilled) {
    EXPECT_TRUE(std::ranges::any_of(all_entries(), [&](const Entry* entry) { return entry->id == each.id; }))
        << each.id;
  }
}

TEST(Page, IsTheGallery) {
  const std::string path = LOCKSTEP_SOURCE_DIR "/docs/faults.md";
  if (std::getenv("LOCKSTEP_PRINT_DOCS") != nullptr) std::ofstream(path) << page();
  std::stringstream file;
  file << std::ifstream(path).rdbuf();
  EXPECT_EQ(file.str(), page()) << "docs/faults.md is old";
}

}  // namespace
}  // namespace lockstep::faults
