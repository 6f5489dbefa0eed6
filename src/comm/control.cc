#include "comm/control.h"

#include <chrono>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "base/fault.h"

namespace lockstep {
namespace {

// Looks per beat: a message waits for a fifth of a beat at most.
constexpr int64_t kLooks = 5;

}  // namespace

Control::Control(std::unique_ptr<ControlChannel> channel, const Ledger& ledger, ControlOptions options)
    : channel_(std::move(channel)),
      ledger_(ledger),
      options_(std::move(options)),
      watch_(options_.shape, channel_->rank(), options_.limits) {
  LS_CHECK(channel_->size() == options_.shape.world(), "control: ", channel_->size(), " ranks");
  thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

Control::~Control() {
  thread_.request_stop();
  thread_.join();
}

Status Control::leave(const Status& how) {
  if (how.ok()) pulse_.phase.store(RankPhase::kLeft, std::memory_order_relaxed);
  std::unique_lock lock(mutex_);
  leaving_ = true;
  failed_ = how;
  changed_.notify_all();
  changed_.wait(lock, [this] { return left_ || !closed_.ok(); });
  return closed_;
}

void Control::run(const std::stop_token& stop) {
  const auto look = std::chrono::nanoseconds(options_.limits.beat / kLooks);
  while (!stop.stop_requested()) {
    listen();
    beat();
    std::unique_lock lock(mutex_);
    if (leaving_ && closed_.ok() && !failed_.ok() && !awaits_verdict()) {
      const Notice notice{.from = channel_->rank(), .status = failed_, .report = ""};
      lock.unlock();
      close(notice, true);
      continue;
    }
    if (closed_.ok() && watch_.everybody_left()) {
      left_ = true;
      changed_.notify_all();
    }
    const bool judge = closed_.ok() && !left_;
    lock.unlock();
    const std::optional<Notice> verdict = judge ? watch_.look(now_ns()) : std::nullopt;
    if (verdict) close(*verdict, true);
    end_if_stuck();
    lock.lock();
    changed_.wait_for(lock, stop, look, [this] { return !failed_.ok() && closed_.ok() && failed_at_ == 0; });
  }
  channel_->flush();
}

void Control::beat() {
  const int64_t now = now_ns();
  const bool leaves = pulse_.phase.load(std::memory_order_relaxed) == RankPhase::kLeft;
  if (beat_at_ != 0 && now - beat_at_ < options_.limits.beat && !leaves) return;
  beat_at_ = now;
  Beat mine{.rank = channel_->rank(),
            .phase = pulse_.phase.load(std::memory_order_relaxed),
            .work = pulse_.work.load(std::memory_order_relaxed)};
  add_ledger(ledger_, mine);
  watch_.heard(mine, now);
  send_all(mine);
}

void Control::listen() {
  while (const std::optional<std::vector<std::byte>> bytes = channel_->receive()) {
    const Result<ControlMessage> message = decode(*bytes);
    if (!message.ok()) {
      close({.from = channel_->rank(), .status = message.status(), .report = ""}, true);
    } else if (const Beat* beat = std::get_if<Beat>(&*message)) {
      watch_.heard(*beat, now_ns());
    } else {
      close(std::get<Notice>(*message), false);
    }
  }
}

// The first reason stays; whoever finds it tells the others.
void Control::close(const Notice& notice, bool mine) {
  Status why = notice.status;
  if (!mine && notice.report.empty())
    why = why.with_message(concat("rank ", notice.from, ": ", notice.status.message()));
  {
    const std::lock_guard lock(mutex_);
    if (!closed_.ok() || left_) return;
    closed_ = why;
    changed_.notify_all();
  }
  closed_at_ = now_ns();
  if (mine) send_all(notice);
  if (!notice.report.empty()) options_.say(notice.report);
  options_.fail(why);
}

// A collective that another rank has closed ends before this thread hears the verdict behind it. Where the
// reason is a missing rank, somebody's control thread has said so, with a report that all should show: it
// comes even when that thread hardly runs. Any other is the compute threads' own, and a beat is enough.
// Called with the lock.
bool Control::awaits_verdict() {
  if (failed_.fault() == nullptr || failed_.fault()->check != "G1") return false;
  if (failed_at_ == 0) failed_at_ = now_ns();
  const int64_t patience = failed_.code() == Code::kDevice ? options_.limits.turn : options_.limits.beat;
  return now_ns() - failed_at_ < patience;
}

void Control::send_all(const ControlMessage& message) {
  const std::vector<std::byte> bytes = encode(message);
  for (int32_t rank = 0; rank < channel_->size(); ++rank) {
    if (rank != channel_->rank()) channel_->send(rank, bytes);
  }
}

void Control::end_if_stuck() {
  if (closed_at_ == 0 || now_ns() - closed_at_ < options_.grace) return;
  Status why;
  {
    const std::lock_guard lock(mutex_);
    if (leaving_) return;
    why = closed_;
  }
  if (options_.last) options_.last(why);
  channel_->flush();  // which others may no longer take part in
  closed_at_ = 0;     // once
  options_.end(why);
}

}  // namespace lockstep
