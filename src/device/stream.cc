#include "device/stream.h"

namespace lockstep {

void Stream::enqueue(const LaunchSite& site, Thunk thunk, const void* args, int64_t bytes) {
  alignas(64) unsigned char copy[kMaxArgsBytes];
  std::memcpy(copy, args, static_cast<size_t>(bytes));
  ++launches_;
  const LaunchRecord record{.site = site, .args = copy, .args_bytes = bytes};
  if (observer_.before != nullptr) observer_.before(observer_.self, record);
  pool_.run(thunk, copy);
  if (observer_.after != nullptr) observer_.after(observer_.self, record);
}

}  // namespace lockstep
