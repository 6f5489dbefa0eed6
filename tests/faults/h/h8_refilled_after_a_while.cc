// Keys are staged, their copy is started, and the same buffer is refilled with values. How often that is
// wrong depends on how long the host takes: always at once, 0.45 % after 5 us. Here time is the number of
// pieces of work that the device has done in between. 1bit-MONSTER/1bit-MONSTER#2344.
#include <cstring>

#include "faults/consumers.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

constexpr int64_t kWorkBefore = 3;  // pieces of work ahead of the copy
constexpr std::array<int32_t, 4> kKeys = {1, 2, 3, 4}, kValues = {-1, -2, -3, -4};

// `delay` pieces of work are done between the copy's start and the refill.
Status stage(int64_t delay) {
  const auto bench = LS_TRY(Workbench::create({.pace = Pace::kLate}));
  const TensorView target = bench->numbers("keys", {0, 0, 0, 0});
  const TensorView scratch = bench->numbers("scratch", {0, 0, 0, 0});
  for (int64_t i = 0; i < kWorkBefore; ++i) LS_TRY(bench->stream().download(target, scratch));
  StagingLease lease = LS_TRY(bench->staging().lease(bench->stream(), target.bytes()));
  const std::span<std::byte> buffer = lease.bytes();
  std::memcpy(buffer.data(), kKeys.data(), buffer.size());
  LS_TRY(bench->stream().copy(target, std::move(lease)));
  bench->stream().wait({delay});
  std::memcpy(buffer.data(), kValues.data(), buffer.size());
  bench->stream().synchronize();
  LS_TRY(bench->stream().check_copies());
  if (std::memcmp(target.data, kKeys.data(), sizeof(kKeys)) == 0) return {};
  return error(Code::kInternal, "the device has values for keys after ", delay, " pieces of work");
}

// Named at every delay at which it is wrong.
Status wrong() {
  for (int64_t delay = 1; delay <= kWorkBefore; ++delay) {
    const Status late = stage(delay);
    if (late.fault() == nullptr) return late;
  }
  return stage(0);
}
Status twin() { return stage(kWorkBefore + 1); }

}  // namespace

const Entry kH8 = {
    .id = "H8",
    .fault_class = 'h',
    .title = "a staging buffer is refilled some time after its copy was started",
    .thread = "1bit-MONSTER/1bit-MONSTER#2344",
    .expect = {.moment = Moment::kCommit,
               .check = "L5",
               .field = "staging",
               .expected = "until its copy has read it"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
