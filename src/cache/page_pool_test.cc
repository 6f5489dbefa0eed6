#include "cache/page_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

namespace lockstep {
namespace {

constexpr Epoch kNoStep(0);  // nothing has read the page

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
  EXPECT_TRUE(pool.share(pool.ref(page)).ok());
  EXPECT_EQ(pool.references(page), 2);

  pool.release(page, kNoStep);
  EXPECT_EQ(pool.references(page), 1);
  EXPECT_EQ(pool.available(), PageCount(1));
  EXPECT_FALSE(pool.idle());

  pool.release(page, kNoStep);
  EXPECT_EQ(pool.references(page), 0);
  EXPECT_TRUE(pool.idle());
}

TEST(PagePool, HandsOutThePageFreedLast) {
  PagePool pool(10);
  const PageId first = taken(pool), second = taken(pool);
  pool.release(second, kNoStep);
  pool.release(first, kNoStep);

  EXPECT_EQ(taken(pool), first);
  EXPECT_EQ(taken(pool), second);
}

TEST(PagePool, HandsOutAPageAgainOnceTheLastStepThatReadsItHasEnded) {
  PagePool pool(2);
  const PageId page = taken(pool);
  pool.release(page, Epoch(7));
  EXPECT_EQ(pool.references(page), 0);
  EXPECT_FALSE(pool.allocate().ok());
  EXPECT_EQ(pool.check_idle().message(),
            "P3 pages[1] is read by a step that has not ended; expected nobody's, "
            "as no sequence is left");
  pool.step_ended(Epoch(6));
  EXPECT_FALSE(pool.allocate().ok());

  pool.step_ended(Epoch(7));

  EXPECT_TRUE(pool.check_idle().ok());
  EXPECT_EQ(taken(pool), page);
}

TEST(PagePool, KeepsASharedPageForTheLastStepOfAllItsHolders) {
  PagePool pool(2);
  const PageId page = taken(pool);
  ASSERT_TRUE(pool.share(pool.ref(page)).ok());
  pool.release(page, Epoch(9));
  pool.release(page, Epoch(4));
  pool.step_ended(Epoch(8));
  EXPECT_FALSE(pool.idle());

  pool.step_ended(Epoch(9));

  EXPECT_TRUE(pool.idle());
}

TEST(PagePool, NamesAPageThatWasFreedSinceItWasRemembered) {
  PagePool pool(2);
  const PageRef remembered = pool.ref(taken(pool));
  pool.release(remembered.page, kNoStep);
  EXPECT_EQ(pool.share(remembered).message(),
            "P3 pages[1] is in generation 1 with 0 holders; expected held since it was remembered, in "
            "generation 0");

  EXPECT_EQ(taken(pool), remembered.page);
  const Status stale = pool.share(remembered);

  EXPECT_EQ(stale.code(), Code::kInternal);
  EXPECT_EQ(stale.message(),
            "P3 pages[1] is in generation 1 with 1 holders; expected held since it was remembered, in "
            "generation 0");
  EXPECT_EQ(pool.references(remembered.page), 1);
}

TEST(PagePool, NamesThePageThatSomebodyStillHolds) {
  PagePool pool(4);
  const PageId first = taken(pool), second = taken(pool);
  pool.release(first, kNoStep);

  EXPECT_EQ(pool.check_idle().message(),
            concat("P3 pages[", second, "] is held by 1; expected nobody's, as no sequence is left"));
}

TEST(Leases, NameAPageThatIsGivenAwayTooEarly) {
  Leases leases(3);
  leases.read(PageId(2), Epoch(5));
  leases.step_ended(Epoch(4));

  EXPECT_TRUE(leases.check(PageId(1)).ok());
  EXPECT_EQ(leases.check(PageId(2)).message(),
            "P3 pages[2] is given to another owner after step 4; expected step 5, which reads it, to end "
            "first");
  leases.step_ended(Epoch(5));
  EXPECT_TRUE(leases.check(PageId(2)).ok());
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
          ASSERT_TRUE(pool.share(pool.ref(page)).ok());
          held.push_back(page);
        } else {
          pool.release(page, kNoStep);
          held.erase(held.begin() + static_cast<int64_t>(at));
        }
        ASSERT_EQ(pool.references(page), holders(page));
      }
      ASSERT_EQ(pool.idle(), held.empty());
    }
    for (const PageId page : held) pool.release(page, kNoStep);
    EXPECT_TRUE(pool.idle());
  }
}

TEST(PagePoolDeathTest, EndsTheProcessWhenItIsMisused) {
  PagePool pool(3);
  const PageId page = taken(pool);
  pool.release(page, kNoStep);

  EXPECT_DEATH(pool.release(page, kNoStep), "page [12] has 0 holders");
  EXPECT_DEATH((void)pool.share({PageId(0)}), "page 0 of 3 is reserved or does not exist");
  EXPECT_DEATH(pool.release(PageId(0), kNoStep), "page 0 of 3 is reserved or does not exist");
  EXPECT_DEATH(pool.release(PageId(3), kNoStep), "page 3 of 3 is reserved or does not exist");
  EXPECT_DEATH((void)pool.share({PageId(-1)}), "page -1 of 3 is reserved or does not exist");
  EXPECT_DEATH(PagePool(1), "a pool of 1 pages");
}

}  // namespace
}  // namespace lockstep
