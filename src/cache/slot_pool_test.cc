#include "cache/slot_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace lockstep {
namespace {

TEST(SlotPool, HandsOutEverySlotButTheReservedOneOnce) {
  StatePool pool(3);
  EXPECT_EQ(pool.capacity(), 2);
  EXPECT_TRUE(pool.idle());

  const Result<StateSlot> first = pool.allocate(), second = pool.allocate(), third = pool.allocate();

  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(std::minmax(*first, *second), std::minmax(StateSlot(1), StateSlot(2)));
  EXPECT_TRUE(pool.owned(*first));
  EXPECT_FALSE(pool.owned(StateSlot(0)));
  EXPECT_EQ(third.status().code(), Code::kResourceExhausted);
  EXPECT_EQ(third.status().message(), "slot pool: all 2 slots are held; release one first");
}

TEST(SlotPool, OfTheReservedSlotAloneIsAlwaysIdle) {
  TableRowPool pool(1);

  EXPECT_EQ(pool.capacity(), 0);
  EXPECT_TRUE(pool.idle());
  EXPECT_FALSE(pool.allocate().ok());
}

TEST(SlotPool, AgreesWithANaiveModelOverRandomOperations) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const auto count = static_cast<int32_t>(1 + random() % 30);
    PenaltySlotPool pool(count);
    std::vector<PenaltySlot> held;
    for (int i = 0; i < 2000; ++i) {
      if (random() % 2 == 0) {
        const Result<PenaltySlot> slot = pool.allocate();
        ASSERT_EQ(slot.ok(), static_cast<int32_t>(held.size()) < count - 1);
        if (!slot.ok()) continue;
        ASSERT_GT(*slot, PenaltySlot(0));
        ASSERT_LT(*slot, PenaltySlot(count));
        ASSERT_EQ(std::count(held.begin(), held.end(), *slot), 0) << "slot " << *slot << " is held already";
        held.push_back(*slot);
      } else if (!held.empty()) {
        std::swap(held[random() % held.size()], held.back());
        pool.release(held.back());
        ASSERT_FALSE(pool.owned(held.back()));
        held.pop_back();
      }
      ASSERT_EQ(pool.available(), count - 1 - static_cast<int32_t>(held.size()));
      ASSERT_EQ(pool.idle(), held.empty());
      for (const PenaltySlot slot : held) ASSERT_TRUE(pool.owned(slot));
    }
  }
}

TEST(SlotPoolDeathTest, EndsTheProcessWhenItIsMisused) {
  StatePool pool(3);
  const Result<StateSlot> slot = pool.allocate();
  ASSERT_TRUE(slot.ok());
  pool.release(*slot);

  EXPECT_DEATH(pool.release(*slot), "slot [12] of 3 is not held");
  EXPECT_DEATH(pool.release(StateSlot(0)), "slot 0 of 3 is not held");
  EXPECT_DEATH(pool.release(StateSlot(3)), "slot 3 of 3 is not held");
  EXPECT_DEATH(pool.release(StateSlot(-1)), "slot -1 of 3 is not held");
  EXPECT_DEATH(StatePool(0), "a pool of 0 slots");
}

}  // namespace
}  // namespace lockstep
