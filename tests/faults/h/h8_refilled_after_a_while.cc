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
Status stage(const Where& where, int64_t delay) {
  const auto bench = LS_TRY(Workbench::create(where, {.pace = Pace::kLate}));
  const TensorView target = bench->numbers("keys", {0, 0, 0, 0});
  std::array<int32_t, 4> scratch{};
  const TensorView there = dense_view(scratch.data(), DType::kI32, {4});
  const int64_t before = bench->stream().record().sequence;
  for (int64_t i = 0; i < kWorkBefore; ++i) LS_TRY(bench->stream().download(target, there));
  StagingLease lease = LS_TRY(bench->staging().lease(bench->stream(), target.bytes()));
  const std::span<std::byte> buffer = lease.bytes();
  std::memcpy(buffer.data(), kKeys.data(), buffer.size());
  LS_TRY(bench->stream().copy(target, std::move(lease)));
  bench->stream().wait({before + delay});
  std::memcpy(buffer.data(), kValues.data(), buffer.size());
  bench->stream().synchronize();
  LS_TRY(bench->stream().check_copies());
  std::array<int32_t, 4> got{};
  LS_TRY(bench->stream().read(target, got.data()));
  if (got == kKeys) return {};
  return error(Code::kInternal, "the device has values for keys after ", delay, " pieces of work");
}

// Named at every delay at which it is wrong.
Status wrong(const Where& where) {
  for (int64_t delay = 1; delay <= kWorkBefore; ++delay) {
    const Status late = stage(where, delay);
    if (late.fault() == nullptr) return late;
  }
  return stage(where, 0);
}
Status twin(const Where& where) { return stage(where, kWorkBefore + 1); }

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
