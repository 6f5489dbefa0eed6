// What every front door needs: which kernels, and where they run.
#pragma once

#include "device/stream.h"

namespace lockstep {

struct KernelTable;

// Borrowed for the length of a call.
struct Launcher {
  const KernelTable& table;
  Stream& stream;
};

}  // namespace lockstep
