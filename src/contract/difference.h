// Difference: what two recordings of one program do differently, launch by launch and argument by argument,
// as a broken rule. For whoever has seen that they differ and has to say in what.
#pragma once

#include <string>

#include "base/fault.h"
#include "device/graph.h"
#include "device/memory_map.h"

namespace lockstep {

struct Difference {
  const Graph& captured;
  const Graph& again;
  const MemoryMap& map;
  Moment moment = Moment::kCapture;
  uint64_t step = 0;
  std::string consumer;  // empty: the launch is named
};

// Errors: kInternal: an argument lies elsewhere or has another shape (R1), is another number, or the launches
// are others altogether (R2). What else differs is listed behind the first. ok() when nothing differs.
Status launch_difference(const Difference& difference);

}  // namespace lockstep
