#include "device/stream.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/status.h"

namespace lockstep {
namespace {

struct AddArgs {
  int64_t* sums = nullptr;  // [threads]
  int64_t value = 0;
};

constexpr OpArg kAddArgs[] = {{LS_ARG(AddArgs, sums), .access = Access::kReadWrite},
                              {LS_ARG(AddArgs, value)}};
constexpr OpSpec kAdd{.name = "add", .args = kAddArgs, .args_bytes = sizeof(AddArgs)};

void add(const AddArgs& args, Worker worker) { args.sums[worker.index] += args.value; }

// What an observer saw, as a person would write it down.
struct Diary {
  std::vector<std::string> lines;
  AddArgs* callers_args = nullptr;
  int64_t* sums = nullptr;

  void write(const char* when, const LaunchRecord& launch) {
    lines.push_back(concat(when, " ", launch.site.op(), " ", launch.site.stage, " of layer ",
                           launch.site.layer, ", sum ", sums[0]));
  }
  static void before(void* self, const LaunchRecord& launch) {
    auto& diary = *static_cast<Diary*>(self);
    diary.write("before", launch);
    if (diary.callers_args != nullptr) diary.callers_args->value = 1000;
  }
  static void after(void* self, const LaunchRecord& launch) {
    static_cast<Diary*>(self)->write("after", launch);
  }
};

TEST(Stream, CopiesTheBytesOfTheArgsBeforeAnythingRuns) {
  for (const int threads : {1, 3}) {
    Stream stream(threads);
    std::vector<int64_t> sums(3);
    AddArgs args{.sums = sums.data(), .value = 5};
    Diary diary{.lines = {}, .callers_args = &args, .sums = sums.data()};
    stream.set_observer({.before = Diary::before, .self = &diary});

    launch(stream, kAdd, "test", add, args);

    EXPECT_EQ(args.value, 1000);
    for (int i = 0; i < threads; ++i) EXPECT_EQ(sums[static_cast<size_t>(i)], 5) << "thread " << i;
  }
}

TEST(Stream, TellsItsObserverOpStageAndLayerBeforeAndAfter) {
  Stream stream(2);
  std::vector<int64_t> sums(2);
  Diary diary{.lines = {}, .callers_args = nullptr, .sums = sums.data()};
  stream.set_observer({.before = Diary::before, .after = Diary::after, .self = &diary});

  launch(stream, kAdd, "embedding", add, AddArgs{sums.data(), 1});
  stream.set_layer(7);
  launch(stream, kAdd, "input_norm", add, AddArgs{sums.data(), 2});

  EXPECT_EQ(diary.lines,
            (std::vector<std::string>{
                "before add embedding of layer -1, sum 0", "after add embedding of layer -1, sum 1",
                "before add input_norm of layer 7, sum 1", "after add input_norm of layer 7, sum 3"}));
}

TEST(Stream, ShowsItsObserverTheArgsThatTheKernelReads) {
  Stream stream(1);
  int64_t sum = 0;
  struct Seen {
    AddArgs args;
    int64_t bytes = 0;
  } seen;
  const auto before = [](void* self, const LaunchRecord& launch) {
    const auto* args = static_cast<const AddArgs*>(launch.args);
    *static_cast<Seen*>(self) = {*args, launch.args_bytes};
  };
  stream.set_observer({.before = before, .self = &seen});

  launch(stream, kAdd, "test", add, AddArgs{&sum, 11});

  EXPECT_EQ(seen.args.value, 11);
  EXPECT_EQ(seen.args.sums, &sum);
  EXPECT_EQ(seen.bytes, static_cast<int64_t>(sizeof(AddArgs)));
}

TEST(Stream, LetsItsObserverRunALaunchOnceMoreUnobservedAndUncounted) {
  for (const int threads : {1, 2}) {
    Stream stream(threads);
    std::vector<int64_t> sums(2);
    int calls = 0;
    const auto after = [](void* self, const LaunchRecord& launch) {
      ++*static_cast<int*>(self);
      launch.rerun(launch.again);
      launch.rerun(launch.again);
    };
    stream.set_observer({.after = after, .self = &calls});

    launch(stream, kAdd, "test", add, AddArgs{sums.data(), 7});

    for (int i = 0; i < threads; ++i) EXPECT_EQ(sums[static_cast<size_t>(i)], 21) << "thread " << i;
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(stream.launches(), 1);
  }
}

TEST(Stream, RunsWithoutAnObserverAndCountsItsLaunches) {
  Stream stream(2);
  std::vector<int64_t> sums(2);
  for (int i = 0; i < 100; ++i) launch(stream, kAdd, "test", add, AddArgs{sums.data(), 1});

  EXPECT_EQ(stream.launches(), 100);
  EXPECT_EQ(sums, (std::vector<int64_t>{100, 100}));
  EXPECT_EQ(stream.threads(), 2);
}

TEST(Stream, CountsItsLaunchesForAWatchInAnotherThread) {
  Stream stream(1);
  std::vector<int64_t> sums(1);
  std::atomic<uint64_t> pulse = 5;  // what else was counted there
  stream.set_pulse(&pulse);
  for (int i = 0; i < 3; ++i) launch(stream, kAdd, "test", add, AddArgs{sums.data(), 1});
  EXPECT_EQ(pulse, 8u);

  stream.set_pulse(nullptr);
  launch(stream, kAdd, "test", add, AddArgs{sums.data(), 1});
  EXPECT_EQ(pulse, 8u);
}

// The most that a launch may carry, less the kernel's own address.
struct LargeArgs {
  unsigned char bytes[Stream::kMaxArgsBytes - 16];
  int64_t* sum;
};

constexpr OpSpec kLarge{.name = "large", .args = {}, .args_bytes = sizeof(LargeArgs)};

TEST(Stream, CarriesArgsUpToItsLimit) {
  Stream stream(1);
  int64_t sum = 0;
  LargeArgs args{};
  for (unsigned char& byte : args.bytes) byte = 1;
  args.sum = &sum;

  launch(
      stream, kLarge, "test",
      +[](const LargeArgs& a, Worker) {
        for (const unsigned char byte : a.bytes) *a.sum += byte;
      },
      args);

  EXPECT_EQ(sum, Stream::kMaxArgsBytes - 16);
}

}  // namespace
}  // namespace lockstep
