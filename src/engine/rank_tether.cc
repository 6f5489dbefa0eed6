#include "engine/rank_tether.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>

#include "engine/exit_codes.h"
#include "engine/front_socket.h"

namespace lockstep {
namespace {

constexpr std::chrono::milliseconds kLook{250};

void tell(int socket, const FrontNote& note) { ::send(socket, &note, sizeof(note), MSG_NOSIGNAL); }

}  // namespace

RankTether::RankTether(const LaunchedRank& launched, const Environment& environment)
    : launched_(launched), parent_(::getppid()) {
  if (const char* front = environment(kFrontVariable)) front_ = front;
  if (!front_.empty()) {
    const Result<int> socket = connect_to_front(front_);
    if (!socket.ok()) leave("the front");
    socket_ = *socket;
    tell(socket_, {.kind = FrontNote::Kind::kHello, .rank = launched_.rank});
  }
  thread_ = std::jthread([this](const std::stop_token& stop) { watch(stop); });
}

RankTether::~RankTether() {
  thread_.request_stop();
  if (socket_ >= 0) ::shutdown(socket_, SHUT_RD);  // wakes the thread
  thread_.join();
  if (socket_ >= 0) ::close(socket_);
}

void RankTether::end_with(int code) {
  if (ended_.exchange(true) || socket_ < 0) return;
  tell(socket_, {.kind = FrontNote::Kind::kEnd, .rank = launched_.rank, .code = code});
}

void RankTether::watch(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    if (socket_ < 0) {
      std::unique_lock lock(mutex_);
      stopped_.wait_for(lock, stop, kLook, [] { return false; });
    } else {
      pollfd readable{.fd = socket_, .events = POLLIN, .revents = 0};
      const int ready = ::poll(&readable, 1, static_cast<int>(kLook.count()));
      // The front never writes: what can be read is the end of it.
      if (ready > 0 && !stop.stop_requested()) leave("the front");
    }
    // Watched by looking: a signal on the parent's death would follow its thread, not its process.
    if (stop.stop_requested() || ::getppid() == parent_) continue;
    end_with(kExitRankLost);
    leave("the launcher");
  }
}

void RankTether::leave(const char* who) const {
  std::fprintf(stderr, "lockstep: rank %d: %s has gone; this rank ends\n", static_cast<int>(launched_.rank),
               who);
  ::_exit(kExitRankLost);
}

}  // namespace lockstep
