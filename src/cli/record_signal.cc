#include "cli/record_signal.h"

#include <pthread.h>

#include <csignal>
#include <cstdio>
#include <ctime>

namespace lockstep::cli {
namespace {

sigset_t record_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  return signals;
}

}  // namespace

void hold_record_signal() {
  const sigset_t signals = record_signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

RecordSignal::RecordSignal() { hold_record_signal(); }

RecordSignal::~RecordSignal() = default;

void RecordSignal::serve(const Engine& engine) {
  waiter_ = std::jthread([&engine](const std::stop_token& stop) {
    const sigset_t signals = record_signals();
    const timespec patience{.tv_sec = 0, .tv_nsec = 100'000'000};  // how long the end of the program may wait
    while (!stop.stop_requested()) {
      if (sigtimedwait(&signals, nullptr, &patience) != SIGUSR1) continue;
      const Result<std::string> path = engine.records().request();
      std::fprintf(stderr, "lockstep: %s\n",
                   path.ok() ? concat("the record is ", *path, ", which lockstep explain reads").c_str()
                             : path.status().message().c_str());
    }
  });
}

}  // namespace lockstep::cli
