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
  void* queue;

  void run() const {
    if (queue != nullptr) {
      thunk(packed, Worker{0, 1, queue});
    } else if (parts == Parts::kAll) {
      pool.run(thunk, packed);
    } else {
      thunk(packed, Worker{0, 1});
    }
  }
  static void call(const void* self) { static_cast<const Once*>(self)->run(); }
};

}  // namespace

class Stream::Timed {
 public:
  explicit Timed(Stream& stream) : stream_(stream) { tick(); }
  ~Timed() { tick(); }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  void tick() {
    if (!stream_.timed_ || stream_.work_ == nullptr) return;
    const Result<int64_t> now = stream_.work_->tick();
    if (now.ok()) stream_.ticks_.push_back(*now);
    stream_.note(now.status());
  }
  Stream& stream_;
};

Result<double> Stream::busy_us() {
  double sum = 0;
  if (ticks_.empty()) return sum;
  for (size_t i = 0; i + 1 < ticks_.size(); i += 2)
    sum += LS_TRY(work_->us_between(ticks_[i], ticks_[i + 1]));
  ticks_.clear();
  work_->forget_ticks();
  LS_TRY(check_copies());
  return sum;
}

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
           .digest =
               at_once() && work_ == nullptr ? 0 : digest_bytes(lease.bytes().data(), lease.bytes().size())});
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

Status Stream::read(const TensorView& source, void* target) {
  LS_TRY(download(source, dense_view(target, source.dtype, source.shape)));
  synchronize();
  return failed_;
}

Status Stream::write(const TensorView& target, const void* source) {
  if (work_ == nullptr) {
    synchronize();
    std::memcpy(target.data, source, static_cast<size_t>(target.bytes()));
    return {};
  }
  note(work_->to_device(target.data, source, target.bytes()));
  ++enqueued_;
  synchronize();
  return failed_;
}

Status Stream::check_copies() {
  if (work_ != nullptr) {
    land();
    note(work_->status());
    if (!failed_.ok()) return failed_;
  }
  return std::exchange(refilled_, {});
}

void Stream::note(Status status) {
  if (failed_.ok()) failed_ = std::move(status);
}

Status Stream::begin_capture(Graph& graph) {
  if (capturing())
    return error(Code::kInternal, "stream: a capture inside a capture; expected one at a time");
  graph.clear();
  graph_ = &graph;
  return {};
}

void Stream::end_capture() { graph_ = nullptr; }

// The same launches once more, into a recording of the device's own.
Status Stream::instantiate(Graph& graph) {
  if (work_ == nullptr) return {};
  LS_TRY(work_->begin_recording());
  for (const internal::LaunchNode& node : graph.nodes_)
    node.thunk(node.bytes.data(), Worker{0, 1, work_->native()});
  graph.executable_ = LS_TRY(work_->end_recording());
  return {};
}

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

Event Stream::record() {
  if (work_ != nullptr && marked_ < enqueued_) {
    note(work_->mark(enqueued_));
    marked_ = enqueued_;
  }
  return {enqueued_};
}

bool Stream::done(Event event) {
  if (work_ == nullptr || event.sequence == 0) return event.sequence <= done_;
  if (marked_ < event.sequence) return false;
  return work_->done(event.sequence);
}

void Stream::wait(Event event) {
  LS_CHECK(event.sequence <= enqueued_, "event ", event.sequence, " of a stream at ", enqueued_);
  if (work_ != nullptr) {
    if (marked_ < event.sequence) record();
    note(work_->wait(event.sequence));
    land();
    return;
  }
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
  // Whoever watches launches sees each of them.
  if (graph->executable_ != nullptr && observer_.before == nullptr && observer_.after == nullptr) {
    const Timed timed(*this);
    note(work_->replay(*graph->executable_));
    // Ranks keep account of what they enter together: a worker that has no part of the work only notes it.
    for (const internal::LaunchNode& node : graph->nodes_) {
      if (node.site.spec->collective) node.thunk(node.bytes.data(), Worker{0, 0, work_->native()});
    }
    launches_ += static_cast<int64_t>(graph->nodes_.size());
    if (pulse_ != nullptr) pulse_->fetch_add(graph->nodes_.size(), std::memory_order_relaxed);
    return;
  }
  for (const internal::LaunchNode& node : graph->nodes_) run(node);
}

void Stream::run(const internal::LaunchNode& node) {
  run_launch(node.site, node.thunk, node.bytes.data(), node.args_bytes, node.parts);
}

void Stream::run_launch(const LaunchSite& site, internal::Thunk thunk, const void* packed, int64_t args_bytes,
                        Parts parts) {
  ++launches_;
  if (pulse_ != nullptr) pulse_->fetch_add(1, std::memory_order_relaxed);
  const Once once{pool_, thunk, packed, parts, work_ != nullptr ? work_->native() : nullptr};
  const LaunchRecord record{
      .site = site, .args = packed, .args_bytes = args_bytes, .rerun = Once::call, .again = &once};
  if (observer_.before != nullptr) observer_.before(observer_.self, record);
  {
    const Timed timed(*this);
    once.run();
  }
  if (observer_.after != nullptr) observer_.after(observer_.self, record);
}

void Stream::check_refill(const Copy& copy) {
  const auto bytes = static_cast<size_t>(copy.target.bytes());
  if (copy.digest == 0 || !refilled_.ok() || digest_bytes(copy.source, bytes) == copy.digest) return;
  refilled_ =
      broken({.check = "L5",
              .moment = Moment::kCommit,
              .consumer = "stream",
              .field = "staging",
              .expected = concat("nobody to write to its ", bytes, " bytes until its copy has read it"),
              .found = concat("refilled (slot ", copy.slot, ")")});
}

void Stream::run(const Copy& copy) {
  if (work_ != nullptr) {
    hand_over(copy);
    return;
  }
  check_refill(copy);
  std::memcpy(copy.target.data, copy.source, static_cast<size_t>(copy.target.bytes()));
  if (copy.ring != nullptr) {
    copy.ring->slots_[static_cast<size_t>(copy.slot)].state = StagingRing::State::kFree;
  }
}

void Stream::hand_over(const Copy& copy) {
  const Timed timed(*this);
  const int64_t bytes = copy.target.bytes();
  if (copy.ring == nullptr) {
    note(work_->to_host(copy.target.data, copy.source, bytes));
    return;
  }
  note(work_->to_device(copy.target.data, copy.source, bytes));
  in_flight_.push_back(copy);
  in_flight_.back().sequence = enqueued_;
}

void Stream::land() {
  while (!in_flight_.empty() && in_flight_.front().sequence <= marked_ &&
         work_->done(in_flight_.front().sequence)) {
    const Copy copy = in_flight_.front();
    in_flight_.pop_front();
    check_refill(copy);
    copy.ring->slots_[static_cast<size_t>(copy.slot)].state = StagingRing::State::kFree;
  }
}

}  // namespace lockstep
