#include "cache/page_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

namespace lockstep {
namespace {

PageId taken(PagePool& pool) {
  Result<PageId> page = pool.allocate();
  EXPECT_TRUE(page.ok()) << page.status().message();
  return *page;
}

TEST(PagePool, HandsOutEveryPageButTheReservedOneOnce) {
  PagePool pool(4);
  EXPECT_EQ(pool.capacity(), PageCount(3));

  std::map<PageId, int> seen;
  for (int i = 0; i < 3; ++i) ++seen[taken(pool)];

  EXPECT_EQ(seen, (std::map<PageId, int>{{PageId(1), 1}, {PageId(2), 1}, {PageId(3), 1}}));
  EXPECT_EQ(pool.available(), PageCount(0));
  const Result<PageId> none = pool.allocate();
  EXPECT_EQ(none.status().code(), Code::kResourceExhausted);
  EXPECT_EQ(none.status().message(), "page pool: all 3 pages are held; release one first");
}

TEST(PagePool, FreesASharedPageWithItsLastHolder) {
  PagePool pool(3);
  const PageId page = taken(pool);
  pool.share(page);
  EXPECT_EQ(pool.references(page), 2);

  pool.release(page);
  EXPECT_EQ(pool.references(page), 1);
  EXPECT_EQ(pool.available(), PageCount(1));
  EXPECT_FALSE(pool.idle());

  pool.release(page);
  EXPECT_EQ(pool.references(page), 0);
  EXPECT_TRUE(pool.idle());
}

TEST(PagePool, HandsOutThePageFreedLast) {
  PagePool pool(10);
  const PageId first = taken(pool), second = taken(pool);
  pool.release(second);
  pool.release(first);

  EXPECT_EQ(taken(pool), first);
  EXPECT_EQ(taken(pool), second);
}

// A page, as somebody would keep it who does not count cleverly: one entry per holder.
TEST(PagePool, AgreesWithANaiveModelOverRandomOperations) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const auto pages = static_cast<int32_t>(2 + random() % 30);
    PagePool pool(pages);
    std::vector<PageId> held;
    const auto holders = [&](PageId page) { return std::count(held.begin(), held.end(), page); };
    for (int i = 0; i < 2000; ++i) {
      const uint64_t what = random() % 5;
      if (what <= 1) {
        const Result<PageId> page = pool.allocate();
        std::vector<PageId> distinct = held;
        std::sort(distinct.begin(), distinct.end());
        distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
        ASSERT_EQ(page.ok(), static_cast<int32_t>(distinct.size()) < pages - 1);
        if (!page.ok()) continue;
        ASSERT_GT(*page, PageId(0));
        ASSERT_LT(*page, PageId(pages));
        ASSERT_EQ(holders(*page), 0) << "page " << *page << " is held already";
        held.push_back(*page);
      } else if (!held.empty()) {
        const size_t at = random() % held.size();
        const PageId page = held[at];
        if (what == 2) {
          pool.share(page);
          held.push_back(page);
        } else {
          pool.release(page);
          held.erase(held.begin() + static_cast<int64_t>(at));
        }
        ASSERT_EQ(pool.references(page), holders(page));
      }
      ASSERT_EQ(pool.idle(), held.empty());
    }
    for (const PageId page : held) pool.release(page);
    EXPECT_TRUE(pool.idle());
  }
}

TEST(PagePoolDeathTest, EndsTheProcessWhenItIsMisused) {
  PagePool pool(3);
  const PageId page = taken(pool);
  pool.release(page);

  EXPECT_DEATH(pool.release(page), "page [12] has 0 holders");
  EXPECT_DEATH(pool.share(page), "page [12] has 0 holders");
  EXPECT_DEATH(pool.share(PageId(0)), "page 0 of 3 is reserved or does not exist");
  EXPECT_DEATH(pool.release(PageId(0)), "page 0 of 3 is reserved or does not exist");
  EXPECT_DEATH(pool.release(PageId(3)), "page 3 of 3 is reserved or does not exist");
  EXPECT_DEATH(pool.share(PageId(-1)), "page -1 of 3 is reserved or does not exist");
  EXPECT_DEATH(PagePool(1), "a pool of 1 pages");
}

}  // namespace
}  // namespace lockstep
