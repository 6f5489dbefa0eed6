// The slab of softmax statistics was sized for a rank's own 8 heads. Under context-parallel decode the kernel
// sees the gathered 64, and as many rows as are scheduled: it wrote past the end. vllm-project/vllm#50781.
#include "faults/entries.h"
#include "kernels/common/checks.h"

namespace lockstep::faults {
namespace {

constexpr int64_t kLocalHeads = 8, kRanks = 8, kRows = 16384;

// A maximum and a sum for each row and head.
int64_t stats_bytes(int64_t rows, int64_t heads) { return 2 * rows * heads * 4; }

// The op's front door: it counts the heads that it is given.
Status softmax_stats(const TensorView& q, const TensorView& workspace) {
  return check_workspace("softmax_stats", workspace, stats_bytes(q.dim(0), q.dim(1)));
}

Status decode(int64_t heads_of_workspace) {
  unsigned char memory = 0;
  const TensorView q = dense_view(&memory, DType::kF32, {kRows, kLocalHeads * kRanks, 512});
  const TensorView workspace = dense_view(&memory, DType::kU8, {stats_bytes(kRows, heads_of_workspace)});
  return softmax_stats(q, workspace);
}

Status wrong() { return decode(kLocalHeads); }
Status twin() { return decode(kLocalHeads * kRanks); }

}  // namespace

const Entry kN5t = {
    .id = "N5t",
    .fault_class = 'n',
    .title = "a workspace is sized for a rank's own heads, and the kernel sees those of all ranks",
    .thread = "vllm-project/vllm#50781",
    .expect = {.moment = Moment::kLaunch,
               .check = "L1",
               .field = "workspace",
               .consumer = "softmax_stats",
               .expected = "8388608",
               .found = "1048576"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
