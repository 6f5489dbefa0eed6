// The control channel of ranks that are processes: point-to-point messages of MPI over a communicator of its
// own. Not sockets: MPI knows how its processes reach each other, on one host and on many, through whatever
// network there is; and what control threads need, messages of a kilobyte that nobody waits for, works while
// compute threads are within collectives. MPI does not say that a process is dead; that is what silence is
// for.
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "comm/registry.h"

namespace lockstep {
namespace {

// Signs of life that a rank does not take are of no use to it; its verdict comes long before so many.
constexpr int32_t kMostUnsent = 256;
constexpr int64_t kFlush = 500'000'000;  // ns
constexpr int kTag = 1;

class MpiControlChannel final : public ControlChannel {
 public:
  explicit MpiControlChannel(MPI_Comm group);
  ~MpiControlChannel() override;

  int32_t rank() const override { return rank_; }
  int32_t size() const override { return size_; }
  void send(int32_t to, std::span<const std::byte> message) override;
  std::optional<std::vector<std::byte>> receive() override;
  void flush() override;

 private:
  // What MPI may still read.
  struct Sending {
    int32_t to = 0;
    std::vector<std::byte> bytes;
  };
  void forget_sent();

  MPI_Comm group_;
  int32_t rank_ = 0;
  int32_t size_ = 1;
  std::vector<std::unique_ptr<Sending>> sending_;
  std::vector<MPI_Request> requests_;  // of those, in the same order
  std::vector<int> finished_;
  std::vector<int32_t> unsent_;  // [ranks] messages to a rank that are still on their way
};

MpiControlChannel::MpiControlChannel(MPI_Comm group) : group_(group) {
  MPI_Comm_rank(group_, &rank_);
  MPI_Comm_size(group_, &size_);
  unsent_.resize(static_cast<size_t>(size_));
}

// The communicator stays: freeing one takes all its ranks, and some may be dead. So do messages that MPI has
// not let go of, since nobody may touch them any more.
MpiControlChannel::~MpiControlChannel() {
  flush();
  for (std::unique_ptr<Sending>& message : sending_) static_cast<void>(message.release());
}

// In one call: where ranks share cores, each call of MPI that finds nothing done gives the core away, and
// what a dead rank does not take stays unsent.
void MpiControlChannel::forget_sent() {
  if (sending_.empty()) return;
  finished_.resize(requests_.size());
  int count = 0;
  MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count, finished_.data(),
               MPI_STATUSES_IGNORE);
  size_t kept = 0;
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] == MPI_REQUEST_NULL) {
      --unsent_[static_cast<size_t>(sending_[i]->to)];
      continue;
    }
    requests_[kept] = requests_[i];
    std::swap(sending_[kept++], sending_[i]);
  }
  requests_.resize(kept);
  sending_.resize(kept);
}

void MpiControlChannel::send(int32_t to, std::span<const std::byte> message) {
  int32_t& unsent = unsent_[static_cast<size_t>(to)];
  if (unsent >= kMostUnsent) return;
  auto sending = std::make_unique<Sending>();
  sending->to = to;
  sending->bytes.assign(message.begin(), message.end());
  MPI_Request request = MPI_REQUEST_NULL;
  const int failure = MPI_Isend(sending->bytes.data(), static_cast<int>(sending->bytes.size()), MPI_BYTE, to,
                                kTag, group_, &request);
  if (failure != MPI_SUCCESS) return;  // silence says the same to everybody
  ++unsent;
  sending_.push_back(std::move(sending));
  requests_.push_back(request);
}

std::optional<std::vector<std::byte>> MpiControlChannel::receive() {
  int arrived = 0;
  MPI_Message message = MPI_MESSAGE_NULL;
  MPI_Status envelope;
  if (MPI_Improbe(MPI_ANY_SOURCE, kTag, group_, &arrived, &message, &envelope) != MPI_SUCCESS ||
      arrived == 0) {
    forget_sent();  // once per look
    return std::nullopt;
  }
  int bytes = 0;
  MPI_Get_count(&envelope, MPI_BYTE, &bytes);
  std::vector<std::byte> text(static_cast<size_t>(std::max(0, bytes)));
  if (MPI_Mrecv(text.data(), bytes, MPI_BYTE, &message, &envelope) != MPI_SUCCESS) return std::nullopt;
  return text;
}

void MpiControlChannel::flush() {
  const int64_t end = now_ns() + kFlush;
  while (!sending_.empty() && now_ns() < end) {
    forget_sent();
    if (!sending_.empty()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace

Result<std::unique_ptr<ControlChannel>> make_mpi_control_channel() {
  MPI_Comm group = MPI_COMM_NULL;
  const int failure = MPI_Comm_dup(MPI_COMM_WORLD, &group);
  if (failure != MPI_SUCCESS) {
    std::string why(MPI_MAX_ERROR_STRING, 0);
    int length = 0;
    MPI_Error_string(failure, why.data(), &length);
    return error(Code::kDevice, "control: MPI_Comm_dup: ", why.substr(0, static_cast<size_t>(length)));
  }
  MPI_Comm_set_errhandler(group, MPI_ERRORS_RETURN);
  return std::unique_ptr<ControlChannel>(std::make_unique<MpiControlChannel>(group));
}

}  // namespace lockstep
