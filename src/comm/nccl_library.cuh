// NCCL, opened at run time. Only where its header was found.
#pragma once

#include <nccl.h>

#include <memory>

#include "base/status.h"

namespace lockstep {

// Its functions by their names without "nccl". Lives as long as anybody holds it.
struct NcclLibrary {
  decltype(&ncclGetErrorString) GetErrorString = nullptr;
  decltype(&ncclGetLastError) GetLastError = nullptr;
  decltype(&ncclGetUniqueId) GetUniqueId = nullptr;
  decltype(&ncclCommInitRank) CommInitRank = nullptr;
  decltype(&ncclCommDestroy) CommDestroy = nullptr;
  decltype(&ncclCommAbort) CommAbort = nullptr;
  decltype(&ncclAllGather) AllGather = nullptr;
  decltype(&ncclBroadcast) Broadcast = nullptr;
  decltype(&ncclSend) Send = nullptr;
  decltype(&ncclRecv) Recv = nullptr;
  decltype(&ncclGroupStart) GroupStart = nullptr;
  decltype(&ncclGroupEnd) GroupEnd = nullptr;

  // Errors: kNotFound, with the loader's words.
  static Result<std::shared_ptr<const NcclLibrary>> open();
  // `what` was asked of it.
  Status check(ncclResult_t code, std::string_view what) const;
};

}  // namespace lockstep
