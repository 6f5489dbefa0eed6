#include "plan/fields.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

namespace lockstep {
namespace {

TEST(FieldTable, IsTheOneInTheDocs) {
  const std::string path = LOCKSTEP_SOURCE_DIR "/docs/fields.md";
  if (std::getenv("LOCKSTEP_PRINT_DOCS") != nullptr) std::ofstream(path) << field_table_text();
  std::ifstream file(path);
  std::ostringstream page;
  page << file.rdbuf();

  EXPECT_EQ(page.str(), field_table_text());
}

TEST(FieldTable, NamesEachFieldOnceAndSaysWhatItIs) {
  std::set<std::string_view> names, meanings;
  for (const FieldInfo& info : kFields) {
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    EXPECT_TRUE(meanings.insert(meaning_of(info.id)).second) << info.name;
    EXPECT_EQ(&info_of(info.id), &info);
  }
}

TEST(FieldTable, HasNamesForAllItsWords) {
  for (const FieldInfo& info : kFields) {
    for (const std::string_view word :
         {name_of(info.unit), name_of(info.form), name_of(info.extent), name_of(info.space),
          name_of(info.scope), name_of(info.life), meaning_of(info.id)}) {
      EXPECT_NE(word, "unknown") << info.name;
    }
  }
}

TEST(FieldTable, ReadsElementsAsTheIntegersAndFloatsThatTheyAre) {
  EXPECT_EQ(info_of(FieldId::token_ids).element, Element::kI32);
  EXPECT_EQ(info_of(FieldId::slot_mapping).element, Element::kI64);
  EXPECT_EQ(info_of(FieldId::epoch).element, Element::kU64);
  EXPECT_EQ(info_of(FieldId::seed).element, Element::kU64);
  EXPECT_EQ(info_of(FieldId::top_p).element, Element::kF32);
  EXPECT_EQ(info_of(FieldId::copies).element, Element::kI32x2);
  EXPECT_EQ(info_of(FieldId::table_edits).element, Element::kI32x3);
  EXPECT_EQ(info_of(FieldId::cp_segments).element, Element::kI32x4);
}

}  // namespace
}  // namespace lockstep
