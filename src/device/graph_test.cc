#include "device/graph.h"

#include <gtest/gtest.h>

#include "base/fault.h"
#include "device/staging.h"

namespace lockstep {
namespace {

struct ScaleArgs {
  TensorView in;
  TensorView out;
  int64_t factor = 0;
};
constexpr OpArg kScaleArgs[] = {{LS_ARG(ScaleArgs, in)},
                                {LS_ARG(ScaleArgs, out), .access = Access::kWrite},
                                {LS_ARG(ScaleArgs, factor), .rows = RowsTouched::kNone}};
constexpr OpSpec kScale{.name = "scale", .args = kScaleArgs, .args_bytes = sizeof(ScaleArgs)};

void scale(const ScaleArgs& args, Worker worker) {
  const Worker::Range share = worker.share(args.in.elements());
  for (int64_t i = share.begin; i < share.end; ++i)
    args.out.as<int64_t>()[i] = args.in.as<int64_t>()[i] * args.factor;
}

class GraphTest : public ::testing::Test {
 protected:
  GraphTest() { map_.add(arena_); }
  TensorView numbers(std::string_view what, std::vector<int64_t> values) {
    const TensorView view = arena_.allocate(what, DType::kI64, {static_cast<int64_t>(values.size())}).value();
    std::copy(values.begin(), values.end(), view.as<int64_t>());
    return view;
  }
  static std::vector<int64_t> read(const TensorView& view) {
    return {view.as<int64_t>(), view.as<int64_t>() + view.elements()};
  }
  Graph record(Stream& stream, const TensorView& in, const TensorView& out, int64_t factor) {
    Graph graph;
    EXPECT_TRUE(stream.begin_capture(graph).ok());
    launch(stream, kScale, "test", scale, ScaleArgs{in, out, factor});
    stream.end_capture();
    return graph;
  }

  Arena arena_ = Arena::create("test", 1 << 20).value();
  MemoryMap map_;
};

TEST_F(GraphTest, RecordsWithoutRunningAndReplaysWhatLiesBehindTheAddressesThen) {
  for (const Pace pace : {Pace::kAtOnce, Pace::kLate}) {
    Stream stream(2, pace);
    const TensorView in = numbers("in", {1, 2, 3}), out = numbers("out", {-1, -1, -1});
    const Graph graph = record(stream, in, out, 10);
    EXPECT_EQ(read(out), (std::vector<int64_t>{-1, -1, -1}));

    in.as<int64_t>()[1] = 7;
    ASSERT_TRUE(stream.replay(graph).ok());
    stream.synchronize();
    EXPECT_EQ(read(out), (std::vector<int64_t>{10, 70, 30}));
  }
}

TEST_F(GraphTest, ALateStreamDoesNothingBeforeSomebodyWaits) {
  Stream stream(1, Pace::kLate);
  const TensorView in = numbers("in", {1}), middle = numbers("middle", {0}), out = numbers("out", {0});
  launch(stream, kScale, "test", scale, ScaleArgs{in, middle, 2});
  const Event half = stream.record();
  launch(stream, kScale, "test", scale, ScaleArgs{middle, out, 5});
  EXPECT_EQ(read(middle), std::vector<int64_t>{0});
  EXPECT_FALSE(stream.done(half));

  stream.wait(half);
  EXPECT_EQ(read(middle), std::vector<int64_t>{2});
  EXPECT_EQ(read(out), std::vector<int64_t>{0});
  stream.synchronize();
  EXPECT_EQ(read(out), std::vector<int64_t>{10});
}

TEST_F(GraphTest, TellsWhichArgumentTwoRecordingsDifferIn) {
  Stream stream(1);
  const TensorView in = numbers("in", {1, 2}), out = numbers("out", {0, 0});
  const Graph captured = record(stream, in, out, 95);
  EXPECT_EQ(Graph::compare(captured, record(stream, in, out, 95)).launch, -1);

  const LaunchDifference value = Graph::compare(captured, record(stream, in, out, 897));
  EXPECT_EQ(value.launch, 0);
  EXPECT_EQ(value.argument, "factor");
  EXPECT_EQ(Graph::compare(captured, record(stream, in.rows(0, 1), out, 95)).argument, "in");
}

TEST_F(GraphTest, RefusesToFreeMemoryThatAGraphHolds) {
  Stream stream(1);
  const int64_t mark = arena_.mark();
  const TensorView in = numbers("in", {1}), out = numbers("workspace", {0});
  {
    Graph graph = record(stream, in, out, 2);
    ASSERT_TRUE(graph.lease(map_).ok());
    const Status refused = arena_.reset_to(mark);
    ASSERT_NE(refused.fault(), nullptr);
    EXPECT_EQ(refused.message(),
              "R1 arena test: workspace is to be freed (64 bytes at 64, generation 2) and in 1 graphs; "
              "expected no free "
              "while graphs hold its address");
  }
  EXPECT_TRUE(arena_.reset_to(mark).ok());
}

TEST_F(GraphTest, SeesThatMemoryWasReplaced) {
  Stream stream(1);
  const TensorView in = numbers("in", {1}), out = numbers("out", {0});
  Graph graph = record(stream, in, out, 2);
  ASSERT_TRUE(graph.lease(map_).ok());
  EXPECT_TRUE(graph.check_leases().ok());
  ASSERT_TRUE(arena_.replace(out, {4}).ok());

  EXPECT_EQ(graph.check_leases().message(),
            "R1 scale (test, layer -1): out is at generation 4: the memory was replaced; expected test/out "
            "generation 2, "
            "as captured");
}

TEST_F(GraphTest, RefusesAnAddressThatNoArenaOwns) {
  Stream stream(1);
  int64_t outside = 0;
  Graph graph = record(stream, numbers("in", {1}), dense_view(&outside, DType::kI64, {1}), 2);
  EXPECT_EQ(graph.lease(map_).message(),
            "R1 scale (test, layer -1): out is at an address in no arena; expected memory of an arena, which "
            "a graph can "
            "lease");
}

TEST_F(GraphTest, RefusesCopiesFromTheHostDuringACapture) {
  Stream stream(1);
  StagingRing ring(1, 64);
  const TensorView target = numbers("in", {1});
  Graph graph;
  ASSERT_TRUE(stream.begin_capture(graph).ok());
  Result<StagingLease> lease = ring.lease(stream, 8);
  ASSERT_TRUE(lease.ok());
  const Status refused = stream.copy(target, std::move(*lease));
  stream.end_capture();
  ASSERT_NE(refused.fault(), nullptr);
  EXPECT_EQ(refused.fault()->check, "L1");
}

// The one slot is in flight until the stream has copied it: whoever asks for it again waits for that.
TEST(Staging, IsNotRefilledBeforeItsCopyHasReadIt) {
  Arena arena = Arena::create("test", 1 << 12).value();
  const TensorView target = arena.allocate("two", DType::kI64, {2}).value();
  Stream stream(1, Pace::kLate);
  StagingRing ring(1, 16);
  for (int64_t i = 0; i < 2; ++i) {
    Result<StagingLease> lease = ring.lease(stream, 8);
    ASSERT_TRUE(lease.ok());
    std::memcpy(lease->bytes().data(), &i, 8);
    ASSERT_TRUE(stream.copy(target.rows(i, 1), std::move(*lease)).ok());
    EXPECT_EQ(ring.in_flight(), 1);
  }
  stream.synchronize();
  EXPECT_EQ(target.as<int64_t>()[0], 0);
  EXPECT_EQ(target.as<int64_t>()[1], 1);
  EXPECT_EQ(ring.in_flight(), 0);
}

TEST(Staging, NamesACopyWhoseMemoryWasRefilledBeforeItRan) {
  Arena arena = Arena::create("test", 1 << 12).value();
  const TensorView target = arena.allocate("one", DType::kI64, {1}).value();
  Stream stream(1, Pace::kLate);
  StagingRing ring(1, 16);
  Result<StagingLease> lease = ring.lease(stream, 8);
  ASSERT_TRUE(lease.ok());
  const std::span<std::byte> kept = lease->bytes();
  ASSERT_TRUE(stream.copy(target, std::move(*lease)).ok());
  EXPECT_TRUE(stream.check_copies().ok());
  kept[0] = std::byte{7};
  stream.synchronize();

  EXPECT_EQ(stream.check_copies().message(),
            "L5 stream: staging is refilled (slot 0); expected nobody to write to its 8 bytes until its copy "
            "has read it");
  EXPECT_TRUE(stream.check_copies().ok());  // said once
}

TEST(Staging, SaysWhenEverySlotIsHeld) {
  Stream stream(1);
  StagingRing ring(1, 16);
  const Result<StagingLease> held = ring.lease(stream, 8);
  EXPECT_EQ(
      ring.lease(stream, 8).status().message(),
      "staging: all 1 slots are held and no copy is under way; expected each lease to be given to a copy");
  EXPECT_EQ(ring.lease(stream, 17).status().message(),
            "staging: 17 bytes asked; expected at most 16, the size of a slot");
}

}  // namespace
}  // namespace lockstep
