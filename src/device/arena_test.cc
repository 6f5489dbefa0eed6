#include "device/arena.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>

namespace lockstep {
namespace {

constexpr int64_t kCapacity = int64_t{2} << 20;  // the least an arena reserves: one huge page

Arena make_arena(int64_t bytes) {
  Result<Arena> arena = Arena::create("test", bytes);
  EXPECT_TRUE(arena.ok()) << arena.status().message();
  return std::move(arena).value();
}

TEST(Arena, AlignsEveryTensorAndTakesItsFootprint) {
  Arena arena = make_arena(kCapacity);
  int64_t used = 0;
  for (int64_t elements = 0; elements < 200; ++elements) {
    const TensorView view = *arena.allocate("tensor", DType::kBF16, {elements});
    EXPECT_EQ(reinterpret_cast<uintptr_t>(view.data) % Arena::kAlignment, 0u) << elements;
    EXPECT_EQ(arena.offset_of(view.data), used) << elements;
    EXPECT_EQ(view.shape, Shape({elements}));
    EXPECT_EQ(view.dtype, DType::kBF16);
    used += Arena::footprint(DType::kBF16, {elements});
    EXPECT_EQ(arena.used(), used);
  }
  EXPECT_EQ(Arena::footprint(DType::kBF16, {32}), 64);
  EXPECT_EQ(Arena::footprint(DType::kBF16, {33}), 128);
  EXPECT_EQ(Arena::footprint(DType::kF32, {0, 7}), 0);
}

TEST(Arena, ReadsAsZeroBeforeItIsWritten) {
  Arena arena = make_arena(1000);
  const TensorView view = *arena.allocate("bytes", DType::kU8, {kCapacity});
  const auto* bytes = view.as<const uint8_t>();
  int64_t set = 0;
  for (int64_t i = 0; i < view.elements(); ++i) set += bytes[i] != 0;
  EXPECT_EQ(set, 0);
}

TEST(Arena, SaysWhatWasAskedAndWhatIsLeftWhenItIsFull) {
  Arena arena = make_arena(kCapacity);
  ASSERT_TRUE(arena.allocate("first", DType::kU8, {kCapacity - 100}).ok());

  const Result<TensorView> refused = arena.allocate("kv cache", DType::kF32, {8, 4});

  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), Code::kResourceExhausted);
  EXPECT_EQ(refused.status().message(),
            "arena test: kv cache [8, 4] f32 needs 128 bytes; 64 of 2097152 are left");
  EXPECT_TRUE(arena.allocate("what still fits", DType::kF32, {4, 4}).ok());
  EXPECT_EQ(arena.used(), arena.capacity());
}

TEST(Arena, RefusesASizeThatIsBeyondCounting) {
  Arena arena = make_arena(kCapacity);

  const Result<TensorView> refused =
      arena.allocate("kv cache", DType::kF32, {int64_t{1} << 40, int64_t{1} << 40});

  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), Code::kResourceExhausted);
  EXPECT_EQ(arena.used(), 0);
}

TEST(Arena, RefusesToReserveWhatNoMachineHas) {
  const Result<Arena> refused = Arena::create("weights", int64_t{1} << 60);

  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), Code::kResourceExhausted);
  EXPECT_EQ(refused.status().message(),
            "arena weights: 1152921504606846976 bytes could not be reserved; free memory or ask for less");
}

TEST(Arena, HandsOutTheSameMemoryAfterAReset) {
  Arena arena = make_arena(kCapacity);
  (void)*arena.allocate("kept", DType::kF32, {3});
  const int64_t mark = arena.mark();
  const TensorView before = *arena.allocate("first", DType::kF32, {100});

  ASSERT_TRUE(arena.reset_to(mark).ok());
  const TensorView after = *arena.allocate("second", DType::kI32, {7});

  EXPECT_EQ(before.data, after.data);
  EXPECT_EQ(arena.used(), mark + 64);
}

TEST(ArenaDeathTest, RefusesAMarkThatItNeverGave) {
  Arena arena = make_arena(kCapacity);
  EXPECT_DEATH((void)arena.reset_to(64), "mark 64 used 0");
}

TEST(Arena, KnowsItsOwnAddresses) {
  Arena arena = make_arena(kCapacity);
  Arena other = make_arena(kCapacity);
  const TensorView all = *arena.allocate("all", DType::kU8, {kCapacity});
  const auto* bytes = all.as<const uint8_t>();

  EXPECT_TRUE(arena.contains(bytes));
  EXPECT_TRUE(arena.contains(bytes + kCapacity - 1));
  EXPECT_FALSE(arena.contains(bytes + kCapacity));
  EXPECT_FALSE(other.contains(bytes));
  EXPECT_FALSE(arena.contains(nullptr));
}

TEST(Arena, KeepsItsMemoryWhenItIsMoved) {
  Arena arena = make_arena(kCapacity);
  const TensorView view = *arena.allocate("text", DType::kU8, {5});
  std::memcpy(view.data, "moved", 5);

  Arena second = std::move(arena);
  Arena third = make_arena(kCapacity);
  third = std::move(second);

  EXPECT_TRUE(third.contains(view.data));
  EXPECT_EQ(third.used(), 64);
  EXPECT_EQ(third.name(), "test");
  EXPECT_EQ(std::memcmp(view.data, "moved", 5), 0);
}

}  // namespace
}  // namespace lockstep
