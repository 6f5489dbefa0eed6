#include "comm/fabric_mpi.h"

#include <mpi.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstring>
#include <numeric>
#include <thread>

#include "comm/notice.h"
#include "comm/patience.h"

namespace lockstep {
namespace internal {

// This process among those that the launcher has started, from MPI_Init to MPI_Finalize.
class MpiJob {
 public:
  static Result<std::shared_ptr<MpiJob>> join();
  MpiJob(MPI_Comm all, int32_t rank, int32_t size) : all_(all), rank_(rank), size_(size) {}
  MpiJob(const MpiJob&) = delete;
  MpiJob& operator=(const MpiJob&) = delete;
  ~MpiJob();

  MPI_Comm all() const { return all_; }
  int32_t rank() const { return rank_; }
  int32_t size() const { return size_; }
  void set_failed() { failed_ = true; }

 private:
  // MPI_Finalize waits for all ranks, for ever. So it is called when all have said that they come to it, and
  // left out otherwise: the launcher clears up after a process that ends without it. A healthy rank waits
  // longer, since another may have much to write down at its end.
  static constexpr std::chrono::seconds kFarewell{60}, kFarewellAfterFailure{2};

  MPI_Comm all_;
  int32_t rank_, size_;
  std::atomic<bool> failed_{false};
};

}  // namespace internal

namespace {

Status check(int code, std::string_view call) {
  if (code == MPI_SUCCESS) return {};
  char text[MPI_MAX_ERROR_STRING] = "";
  int size = 0;
  MPI_Error_string(code, text, &size);
  return error(Code::kDevice, "mpi: ", call, " failed with \"", text, "\"; expected it to go through");
}

constexpr size_t kHeadBytes = sizeof(Call);
// A frame is one packet where MPI sends without asking the receiver first: up to 4096 bytes in shared memory
// (btl_vader_eager_limit of Open MPI), its own head among them.
constexpr size_t kInlineBytes = 3808;
constexpr size_t kFrameBytes = kHeadBytes + kInlineBytes;
static_assert(kFrameBytes <= 3900);

// Where a message belongs. Every group has tags of its own, by the number of its split.
enum class Kind : int { kFrame, kBlock, kNotice };
constexpr int kKinds = 3;

class MpiCommunicator final : public Communicator {
 public:
  struct Setup {
    int32_t number = 0;
    std::chrono::milliseconds deadline{};
  };
  MpiCommunicator(std::shared_ptr<internal::MpiJob> job, Membership place, const Setup& setup,
                  Ledger* ledger);
  ~MpiCommunicator() override;

 private:
  struct Peer {
    std::vector<std::byte> in = std::vector<std::byte>(kFrameBytes);
    std::vector<std::byte> out = std::vector<std::byte>(kFrameBytes);
    std::vector<std::byte> notice = std::vector<std::byte>(kNoticeBytes);
  };

  Status run(const Exchange& exchange) override;
  void close(const Status& why) override;
  Status trade_frames(const Exchange& exchange);
  Status trade_blocks(const Exchange& exchange);
  Status wait(const Exchange& exchange);
  Status give_up(const Exchange& exchange) const;
  void expect_frames();
  void send(std::span<const std::byte> bytes, size_t member);
  void receive(std::span<std::byte> bytes, size_t member, Kind kind);

  // Requests by member: what comes from it, what goes to it, its notice. The own ones are null.
  MPI_Request& incoming(size_t member) { return requests_[member]; }
  MPI_Request& outgoing(size_t member) { return requests_[peers_.size() + member]; }
  MPI_Request& notice(size_t member) { return requests_[2 * peers_.size() + member]; }
  bool open(size_t request) const { return requests_[request] != MPI_REQUEST_NULL; }
  bool is_self(size_t member) const { return member == static_cast<size_t>(rank()); }
  int tag(Kind kind) const { return number_ * kKinds + static_cast<int>(kind); }

  std::shared_ptr<internal::MpiJob> job_;
  int32_t number_;
  std::chrono::milliseconds deadline_;
  std::vector<Peer> peers_;
  std::vector<MPI_Request> requests_;
  std::vector<int> finished_;
  Status posted_;  // the first message that MPI has refused
  std::atomic<bool> is_closed_{false};
  std::vector<std::byte> farewell_;  // under the requests
  std::vector<MPI_Request> farewells_;
};

MpiCommunicator::MpiCommunicator(std::shared_ptr<internal::MpiJob> job, Membership place, const Setup& setup,
                                 Ledger* ledger)
    : Communicator(std::move(place), ledger),
      job_(std::move(job)),
      number_(setup.number),
      deadline_(setup.deadline),
      peers_(static_cast<size_t>(size())),
      requests_(3 * peers_.size(), MPI_REQUEST_NULL),
      finished_(requests_.size()),
      farewells_(peers_.size(), MPI_REQUEST_NULL) {
  expect_frames();
  for (size_t m = 0; m < peers_.size(); ++m) {
    if (!is_self(m)) receive(peers_[m].notice, m, Kind::kNotice);
  }
}

// What still waits for a message is taken back; its memory ends here.
MpiCommunicator::~MpiCommunicator() {
  for (MPI_Request& request : requests_) {
    if (request == MPI_REQUEST_NULL) continue;
    MPI_Cancel(&request);
    MPI_Request_free(&request);
  }
  for (MPI_Request& request : farewells_) {
    if (request != MPI_REQUEST_NULL) MPI_Request_free(&request);
  }
}

void MpiCommunicator::send(std::span<const std::byte> bytes, size_t member) {
  const Kind kind = bytes.data() == peers_[member].out.data() ? Kind::kFrame : Kind::kBlock;
  const Status sent = check(MPI_Isend(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE,
                                      members()[member], tag(kind), job_->all(), &outgoing(member)),
                            "MPI_Isend");
  if (posted_.ok()) posted_ = sent;
}

void MpiCommunicator::receive(std::span<std::byte> bytes, size_t member, Kind kind) {
  const Status expected =
      check(MPI_Irecv(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, members()[member], tag(kind),
                      job_->all(), kind == Kind::kNotice ? &notice(member) : &incoming(member)),
            "MPI_Irecv");
  if (posted_.ok()) posted_ = expected;
}

// Of the next exchange, so that they find their place whenever they come.
void MpiCommunicator::expect_frames() {
  for (size_t m = 0; m < peers_.size(); ++m) {
    if (!is_self(m)) receive(peers_[m].in, m, Kind::kFrame);
  }
}

Status MpiCommunicator::run(const Exchange& exchange) {
  LS_TRY(trade_frames(exchange));
  LS_TRY(trade_blocks(exchange));
  exchange.keep_own();
  expect_frames();
  return posted_;
}

Status MpiCommunicator::trade_frames(const Exchange& exchange) {
  for (size_t m = 0; m < peers_.size(); ++m) {
    if (is_self(m)) continue;
    const std::span<const std::byte> block = exchange.to(static_cast<int32_t>(m));
    const size_t within = block.size() <= kInlineBytes ? block.size() : 0;
    std::byte* out = peers_[m].out.data();
    std::memcpy(out, &exchange.call, kHeadBytes);
    if (within > 0) std::memcpy(out + kHeadBytes, block.data(), within);
    send({out, kHeadBytes + within}, m);
  }
  LS_TRY(wait(exchange));
  std::vector<Call> calls(peers_.size(), exchange.call);
  for (size_t m = 0; m < peers_.size(); ++m) {
    if (!is_self(m)) std::memcpy(&calls[m], peers_[m].in.data(), kHeadBytes);
  }
  LS_TRY(compare_calls(names(), calls));
  for (size_t m = 0; m < peers_.size(); ++m) {
    const std::span<std::byte> place = exchange.from(static_cast<int32_t>(m));
    if (is_self(m) || place.size() > kInlineBytes) continue;
    std::copy_n(peers_[m].in.data() + kHeadBytes, place.size(), place.data());
  }
  return {};
}

// Everybody has said the same by now, so every message here has somebody who waits for it.
Status MpiCommunicator::trade_blocks(const Exchange& exchange) {
  bool any = false;
  for (size_t m = 0; m < peers_.size(); ++m) {
    if (is_self(m)) continue;
    const std::span<const std::byte> block = exchange.to(static_cast<int32_t>(m));
    const std::span<std::byte> place = exchange.from(static_cast<int32_t>(m));
    if (std::max(block.size(), place.size()) > INT_MAX) {
      return error(Code::kInternal, name(), ": a block of ", std::max(block.size(), place.size()),
                   " bytes; expected at most ", INT_MAX, " over MPI");
    }
    any = any || block.size() > kInlineBytes || place.size() > kInlineBytes;
    if (place.size() > kInlineBytes) receive(place, m, Kind::kBlock);
    if (block.size() > kInlineBytes) send(block, m);
  }
  return any ? wait(exchange) : Status();
}

// Until all that was posted has come and gone, or somebody has closed the group, or it has taken too long.
Status MpiCommunicator::wait(const Exchange& exchange) {
  const size_t messages = 2 * peers_.size();
  Patience patience(deadline_);
  LS_TRY(Status(posted_));
  for (;;) {
    int count = 0;
    LS_TRY(check(MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count, finished_.data(),
                              MPI_STATUSES_IGNORE),
                 "MPI_Testsome"));
    for (int i = 0; i < count; ++i) {
      const auto request = static_cast<size_t>(finished_[static_cast<size_t>(i)]);
      if (request >= messages) return unpack_notice(peers_[request - messages].notice);
    }
    bool any = false;
    for (size_t r = 0; r < messages; ++r) any = any || open(r);
    if (!any) return {};
    if (is_closed_.load(std::memory_order_acquire)) return status();
    if (!patience.wait()) return give_up(exchange);
  }
}

Status MpiCommunicator::give_up(const Exchange& exchange) const {
  std::vector<int32_t> missing;
  for (size_t m = 0; m < peers_.size(); ++m) {
    if (open(m) || open(peers_.size() + m)) missing.push_back(members()[m]);
  }
  return absence(names(), exchange, missing, deadline_);
}

// Tells everybody why. Nobody waits for these messages to arrive: who is gone will not take them.
void MpiCommunicator::close(const Status& why) {
  job_->set_failed();
  farewell_ = pack_notice(why);
  for (size_t m = 0; m < peers_.size(); ++m) {
    if (is_self(m)) continue;
    MPI_Isend(farewell_.data(), static_cast<int>(farewell_.size()), MPI_BYTE, members()[m],
              tag(Kind::kNotice), job_->all(), &farewells_[m]);
  }
  is_closed_.store(true, std::memory_order_release);
}

}  // namespace

namespace internal {

Result<std::shared_ptr<MpiJob>> MpiJob::join() {
  int joined = 0;
  MPI_Initialized(&joined);
  if (joined != 0) return error(Code::kInternal, "mpi: this process has joined its job; expected that once");
  int level = 0;
  LS_TRY(check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &level), "MPI_Init_thread"));
  MPI_Comm all = MPI_COMM_NULL;
  LS_TRY(check(MPI_Comm_dup(MPI_COMM_WORLD, &all), "MPI_Comm_dup"));
  MPI_Comm_set_errhandler(all, MPI_ERRORS_RETURN);
  int rank = 0, size = 1;
  MPI_Comm_rank(all, &rank);
  MPI_Comm_size(all, &size);
  auto job = std::make_shared<MpiJob>(all, rank, size);
  if (level == MPI_THREAD_MULTIPLE) return job;
  return error(Code::kDevice, "mpi: this library serves one thread at a time; expected MPI_THREAD_MULTIPLE");
}

MpiJob::~MpiJob() {
  MPI_Request all_here = MPI_REQUEST_NULL;
  if (MPI_Ibarrier(all_, &all_here) != MPI_SUCCESS) return;
  Patience patience(failed_ ? kFarewellAfterFailure : kFarewell);
  int done = 0;
  while (done == 0) {
    if (MPI_Test(&all_here, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) return;
    if (done == 0 && !patience.wait()) return;
  }
  MPI_Finalize();
}

}  // namespace internal

Result<std::unique_ptr<MpiFabric>> MpiFabric::create(std::chrono::milliseconds deadline) {
  auto job = LS_TRY(internal::MpiJob::join());
  return std::unique_ptr<MpiFabric>(new MpiFabric(std::move(job), deadline));
}

MpiFabric::MpiFabric(std::shared_ptr<internal::MpiJob> job, std::chrono::milliseconds deadline)
    : job_(std::move(job)), deadline_(deadline) {
  Membership everybody{
      .name = "join", .rank = rank(), .members = std::vector<int32_t>(static_cast<size_t>(size()))};
  std::iota(everybody.members.begin(), everybody.members.end(), 0);
  joined_ = std::make_unique<MpiCommunicator>(
      job_, std::move(everybody), MpiCommunicator::Setup{.number = 0, .deadline = kJoin}, nullptr);
}

int32_t MpiFabric::rank() const { return job_->rank(); }
int32_t MpiFabric::size() const { return job_->size(); }

Result<std::unique_ptr<Communicator>> MpiFabric::split(std::string_view name, int32_t color, Ledger* ledger) {
  Membership place = LS_TRY(join(*joined_, name, color));
  const MpiCommunicator::Setup setup{.number = ++splits_, .deadline = deadline_};
  return std::unique_ptr<Communicator>(
      std::make_unique<MpiCommunicator>(job_, std::move(place), setup, ledger));
}

}  // namespace lockstep
