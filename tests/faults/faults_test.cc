// Walks the gallery: each wrong one is named as it should be, each right one is not.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <set>
#include <string>
#include <tuple>

#include "faults/entries.h"
#include "faults/twins.h"

namespace lockstep {

// Stands in for the product's definition: one rule may be switched off, by name.
bool rule_is_on(std::string_view check) {
  const char* off = std::getenv("LOCKSTEP_TEST_RULE_OFF");
  return off == nullptr || check != off;
}

namespace faults {
namespace {

// For as long as it lives, nobody holds anything up to this rule.
class WithoutRule {
 public:
  explicit WithoutRule(std::string_view check) {
    setenv("LOCKSTEP_TEST_RULE_OFF", std::string(check).c_str(), 1);
  }
  ~WithoutRule() { unsetenv("LOCKSTEP_TEST_RULE_OFF"); }
};

class Gallery : public testing::TestWithParam<const Entry*> {};

TEST_P(Gallery, TheWrongOneIsNamed) { EXPECT_EQ(unmet(GetParam()->expect, GetParam()->wrong()), ""); }

TEST_P(Gallery, TheRightOneIsNot) {
  const Part in_full = std::getenv("LOCKSTEP_LONG") != nullptr ? twin_in_full(*GetParam()) : Part();
  const Status status = in_full ? in_full() : GetParam()->twin();
  EXPECT_TRUE(status.ok()) << status.message();
}

// It is this rule that names it: without the rule the entry goes on, and nothing speaks in its name.
TEST_P(Gallery, TheWrongOneIsNotNamedByARuleThatIsOff) {
  const WithoutRule off(GetParam()->expect.check);
  EXPECT_NE(unmet(GetParam()->expect, GetParam()->wrong()), "");
  if (twin_in_full(*GetParam())) return;  // whole engines: once is enough
  const Status twin = GetParam()->twin();
  EXPECT_TRUE(twin.ok()) << twin.message();
}

INSTANTIATE_TEST_SUITE_P(Faults, Gallery, testing::ValuesIn(all_entries().begin(), all_entries().end()),
                         [](const auto& entry) {
                           std::string name(entry.param->id);
                           std::replace(name.begin(), name.end(), '/', '_');
                           return name;
                         });

// Whoever teaches a check to name one of these moves it to the gallery.
TEST(UnnamedEntries, GoUnnamedStillAndTheirTwinsAreRight) {
  for (const Entry* entry : unnamed_entries()) {
    SCOPED_TRACE(entry->id);
    const Status wrong = entry->wrong();
    EXPECT_NE(unmet(entry->expect, wrong), "");
    EXPECT_FALSE(wrong.ok()) << "the numbers are right after all";
    const Status twin = entry->twin();
    EXPECT_TRUE(twin.ok()) << twin.message();
  }
}

// "D10" comes after "D9".
auto order_of(const Entry& entry) {
  const std::string id(entry.id);
  const size_t digits = id.find_first_of("0123456789");
  return std::tuple(id.substr(0, digits), std::stoi(id.substr(digits)), id);
}

TEST(AllEntries, StandInOrderAndSayWhatTheyAre) {
  const Entry* before = nullptr;
  for (const Entry* entry : all_entries()) {
    SCOPED_TRACE(entry->id);
    if (before != nullptr) {
      EXPECT_LT(order_of(*before), order_of(*entry));
    }
    const bool invented = entry->id[0] == 'X', report = entry->id.starts_with("report/");
    if (!invented && !report) {
      EXPECT_EQ(entry->fault_class, std::tolower(entry->id[0]));
    }
    EXPECT_FALSE(entry->title.empty());
    EXPECT_EQ(entry->thread.find('#') == std::string_view::npos, invented)
        << "a public thread: owner/repo#number";
    EXPECT_NE(entry->expect.check, "");
    EXPECT_NE(entry->expect.field, "");
    before = entry;
  }
}

TEST(Unmet, IsEmptyWhereEverythingIsAsExpected) {
  const Status status =
      broken({.check = "P1", .field = "seq_lens", .row = 3, .expected = "4 = 1 + 3", .found = "5"});

  EXPECT_EQ(unmet({.check = "P1"}, status), "");
  EXPECT_EQ(unmet({.check = "P1", .field = "seq_lens", .row = 3, .expected = "1 + 3", .found = "5"}, status),
            "");
}

TEST(Unmet, SaysInWordsWhatIsMissing) {
  const Status status =
      broken({.check = "P1", .field = "seq_lens", .row = 3, .expected = "4 = 1 + 3", .found = "5"});

  EXPECT_EQ(
      unmet({.moment = Moment::kReplay,
             .check = "R2",
             .field = "positions",
             .consumer = "attention",
             .row = 0,
             .expected = "7",
             .found = "6"},
            status),
      "said: P1 seq_lens[3] is 5; expected 4 = 1 + 3; the rule is P1, not R2; the moment is plan, not "
      "replay; "
      "the field is seq_lens, not positions; the consumer is , not attention; the row is 3, not 0; what was "
      "expected is \"4 = 1 + 3\", without \"7\"; what was found is \"5\", without \"6\"");
  EXPECT_EQ(unmet({.check = "R2"}, Status()), "nobody noticed; R2 should have");
  EXPECT_EQ(unmet({.check = "R2"}, error(Code::kDevice, "it burns")),
            "failed without naming a rule: it burns");
}

}  // namespace
}  // namespace faults
}  // namespace lockstep
