#include "device/stream.h"

#include "base/check.h"
#include "base/fault.h"
#include "device/graph.h"
#include "device/staging.h"

namespace lockstep {
namespace {

// One run of a kernel, and all that it takes.
struct Once {
  ThreadPool& pool;
  internal::Thunk thunk;
  const void* packed;
  Parts parts;

  void run() const {
    if (parts == Parts::kAll) {
      pool.run(thunk, packed);
    } else {
      thunk(packed, Worker{0, 1});
    }
  }
  static void call(const void* self) { static_cast<const Once*>(self)->run(); }
};

}  // namespace

void Stream::enqueue(const LaunchSite& site, internal::Thunk thunk, const void* packed, int64_t bytes,
                     int64_t args_bytes, Parts parts) {
  if (graph_ == nullptr && at_once()) {
    alignas(64) unsigned char copy[kMaxArgsBytes];
    std::memcpy(copy, packed, static_cast<size_t>(bytes));
    ++enqueued_;
    run_launch(site, thunk, copy, args_bytes, parts);
    ++done_;
    return;
  }
  const auto* begin = static_cast<const unsigned char*>(packed);
  internal::LaunchNode node{.site = site,
                            .thunk = thunk,
                            .parts = parts,
                            .args_bytes = args_bytes,
                            .bytes = std::vector<unsigned char>(begin, begin + bytes)};
  if (graph_ != nullptr) {
    graph_->nodes_.push_back(std::move(node));
  } else {
    add(std::move(node));
  }
}

Status Stream::copy(const TensorView& target, StagingLease&& lease) {
  if (capturing()) {
    return broken({.check = "L1",
                   .moment = Moment::kCapture,
                   .consumer = "stream",
                   .field = "copy",
                   .expected = "launches only: a replay would copy whatever the memory holds by then",
                   .found = concat(lease.bytes().size(), " bytes from host memory during a capture")});
  }
  if (target.bytes() != static_cast<int64_t>(lease.bytes().size())) {
    return error(Code::kInternal, "stream: a copy of ", lease.bytes().size(), " bytes to ", target.bytes(),
                 "; expected the same size");
  }
  StagingRing::Slot& slot = lease.ring_->slots_[static_cast<size_t>(lease.slot_)];
  slot = {.state = StagingRing::State::kInFlight, .read = {enqueued_ + 1}};
  add(Copy{.target = target,
           .source = lease.bytes().data(),
           .ring = std::exchange(lease.ring_, nullptr),
           .slot = lease.slot_,
           .digest = at_once() ? 0 : digest_bytes(lease.bytes().data(), lease.bytes().size())});
  return {};
}

Status Stream::download(const TensorView& source, const TensorView& target) {
  if (capturing()) {
    return broken({.check = "L1",
                   .moment = Moment::kCapture,
                   .consumer = "stream",
                   .field = "download",
                   .expected = "launches only: nobody would know when to read it",
                   .found = concat(source.bytes(), " bytes to the host during a capture")});
  }
  if (target.bytes() != source.bytes()) {
    return error(Code::kInternal, "stream: a copy of ", source.bytes(), " bytes to ", target.bytes(),
                 "; expected the same size");
  }
  add(Copy{.target = target, .source = source.data});
  return {};
}

Status Stream::begin_capture(Graph& graph) {
  if (capturing())
    return error(Code::kInternal, "stream: a capture inside a capture; expected one at a time");
  graph.clear();
  graph_ = &graph;
  return {};
}

void Stream::end_capture() { graph_ = nullptr; }

Status Stream::replay(const Graph& graph) {
  if (capturing()) return error(Code::kInternal, "stream: a replay inside a capture; expected launches only");
  add(&graph);
  return {};
}

template <typename What>
void Stream::add(What&& what) {
  ++enqueued_;
  if (at_once()) {
    run(what);
    ++done_;
  } else {
    queue_.emplace_back(std::forward<What>(what));
  }
}

Event Stream::record() { return {enqueued_}; }

void Stream::wait(Event event) {
  LS_CHECK(event.sequence <= enqueued_, "event ", event.sequence, " of a stream at ", enqueued_);
  while (done_ < event.sequence) {
    const Work work = std::move(queue_.front());
    queue_.pop_front();
    run(work);
    ++done_;
  }
}

void Stream::run(const Work& work) {
  std::visit([this](const auto& what) { run(what); }, work);
}

void Stream::run(const Graph* graph) {
  for (const internal::LaunchNode& node : graph->nodes_) run(node);
}

void Stream::run(const internal::LaunchNode& node) {
  run_launch(node.site, node.thunk, node.bytes.data(), node.args_bytes, node.parts);
}

void Stream::run_launch(const LaunchSite& site, internal::Thunk thunk, const void* packed, int64_t args_bytes,
                        Parts parts) {
  ++launches_;
  if (pulse_ != nullptr) pulse_->fetch_add(1, std::memory_order_relaxed);
  const Once once{pool_, thunk, packed, parts};
  const LaunchRecord record{
      .site = site, .args = packed, .args_bytes = args_bytes, .rerun = Once::call, .again = &once};
  if (observer_.before != nullptr) observer_.before(observer_.self, record);
  once.run();
  if (observer_.after != nullptr) observer_.after(observer_.self, record);
}

void Stream::run(const Copy& copy) {
  const auto bytes = static_cast<size_t>(copy.target.bytes());
  if (copy.digest != 0 && refilled_.ok() && digest_bytes(copy.source, bytes) != copy.digest) {
    refilled_ =
        broken({.check = "L5",
                .moment = Moment::kCommit,
                .consumer = "stream",
                .field = "staging",
                .expected = concat("nobody to write to its ", bytes, " bytes until its copy has read it"),
                .found = concat("refilled (slot ", copy.slot, ")")});
  }
  std::memcpy(copy.target.data, copy.source, bytes);
  if (copy.ring != nullptr) {
    copy.ring->slots_[static_cast<size_t>(copy.slot)].state = StagingRing::State::kFree;
  }
}

}  // namespace lockstep
