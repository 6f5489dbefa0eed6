// A CUDA device behind streams, arenas, staging and graphs, with kernels that tell what they were given.
#include <gtest/gtest.h>

#include <cstring>

#include "base/fault.h"
#include "device/graph.h"
#include "device/registry.h"
#include "device/staging.h"
#include "kernels/common/test_support.h"

namespace lockstep {
namespace {

using namespace testing;  // NOLINT

constexpr int64_t kWidth = 1000;

// out += y, on the device, in memory of an arena.
class CudaStream : public ::testing::Test {
 protected:
  void SetUp() override {
    const Result<DevicePtr> opened = open_device("cuda");
    if (!opened.ok()) GTEST_SKIP() << opened.status().message();
    device_ = *opened;
    arena_.emplace(Arena::create("test", 1 << 20, device_).value());
    stream_ = std::make_unique<Stream>(device_, device_->make_queue().value());
    y_ = arena_->allocate("y", DType::kF32, {1, kWidth}).value();
    out_ = arena_->allocate("out", DType::kF32, {1, kWidth}).value();
    num_rows_ = arena_->allocate("num_rows", DType::kI32, {1}).value();
    const int32_t one = 1;
    ASSERT_EQ(arena_->fill(num_rows_, &one).message(), "");
    set(y_, 1.0f);
  }

  void set(const TensorView& target, float value) {
    const std::vector<float> values(kWidth, value);
    ASSERT_EQ(stream_->write(target, values.data()).message(), "");
  }
  std::vector<float> get(const TensorView& source) {
    std::vector<float> values(kWidth, kNan);
    EXPECT_EQ(stream_->read(source, values.data()).message(), "");
    return values;
  }
  void expect(const TensorView& source, float value) {
    EXPECT_EQ(get(source), std::vector<float>(kWidth, value));
  }
  GatedAddArgs args() const {
    return {.y = y_, .gate = {}, .out = out_, .num_rows = static_cast<const LiveRows*>(num_rows_.data)};
  }
  Status add() { return gated_add({kernel_table(Isa::kSm90), *stream_}, args(), "test"); }

  DevicePtr device_;
  std::optional<Arena> arena_;
  std::unique_ptr<Stream> stream_;
  TensorView y_, out_, num_rows_;
};

TEST_F(CudaStream, GivesMemoryAsZerosAndBringsItBack) {
  expect(out_, 0.0f);
  set(out_, 2.5f);
  expect(out_, 2.5f);
  EXPECT_NE(device_->description(), "");
  EXPECT_GT(device_->memory().available, int64_t{1} << 30);
}

TEST_F(CudaStream, DoesItsWorkInOrderAndSaysWhenItIsDone) {
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(add().ok());
  const Event event = stream_->record();
  stream_->wait(event);

  EXPECT_TRUE(stream_->done(event));
  EXPECT_EQ(stream_->launches(), 100);
  expect(out_, 100.0f);
}

TEST_F(CudaStream, KnowsAnEventAfterManyYoungerOnes) {
  const Event first = stream_->record();
  for (int i = 0; i < 300; ++i) {
    ASSERT_TRUE(add().ok());
    stream_->record();
  }
  stream_->synchronize();
  EXPECT_TRUE(stream_->done(first));
  expect(out_, 300.0f);
}

TEST_F(CudaStream, TakesArenasThatDoNotFitForAnError) {
  const Result<Arena> arena = Arena::create("huge", int64_t{1} << 50, device_);
  EXPECT_EQ(arena.status().code(), Code::kResourceExhausted);
  expect(out_, 0.0f);  // the device works on
}

TEST_F(CudaStream, ReplaysAGraphWithTheBytesOfItsCapture) {
  Graph graph;
  ASSERT_TRUE(stream_->begin_capture(graph).ok());
  ASSERT_TRUE(add().ok());
  ASSERT_TRUE(add().ok());
  stream_->end_capture();
  expect(out_, 0.0f);  // recorded, not run
  ASSERT_EQ(stream_->instantiate(graph).message(), "");
  expect(out_, 0.0f);

  for (int i = 0; i < 1000; ++i) ASSERT_EQ(stream_->replay(graph).message(), "");
  expect(out_, 2000.0f);
  set(y_, 0.5f);  // what lies behind an address is not frozen
  ASSERT_EQ(stream_->replay(graph).message(), "");
  expect(out_, 2001.0f);
  EXPECT_EQ(stream_->launches(), 2002);
}

TEST_F(CudaStream, ReplaysALaunchAtATimeWhileSomebodyWatches) {
  Graph graph;
  ASSERT_TRUE(stream_->begin_capture(graph).ok());
  ASSERT_TRUE(add().ok());
  stream_->end_capture();
  ASSERT_EQ(stream_->instantiate(graph).message(), "");
  int64_t seen = 0;
  stream_->set_observer(
      {.before = [](void* self, const LaunchRecord&) { ++*static_cast<int64_t*>(self); }, .self = &seen});
  ASSERT_EQ(stream_->replay(graph).message(), "");
  EXPECT_EQ(seen, 1);
  expect(out_, 1.0f);
}

TEST_F(CudaStream, RefusesToFreeWhatAGraphLeases) {
  Graph graph;
  ASSERT_TRUE(stream_->begin_capture(graph).ok());
  ASSERT_TRUE(add().ok());
  stream_->end_capture();
  MemoryMap map;
  map.add(*arena_);
  ASSERT_EQ(graph.lease(map).message(), "");
  EXPECT_FALSE(arena_->reset_to(0).ok());
}

TEST_F(CudaStream, CopiesFromPinnedStagingAndGivesEachSlotBack) {
  StagingRing ring(2, kWidth * static_cast<int64_t>(sizeof(float)), device_.get());
  for (int i = 1; i <= 50; ++i) {
    StagingLease lease = ring.lease(*stream_, kWidth * static_cast<int64_t>(sizeof(float))).value();
    const std::vector<float> values(kWidth, static_cast<float>(i));
    std::memcpy(lease.bytes().data(), values.data(), lease.bytes().size());
    ASSERT_EQ(stream_->copy(y_, std::move(lease)).message(), "");
    ASSERT_TRUE(add().ok());
  }
  expect(out_, 50 * 51 / 2);
  EXPECT_EQ(stream_->check_copies().message(), "");
  EXPECT_EQ(ring.in_flight(), 0);
}

TEST_F(CudaStream, NamesStagingThatWasRefilledTooEarly) {
  StagingRing ring(1, 64, device_.get());
  const TensorView target = arena_->allocate("target", DType::kU8, {64}).value();
  StagingLease lease = ring.lease(*stream_, 64).value();
  std::byte* bytes = lease.bytes().data();
  ASSERT_EQ(stream_->copy(target, std::move(lease)).message(), "");
  bytes[5] ^= std::byte{1};
  stream_->synchronize();
  const Status status = stream_->check_copies();
  ASSERT_NE(status.fault(), nullptr);
  EXPECT_EQ(status.fault()->check, "L5");
}

TEST_F(CudaStream, KeepsWhatTheDeviceRefuses) {
  GatedAddArgs bad = args();
  bad.out.shape.dims[0] = bad.y.shape.dims[0] = int64_t{3000000000};  // no grid is that large
  launch(*stream_, kGatedAddSpec, "test", kernel_table(Isa::kSm90).gated_add, bad);
  stream_->synchronize();
  const Status status = stream_->check_copies();
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.message().rfind("cuda: the launch of a kernel: ", 0), 0u) << status.message();
}

}  // namespace
}  // namespace lockstep
