#include "device/registry.h"

#include <charconv>

#ifdef LOCKSTEP_CUDA
#include "device/cuda/open_cuda.h"
#endif

namespace lockstep {
namespace {

Result<DevicePtr> open_gpu(int32_t index) {
#ifdef LOCKSTEP_CUDA
  return open_cuda(index);
#else
  return error(Code::kUnimplemented, "device: cuda:", index,
               " is asked for and this program was built without CUDA; use --device cpu, or a build of the "
               "preset cuda");
#endif
}

}  // namespace

Result<DevicePtr> open_device(std::string_view name) {
  if (name == "cpu") return DevicePtr();
  if (name == "cuda") return open_gpu(0);
  constexpr std::string_view kPrefix = "cuda:";
  if (name.starts_with(kPrefix)) {
    const std::string_view digits = name.substr(kPrefix.size());
    int32_t index = -1;
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
    if (code == std::errc() && end == digits.data() + digits.size() && index >= 0) return open_gpu(index);
  }
  return error(Code::kInvalidArgument, "device: \"", name, "\" is no device; expected cpu, cuda or cuda:N");
}

}  // namespace lockstep
