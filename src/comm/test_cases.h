// For tests: what every communicator has to do, over threads as over processes. Each member of a group calls
// these with the same seed, and knows from it what all others bring.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <random>
#include <thread>
#include <vector>

#include "comm/collectives.h"
#include "kernels/table.h"

namespace lockstep::comm_test {

using std::chrono::milliseconds;

inline constexpr milliseconds kPatient(20000);  // longer than any test that does not want to time out
inline constexpr milliseconds kShort(200);

// Runs `rank(r)` for each rank on a thread of its own, to the end.
template <typename Rank>
void on_threads(int32_t ranks, Rank rank) {
  std::vector<std::jthread> threads;
  for (int32_t r = 0; r < ranks; ++r) threads.emplace_back([&rank, r] { rank(r); });
}

using Bytes = std::vector<std::byte>;

inline Bytes bytes_of(uint64_t seed, int32_t rank, size_t count) {
  std::mt19937_64 random(seed * 1000 + static_cast<uint64_t>(rank));
  Bytes bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

// Numbers whose sum depends on the order in which they are added.
inline std::vector<float> floats_of(uint64_t seed, int32_t rank, size_t count) {
  std::mt19937_64 random(seed * 1000 + static_cast<uint64_t>(rank));
  std::uniform_real_distribution<float> small(-1, 1);
  std::vector<float> values(count);
  for (float& value : values) value = std::ldexp(small(random), static_cast<int>(random() % 24));
  return values;
}

inline Bytes part(const Bytes& bytes, size_t begin, size_t count) {
  const auto at = bytes.begin() + static_cast<std::ptrdiff_t>(begin);
  return {at, at + static_cast<std::ptrdiff_t>(count)};
}

// Sizes from nothing to more than any fabric keeps for itself, many of them odd.
inline size_t random_size(std::mt19937_64& random) {
  const uint64_t scale = random() % 18;
  return static_cast<size_t>(random() % (uint64_t{2} << scale));
}

inline void check_all_gather(Communicator& group, uint64_t seed, size_t count) {
  Bytes expected;
  for (int32_t r = 0; r < group.size(); ++r) {
    const Bytes theirs = bytes_of(seed, r, count);
    expected.insert(expected.end(), theirs.begin(), theirs.end());
  }
  const Bytes mine = bytes_of(seed, group.rank(), count);
  Bytes apart(expected.size()), in_place(expected.size());
  const std::span<std::byte> own =
      std::span(in_place).subspan(count * static_cast<size_t>(group.rank()), count);
  std::copy(mine.begin(), mine.end(), own.begin());

  const Status first = group.all_gather(mine, apart, DType::kU8);
  const Status second = group.all_gather(own, in_place, DType::kU8);

  ASSERT_TRUE(first.ok()) << first.message();
  ASSERT_TRUE(second.ok()) << second.message();
  EXPECT_EQ(apart, expected);
  EXPECT_EQ(in_place, expected);
}

inline void check_all_to_all(Communicator& group, uint64_t seed, size_t block) {
  const size_t all = block * static_cast<size_t>(group.size());
  Bytes expected, received(all);
  for (int32_t r = 0; r < group.size(); ++r) {
    const Bytes theirs = part(bytes_of(seed, r, all), block * static_cast<size_t>(group.rank()), block);
    expected.insert(expected.end(), theirs.begin(), theirs.end());
  }
  const Bytes mine = bytes_of(seed, group.rank(), all);

  const Status status = group.all_to_all(mine, received, static_cast<int64_t>(block), DType::kU8);

  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(received, expected);
}

inline void check_broadcast(Communicator& group, uint64_t seed, size_t count) {
  const auto root = static_cast<int32_t>(seed % static_cast<uint64_t>(group.size()));
  Bytes bytes = bytes_of(seed, group.rank(), count);

  const Status status = group.broadcast(bytes, root, DType::kU8);

  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(bytes, bytes_of(seed, root, count));
}

// Random collectives, one after the other without a pause.
inline void check_primitives(Communicator& group, uint64_t seed, int times) {
  SCOPED_TRACE(concat("seed ", seed, ", rank ", group.rank(), " of ", group.size()));
  std::mt19937_64 random(seed);
  for (int i = 0; i < times && !::testing::Test::HasFatalFailure(); ++i) {
    const uint64_t what = random() % 3, numbers = random();
    const size_t size = random_size(random);
    if (what == 0) check_all_gather(group, numbers % 100000, size);
    if (what == 1) check_all_to_all(group, numbers % 100000, size / static_cast<size_t>(group.size()));
    if (what == 2) check_broadcast(group, numbers % 100000, size);
  }
}

struct Bench {
  Stream stream{1};
  Launcher launcher() { return {kernel_table(Isa::kReference), stream}; }
};

// What all ranks hold, rank by rank, added up in order of ranks.
inline std::vector<float> sum_of_ranks(uint64_t seed, int32_t ranks, size_t count) {
  std::vector<float> sum = floats_of(seed, 0, count);
  for (int32_t r = 1; r < ranks; ++r) {
    const std::vector<float> theirs = floats_of(seed, r, count);
    for (size_t i = 0; i < count; ++i) sum[i] += theirs[i];
  }
  return sum;
}

inline void check_all_reduce(Communicator& group, uint64_t seed, int64_t rows, int64_t width) {
  Bench bench;
  const auto count = static_cast<size_t>(rows * width);
  std::vector<float> x = floats_of(seed, group.rank(), count);
  std::vector<uint8_t> scratch(static_cast<size_t>(all_reduce_scratch_bytes(rows, width, group.size())));

  const Status status = all_reduce(bench.launcher(),
                                   {.x = view(x, {rows, width}),
                                    .scratch = view(scratch, {static_cast<int64_t>(scratch.size())}),
                                    .group = &group},
                                   "test");

  ASSERT_TRUE(status.ok()) << status.message();
  ASSERT_TRUE(group.status().ok()) << group.status().message();
  EXPECT_EQ(x, sum_of_ranks(seed, group.size(), count)) << rows << " x " << width;
}

inline void check_rows_and_back(Communicator& group, uint64_t seed, int64_t rows, int64_t width) {
  Bench bench;
  const auto count = static_cast<size_t>(rows * width), ranks = static_cast<size_t>(group.size());
  std::vector<float> x = floats_of(seed, group.rank(), count), all(count * ranks), out(count);
  std::vector<uint8_t> scratch(static_cast<size_t>(scatter_sum_scratch_bytes(rows, width, group.size())));
  const TensorView gathered = view(all, {rows * group.size(), width});

  const Status there = gather_rows_of_ranks(
      bench.launcher(), {.x = view(x, {rows, width}), .out = gathered, .group = &group}, "test");

  ASSERT_TRUE(there.ok()) << there.message();
  for (size_t r = 0; r < ranks; ++r) {
    const std::vector<float> theirs = floats_of(seed, static_cast<int32_t>(r), count);
    ASSERT_TRUE(
        std::equal(theirs.begin(), theirs.end(), all.begin() + static_cast<std::ptrdiff_t>(r * count)));
  }
  std::ranges::copy(floats_of(seed + 1, group.rank(), count * ranks), all.begin());

  const Status back = scatter_sum(bench.launcher(),
                                  {.x = gathered,
                                   .out = view(out, {rows, width}),
                                   .scratch = view(scratch, {static_cast<int64_t>(scratch.size())}),
                                   .group = &group},
                                  "test");

  ASSERT_TRUE(back.ok()) << back.message();
  const std::vector<float> sum = sum_of_ranks(seed + 1, group.size(), count * ranks);
  const auto mine = sum.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(group.rank()) * count);
  EXPECT_EQ(out, std::vector<float>(mine, mine + static_cast<std::ptrdiff_t>(count)));
}

inline void check_columns(Communicator& group, uint64_t seed, int64_t rows, int64_t vocabulary) {
  Bench bench;
  const int64_t columns = (vocabulary + group.size() - 1) / group.size();
  std::vector<float> x = floats_of(seed, group.rank(), static_cast<size_t>(rows * columns));
  std::vector<float> out(static_cast<size_t>(rows * vocabulary));
  std::vector<uint8_t> scratch(
      static_cast<size_t>(gather_columns_scratch_bytes(rows, columns, group.size())));

  const Status status = gather_columns(bench.launcher(),
                                       {.x = view(x, {rows, columns}),
                                        .out = view(out, {rows, vocabulary}),
                                        .scratch = view(scratch, {static_cast<int64_t>(scratch.size())}),
                                        .group = &group},
                                       "test");

  ASSERT_TRUE(status.ok()) << status.message();
  std::vector<float> expected(out.size());
  for (int64_t v = 0; v < vocabulary; ++v) {
    const std::vector<float> theirs =
        floats_of(seed, static_cast<int32_t>(v / columns), static_cast<size_t>(rows * columns));
    for (int64_t r = 0; r < rows; ++r)
      expected[static_cast<size_t>(r * vocabulary + v)] =
          theirs[static_cast<size_t>(r * columns + v % columns)];
  }
  EXPECT_EQ(out, expected) << rows << " x " << vocabulary;
}

inline void check_collectives(Communicator& group, uint64_t seed) {
  SCOPED_TRACE(concat("seed ", seed, ", rank ", group.rank(), " of ", group.size()));
  std::mt19937_64 random(seed);
  const auto some = [&](int64_t most) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(most));
  };
  check_all_reduce(group, seed, some(5), 1 + some(40));
  check_all_reduce(group, seed + 1, 1, kOneExchange);
  check_all_reduce(group, seed + 2, 1, kOneExchange + 1);
  check_all_reduce(group, seed + 3, 3 + some(20), 1000 + some(3000));
  check_rows_and_back(group, seed + 4, some(9), 1 + some(300));
  check_columns(group, seed + 5, 1 + some(4), group.size() * 7 + some(group.size()) - group.size() + 1);
}

}  // namespace lockstep::comm_test
