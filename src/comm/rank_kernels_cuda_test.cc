// The arithmetic beside exchanges on a CUDA device: bit for bit the host's.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "comm/rank_kernels.h"
#include "device/arena.h"
#include "device/registry.h"

namespace lockstep {
namespace {

constexpr uint64_t kSeed = 20261124;

constexpr OpSpec kSpec{.name = "test", .args = {}, .args_bytes = 0};

// A kernel and its Args as a launch carries them.
template <typename Args>
struct Wrapped {
  Kernel<Args> kernel;
  Args args;
};
template <typename Args>
void call(const Wrapped<Args>& wrapped, Worker worker) {
  wrapped.kernel(wrapped.args, worker);
}

class RankKernelsOnCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    Result<DevicePtr> opened = open_device("cuda");
    if (!opened.ok()) GTEST_SKIP() << opened.status().message();
    device_ = *opened;
    stream_ = std::make_unique<Stream>(device_, std::move(device_->make_queue()).value());
    arena_.emplace(std::move(Arena::create("test", int64_t{64} << 20, device_)).value());
  }

  // On the device, what `values` are.
  template <typename T>
  T* put(const std::vector<T>& values) {
    const auto bytes = static_cast<int64_t>(values.size() * sizeof(T));
    const TensorView there = std::move(arena_->allocate("test", DType::kU8, {bytes})).value();
    EXPECT_TRUE(arena_->fill(there, values.data()).ok());
    return static_cast<T*>(there.data);
  }
  template <typename Args>
  void run(Kernel<Args> kernel, const Args& args) {
    launch(*stream_, kSpec, "test", call<Args>, Wrapped<Args>{kernel, args});
  }
  std::vector<float> floats(size_t count) {
    std::vector<float> values(count);
    for (float& value : values) value = std::normal_distribution<float>()(random_);
    return values;
  }
  // What lies at `there` has the bits of `expected`.
  void expect_bits(const float* there, const std::vector<float>& expected) {
    std::vector<float> got(expected.size());
    const auto count = static_cast<int64_t>(got.size());
    ASSERT_TRUE(stream_->read(dense_view(const_cast<float*>(there), DType::kF32, {count}), got.data()).ok());
    EXPECT_EQ(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)), 0);
  }

  DevicePtr device_;
  std::unique_ptr<Stream> stream_;
  std::optional<Arena> arena_;
  std::mt19937_64 random_{kSeed};
};

TEST_F(RankKernelsOnCuda, AddPartsInOrderOfRanks) {
  for (const auto& [count, ranks] :
       std::vector<std::pair<size_t, size_t>>{{1, 2}, {1023, 3}, {4096, 2}, {70000, 8}}) {
    const std::vector<float> parts = floats(count * ranks), poison(count, NAN);
    std::vector<float> sum(count);
    AddPartsArgs args{.parts = parts.data(),
                      .sum = sum.data(),
                      .count = static_cast<int64_t>(count),
                      .ranks = static_cast<int64_t>(ranks)};
    host_rank_kernels().add_parts(args, {});
    args.parts = put(parts);
    args.sum = put(poison);
    run(cuda_rank_kernels().add_parts, args);
    expect_bits(args.sum, sum);
  }
}

TEST_F(RankKernelsOnCuda, CopyAndFillUpWithZeros) {
  const std::vector<float> from = floats(1000);
  std::vector<float> to(1003, NAN);
  CopyPaddedArgs args{.from = put(from), .to = put(to), .count = 1000, .room = 1003};
  run(cuda_rank_kernels().copy_padded, args);
  std::copy(from.begin(), from.end(), to.begin());
  std::fill(to.begin() + 1000, to.end(), 0.0f);
  expect_bits(args.to, to);
}

TEST_F(RankKernelsOnCuda, JoinColumnsAndLeaveOutThoseBeyondTheWidth) {
  const std::vector<float> parts = floats(3 * 5 * 300);
  std::vector<float> out(5 * 851, NAN);
  JoinColumnsArgs args{.parts = parts.data(), .out = out.data(), .rows = 5, .columns = 300, .width = 851};
  host_rank_kernels().join_columns(args, {});
  args.parts = put(parts);
  args.out = put(std::vector<float>(out.size(), NAN));
  run(cuda_rank_kernels().join_columns, args);
  expect_bits(args.out, out);
}

TEST_F(RankKernelsOnCuda, PackLiveRowsOfKeysAndValues) {
  constexpr int64_t kRows = 7, kHeads = 3, kDim = 20, kWidth = 150;
  std::vector<float> all = floats(kRows * kWidth);
  std::fill(all.begin() + 5 * kWidth, all.end(), NAN);
  const auto live = LiveRows(5);
  std::vector<float> to(kRows * 2 * kHeads * kDim, NAN);
  const auto args_at = [&](float* memory, const LiveRows* rows, float* out) {
    const TensorView view = dense_view(memory, DType::kF32, {kRows, kWidth});
    return PackKvArgs{.k = view.heads(1, kHeads, kDim, kDim + 2),
                      .v = view.heads(80, kHeads, kDim, kDim),
                      .to = out,
                      .num_rows = rows};
  };
  host_rank_kernels().pack_kv(args_at(all.data(), &live, to.data()), {});
  float* out = put(std::vector<float>(to.size(), NAN));
  run(cuda_rank_kernels().pack_kv, args_at(put(all), put(std::vector<LiveRows>{live}), out));
  expect_bits(out, to);
}

TEST_F(RankKernelsOnCuda, BringRowsOfThisRankAndPlaceThoseOfAll) {
  constexpr int64_t kCount = 6, kWidth = 300, kRanks = 2;
  const std::vector<float> x = floats(9 * kWidth), all = floats(kRanks * kCount * kWidth);
  const std::vector<int32_t> rows{8, 0, 3, 9, 2, 1}, places{0, 7, 8, 9, 14, 5};
  const auto live = LiveRows(5);
  const auto* there_rows = put(rows);
  const auto* there_places = put(places);
  const auto* there_live = put(std::vector<LiveRows>{live});
  std::vector<float> brought(kCount * kWidth), placed(kCount * kWidth);
  BringRowsArgs bring{.x = dense_view(const_cast<float*>(x.data()), DType::kF32, {9, kWidth}),
                      .rows = rows.data(),
                      .places = places.data(),
                      .to = brought.data(),
                      .count = kCount,
                      .rank = 1,
                      .live = &live};
  PlaceRowsArgs place{.all = all.data(),
                      .places = places.data(),
                      .out = placed.data(),
                      .count = kCount,
                      .width = kWidth,
                      .ranks = kRanks,
                      .live = &live};
  host_rank_kernels().bring_rows(bring, {});
  host_rank_kernels().place_rows(place, {});
  bring = {.x = dense_view(put(x), DType::kF32, {9, kWidth}),
           .rows = there_rows,
           .places = there_places,
           .to = put(std::vector<float>(brought.size(), -1)),
           .count = kCount,
           .rank = 1,
           .live = there_live};
  place = {.all = put(all),
           .places = there_places,
           .out = put(std::vector<float>(placed.size(), -1)),
           .count = kCount,
           .width = kWidth,
           .ranks = kRanks,
           .live = there_live};
  run(cuda_rank_kernels().bring_rows, bring);
  run(cuda_rank_kernels().place_rows, place);
  expect_bits(bring.to, brought);
  expect_bits(place.out, placed);
}

}  // namespace
}  // namespace lockstep
