// While it lives, SIGUSR1 makes the engine write a record of its last steps, also when a step is stuck.
#pragma once

#include <thread>

#include "engine/engine.h"

namespace lockstep::cli {

// Blocks SIGUSR1 in this thread and in those that it makes from now on. Where there will be threads before a
// RecordSignal is made, as in a rank, this comes before them.
void hold_record_signal();

// SIGUSR1 is blocked in the thread that makes one, and in threads made after it: so before the engine's.
class RecordSignal {
 public:
  RecordSignal();
  ~RecordSignal();
  RecordSignal(const RecordSignal&) = delete;
  RecordSignal& operator=(const RecordSignal&) = delete;

  // The path of each record, or why there is none, goes to stderr. Borrows the engine for the rest of this
  // object's life.
  void serve(const Engine& engine);

 private:
  std::jthread waiter_;
};

}  // namespace lockstep::cli
