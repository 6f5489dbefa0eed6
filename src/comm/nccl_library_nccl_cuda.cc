#include <dlfcn.h>

#include <cstdlib>

#include "comm/nccl_library.cuh"

namespace lockstep {
namespace {

constexpr const char* kFile = "libnccl.so.2";

// Before the library reads its environment, which it does once.
void keep_multicast_off() {
  static const int done = ::setenv("NCCL_NVLS_ENABLE", "0", 0);
  static_cast<void>(done);
}

struct Symbols {
  void* file;
  std::string missing;

  template <typename Function>
  void find(Function& function, const char* name) {
    function = reinterpret_cast<Function>(::dlsym(file, name));
    if (function == nullptr && missing.empty()) missing = name;
  }
};

}  // namespace

Result<std::shared_ptr<const NcclLibrary>> NcclLibrary::open() {
  keep_multicast_off();
  Symbols symbols{.file = ::dlopen(kFile, RTLD_NOW | RTLD_LOCAL), .missing = {}};
  if (symbols.file == nullptr) {
    return error(
        Code::kNotFound, "nccl: ", kFile, " cannot be opened (", ::dlerror(),
        "); expected NVIDIA's NCCL, which several ranks on GPUs exchange through; install it, or name "
        "its folder in LD_LIBRARY_PATH");
  }
  // Never closed: it has threads of its own.
  auto library = std::make_shared<NcclLibrary>();
  symbols.find(library->GetErrorString, "ncclGetErrorString");
  symbols.find(library->GetLastError, "ncclGetLastError");
  symbols.find(library->GetUniqueId, "ncclGetUniqueId");
  symbols.find(library->CommInitRank, "ncclCommInitRank");
  symbols.find(library->CommDestroy, "ncclCommDestroy");
  symbols.find(library->CommAbort, "ncclCommAbort");
  symbols.find(library->AllGather, "ncclAllGather");
  symbols.find(library->Broadcast, "ncclBroadcast");
  symbols.find(library->Send, "ncclSend");
  symbols.find(library->Recv, "ncclRecv");
  symbols.find(library->GroupStart, "ncclGroupStart");
  symbols.find(library->GroupEnd, "ncclGroupEnd");
  if (symbols.missing.empty()) return std::shared_ptr<const NcclLibrary>(std::move(library));
  return error(Code::kNotFound, "nccl: ", kFile, " has no ", symbols.missing,
               "; expected NCCL 2.14 or newer");
}

Status NcclLibrary::check(ncclResult_t code, std::string_view what) const {
  if (code == ncclSuccess) return {};
  return error(Code::kDevice, "nccl: ", what, ": ", GetErrorString(code), " (", GetLastError(nullptr),
               "); expected success");
}

}  // namespace lockstep
