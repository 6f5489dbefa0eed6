// The wide path reconciled padded rows with the metadata before it called the op, the narrow path called
// the op directly: the offsets were those of 342 rows, the tensors had 352. The op aborted and the server
// hung. ROCm/ATOM#1595.
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kTokens = 342, kPadded = 352;

enum class Path { kWide, kNarrow };

Status call(Path path) {
  Plans plans;
  const StepOptions reconciled{.bucket = bucket(kPadded, 2, 1)};
  StepPlan plan = path == Path::kWide
                      ? plans.next({{0, kTokens}}, reconciled)
                      : with_tails(plans.next({{0, kTokens}}), plans.limits(), bucket(kPadded, 1, 1));
  return plans.run(plan);
}

Status wrong() { return call(Path::kNarrow); }
Status twin() { return call(Path::kWide); }

}  // namespace

const Entry kD14 = {
    .id = "D14",
    .fault_class = 'd',
    .title = "342 tokens are padded to 352, and one of two call paths forgets the offsets",
    .thread = "ROCm/ATOM#1595",
    .expect = {.moment = Moment::kPlan,
               .check = "P1",
               .field = "query_start_loc",
               .row = 1,
               .found = "rows 342..351 belong to no sequence"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
