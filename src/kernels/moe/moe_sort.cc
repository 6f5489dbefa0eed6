// Counting sort of the step's choices by expert. One thread: a few microseconds for a thousand rows, and the
// order must not depend on how many threads there are.
#include "kernels/moe/moe_kernels.h"

namespace lockstep {

void moe_sort(const MoeExpertsArgs& args, Worker worker) {
  if (worker.index != 0) return;
  const MoeWorkspace at = moe_workspace(args);
  auto* offsets = reinterpret_cast<int32_t*>(static_cast<char*>(args.workspace.data) + at.offsets);
  auto* order = reinterpret_cast<int32_t*>(static_cast<char*>(args.workspace.data) + at.order);
  const int64_t experts = args.gate_up.experts;
  const int64_t choices = args.expert_ids.dim(1);
  const int64_t live = moe_rows(args);
  // Calls body(expert, choice) for each live choice of an expert that is here, by number.
  const auto for_choices = [&](auto&& body) {
    for (int64_t t = 0; t < live; ++t) {
      const int32_t* ids = args.expert_ids.as<const int32_t>() + t * args.expert_ids.stride(0);
      for (int64_t j = 0; j < choices; ++j) {
        const int64_t expert = moe_matrix(args, ids[j]);
        if (expert >= 0) body(expert, static_cast<int32_t>(t * choices + j));
      }
    }
  };
  for (int64_t x = 0; x <= experts; ++x) offsets[x] = 0;
  // offsets[x + 1] counts expert x, then becomes where it begins, then, one choice at a time, where it ends.
  for_choices([&](int64_t expert, int32_t) { ++offsets[expert + 1]; });
  int32_t begin = 0;
  for (int64_t x = 1; x <= experts; ++x) {
    const int32_t count = offsets[x];
    offsets[x] = begin;
    begin += count;
  }
  for_choices([&](int64_t expert, int32_t choice) { order[offsets[expert + 1]++] = choice; });
}

}  // namespace lockstep
