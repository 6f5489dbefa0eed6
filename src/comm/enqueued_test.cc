// Collectives that devices do: what members say about them to each other, without any device.
#include <gtest/gtest.h>

#include <array>
#include <thread>

#include "base/fault.h"
#include "comm/thread_fabric.h"

namespace lockstep {
namespace {

constexpr std::chrono::seconds kPatient(20);
// Queues are known by their addresses alone: one that runs, one that makes a recording.
constexpr char kQueue = 0, kRecording = 0;
enum class Pass { kRun, kRecord, kReplay };
Worker worker_of(Pass pass) {
  const char* queue = pass == Pass::kRecord ? &kRecording : &kQueue;
  return {0, pass == Pass::kReplay ? 0 : 1, const_cast<char*>(queue)};
}

// Moves nothing, and counts.
class CountingLink final : public DeviceLink {
 public:
  CountingLink(int& runs, int& closes) : runs_(runs), closes_(closes) {}
  Status run(const Exchange&, void*) override {
    ++runs_;
    return {};
  }
  bool records(void* queue) const override { return queue == &kRecording; }
  void close() override { ++closes_; }

 private:
  int& runs_;
  int& closes_;
};

// Two members, each with a ledger and a link.
struct Pair {
  std::array<Ledger, 2> ledgers;
  std::array<int, 2> runs{}, closes{};
  std::vector<std::unique_ptr<Communicator>> members = make_thread_group("tp", 2, kPatient, ledgers);

  Pair() {
    for (size_t rank = 0; rank < 2; ++rank)
      members[rank]->connect(std::make_unique<CountingLink>(runs[rank], closes[rank]));
  }
  Status enqueue(size_t rank, size_t floats, std::string_view stage, Pass pass = Pass::kRun) {
    std::vector<float> send(floats), receive(2 * floats);
    return members[rank]->enqueue({.at = {.stage = stage, .layer = 3}}, std::as_bytes(std::span(send)),
                                  std::as_writable_bytes(std::span(receive)), worker_of(pass));
  }
  std::array<Status, 2> settle() {
    std::array<Status, 2> said;
    std::jthread other([&] { said[1] = members[1]->settle(); });
    said[0] = members[0]->settle();
    other.join();
    return said;
  }
};

TEST(Enqueued, IsSettledWhereAllHaveEnqueuedTheSame) {
  Pair pair;
  for (size_t rank = 0; rank < 2; ++rank) {
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(pair.enqueue(rank, 8, "sum").ok());
  }
  for (const Status& said : pair.settle()) EXPECT_EQ(said.message(), "");
  EXPECT_EQ(pair.runs, (std::array<int, 2>{3, 3}));
  EXPECT_TRUE(pair.members[0]->settle().ok()) << "nothing is open, so nobody is waited for";
}

TEST(Enqueued, StandsInTheLedgerUntilTheDeviceHasDoneIt) {
  Pair pair;
  for (size_t rank = 0; rank < 2; ++rank) {
    ASSERT_TRUE(pair.enqueue(rank, 8, "sum").ok());
    ASSERT_TRUE(pair.enqueue(rank, 16, "sum", Pass::kReplay).ok());
    ASSERT_TRUE(pair.enqueue(rank, 16, "sum", Pass::kRecord).ok());
  }
  for (const Status& said : pair.settle()) EXPECT_EQ(said.message(), "");
  EXPECT_EQ(pair.runs[0], 2) << "a replay has been handed over as a whole";
  const std::vector<CollectiveEntry> entries = pair.ledgers[0].last(8);
  ASSERT_EQ(entries.size(), 2u)
      << "a recording runs nothing, and the exchange of digests is no part of a step";
  EXPECT_EQ(entries[1].count, 16);
  EXPECT_EQ(entries[1].at.layer, 3);
  EXPECT_FALSE(entries[0].finished || entries[1].finished);
  pair.ledgers[0].leave_all();
  for (const CollectiveEntry& entry : pair.ledgers[0].last(8)) EXPECT_TRUE(entry.finished);
}

TEST(Enqueued, IsATableOfWhoSaidWhatWhereMembersDiffer) {
  Pair pair;
  ASSERT_TRUE(pair.enqueue(0, 8, "embedding_sum").ok());
  ASSERT_TRUE(pair.enqueue(1, 8, "embedding_sum").ok());
  ASSERT_TRUE(pair.enqueue(0, 8, "o_proj_sum").ok());
  ASSERT_TRUE(pair.enqueue(1, 6, "o_proj_sum").ok());
  ASSERT_TRUE(pair.enqueue(0, 8, "down_sum").ok());
  for (const Status& said : pair.settle()) {
    EXPECT_EQ(said.code(), Code::kInternal);
    EXPECT_EQ(
        said.message(),
        "G1 tp: collective 2 is all_gather of 6 f32 at layer 3 o_proj_sum on rank 1; expected all_gather "
        "of 8 f32 at layer 3 o_proj_sum, as on rank 0\n"
        "rank  op          root  dtype  count  collective  of\n"
        "   0  all_gather     -  f32        8           2  layer 3 o_proj_sum\n"
        "   1  all_gather     -  f32        6           2  layer 3 o_proj_sum  differs");
  }
  EXPECT_EQ(pair.closes, (std::array<int, 2>{1, 1})) << "what devices wait in is ended";
  EXPECT_FALSE(pair.enqueue(0, 8, "next").ok());
  EXPECT_EQ(pair.runs[0], 3);
}

TEST(Enqueued, NamesWhoHasNothingMore) {
  Pair pair;
  for (size_t rank = 0; rank < 2; ++rank) ASSERT_TRUE(pair.enqueue(rank, 8, "embedding_sum").ok());
  ASSERT_TRUE(pair.enqueue(0, 8, "o_proj_sum").ok());
  for (const Status& said : pair.settle()) {
    ASSERT_NE(said.fault(), nullptr) << said.message();
    EXPECT_EQ(said.fault()->rank, 1);
    EXPECT_EQ(said.fault()->found, "nothing more on rank 1");
  }
}

TEST(Enqueued, TellsEverybodyWhoHasRoomForOneRankAlone) {
  Pair pair;
  std::vector<float> send(8), one(8);
  ASSERT_TRUE(pair.enqueue(0, 8, "sum").ok());
  ASSERT_TRUE(pair.members[1]
                  ->enqueue({.at = {.stage = "sum", .layer = 3}}, std::as_bytes(std::span(send)),
                            std::as_writable_bytes(std::span(one)), worker_of(Pass::kRun))
                  .ok());
  for (const Status& said : pair.settle()) {
    ASSERT_NE(said.fault(), nullptr) << said.message();
    EXPECT_EQ(said.fault()->found, "all_gather of 8 f32 into 1 output at layer 3 sum on rank 1");
  }
  EXPECT_EQ(pair.runs, (std::array<int, 2>{1, 0}));
}

TEST(Enqueued, NeedsAGroupThatIsConnected) {
  auto members = make_thread_group("tp", 2, kPatient);
  std::vector<float> send(8), receive(16);
  const Status status = members[0]->enqueue(
      {}, std::as_bytes(std::span(send)), std::as_writable_bytes(std::span(receive)), worker_of(Pass::kRun));
  EXPECT_EQ(status.message(),
            "tp: all_gather of 32 bytes on a device; expected a group that is connected to one");
}

}  // namespace
}  // namespace lockstep
