#include "plan/page_tables.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

std::vector<PageId> ids(std::initializer_list<int32_t> pages) {
  std::vector<PageId> out;
  for (const int32_t page : pages) out.emplace_back(page);
  return out;
}

std::vector<PageId> pages_of(const PageTables& tables, int32_t row) {
  const std::span<const PageId> pages = tables.pages(TableRow(row));
  return {pages.begin(), pages.end()};
}

TEST(PageTables, BeginWithThePadRowAndItsEdit) {
  const PageTables tables(3, 4);

  EXPECT_EQ(tables.rows(), 3);
  EXPECT_EQ(pages_of(tables, 0), ids({0}));
  EXPECT_EQ(pages_of(tables, 1), ids({}));
  ASSERT_EQ(tables.pending_edits().size(), 1u);
  EXPECT_EQ(tables.pending_edits()[0], (TableEdit{TableRow(0), 0, PageId(0)}));
}

TEST(PageTables, TurnAppendsIntoEdits) {
  PageTables tables(3, 4);
  tables.edits_taken();

  tables.append(TableRow(2), PageId(9));
  tables.append(TableRow(2), PageId(4));

  EXPECT_EQ(pages_of(tables, 2), ids({9, 4}));
  ASSERT_EQ(tables.pending_edits().size(), 2u);
  EXPECT_EQ(tables.pending_edits()[0], (TableEdit{TableRow(2), 0, PageId(9)}));
  EXPECT_EQ(tables.pending_edits()[1], (TableEdit{TableRow(2), 1, PageId(4)}));
}

TEST(PageTables, ForgetAClearedRowAndItsPendingEditsOnly) {
  PageTables tables(3, 4);
  tables.append(TableRow(1), PageId(5));
  tables.append(TableRow(2), PageId(6));

  tables.clear(TableRow(1));
  tables.append(TableRow(1), PageId(7));

  EXPECT_EQ(pages_of(tables, 1), ids({7}));
  ASSERT_EQ(tables.pending_edits().size(), 3u);
  EXPECT_EQ(tables.pending_edits()[1], (TableEdit{TableRow(2), 0, PageId(6)}));
  EXPECT_EQ(tables.pending_edits()[2], (TableEdit{TableRow(1), 0, PageId(7)}));
}

TEST(PageTables, DigestWhatARowIsReadFor) {
  PageTables tables(2, 4);
  for (const int32_t page : {3, 8, 5}) tables.append(TableRow(1), PageId(page));

  EXPECT_EQ(tables.digest(TableRow(1), PageCount(0)), 0u);
  EXPECT_EQ(tables.digest(TableRow(1), PageCount(1)), table_entry_digest(0, PageId(3)));
  EXPECT_EQ(tables.digest(TableRow(1), PageCount(3)), table_entry_digest(0, PageId(3)) ^
                                                          table_entry_digest(1, PageId(8)) ^
                                                          table_entry_digest(2, PageId(5)));
}

TEST(PageTables, DigestTellsPagesInAnotherOrderApart) {
  PageTables tables(3, 4);
  tables.append(TableRow(1), PageId(3));
  tables.append(TableRow(1), PageId(8));
  tables.append(TableRow(2), PageId(8));
  tables.append(TableRow(2), PageId(3));

  EXPECT_NE(tables.digest(TableRow(1), PageCount(2)), tables.digest(TableRow(2), PageCount(2)));
}

TEST(PageTablesDeathTest, EndsTheProcessWhenARowIsMisused) {
  PageTables tables(2, 1);
  tables.append(TableRow(1), PageId(3));

  EXPECT_DEATH(tables.append(TableRow(1), PageId(4)), "table row 1 has 1 pages");
  EXPECT_DEATH(tables.append(TableRow(0), PageId(4)), "table row 0 of 2");
  EXPECT_DEATH(tables.append(TableRow(2), PageId(4)), "table row 2 of 2");
  EXPECT_DEATH(tables.clear(TableRow(0)), "table row 0 of 2");
  EXPECT_DEATH(tables.digest(TableRow(1), PageCount(2)), "table row 1 has fewer than 2 pages");
}

}  // namespace
}  // namespace lockstep
