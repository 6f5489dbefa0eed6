// What a launch touches of the pages of compressed keys: rows of windows, of one group for all layers.
#include <algorithm>

#include "guard/launch_memory.h"

namespace lockstep::internal {
namespace {

constexpr int32_t kNeighbours = 2;  // pages of nobody in this step, looked at per launch, in turn

// Rows 1, 2, ... of a sequence are its windows of 2 * stride tokens, one every stride: how many there are.
int64_t complete_windows(int64_t length, int64_t stride) {
  return length < 2 * stride ? 0 : (length - 2 * stride) / stride + 1;
}

}  // namespace

void LaunchReader::compressed_row(const Operand& operand, int32_t named, const WindowPlace& place,
                                  int roles) {
  const TensorView& view = operand.view;
  const auto size = static_cast<int64_t>(size_of(view.dtype));
  for (int64_t head = 0; head < view.dim(1); ++head) {
    const int64_t at = place.page * view.stride(0) + head * view.stride(1) + place.row * view.stride(2);
    const auto begin = reinterpret_cast<uintptr_t>(view.data) + static_cast<uintptr_t>(at * size);
    const ByteRange run{begin, begin + static_cast<uintptr_t>(view.dim(3) * size)};
    save(run);
    if (roles != 0) add(named, place.page, run, roles);
  }
}

// Of a sequence, row 0 and those of windows that are not complete enter nothing; of those that the step
// completes, an op that writes writes every one. Without a page table nobody can say which pages are whose.
void LaunchReader::compressed(const Operand& operand) {
  const TensorView& view = operand.view;
  const int32_t named = name(operand, operand.bytes[0], view.stride(0) * size_of(view.dtype));
  const OpArg* arg = find_tensor(*launch_.site.spec, "RL");
  const std::optional<Operand> table = arg != nullptr ? operand_of(launch_, *arg) : std::nullopt;
  if (!table || table->view.dtype != DType::kI32 || view.shape.rank != 4) return;
  std::vector<std::byte> copy;
  const TensorView entries = step_.memory.look(table->view, copy);
  const GroupId group = step_.limits.selection.group;
  const int64_t per_page = view.dim(2), stride = step_.limits.group(group).page_tokens / per_page;
  const auto table_rows = step_.plan.get(field::table_rows, group);
  const auto spans = step_.plan.get(field::cp_spans);
  const auto sequences = step_.owners.sequences();
  const bool writes = operand.writes();
  std::vector<bool> has(static_cast<size_t>(view.dim(0)), false);
  for (size_t s = early_halves(step_.plan); s < sequences.size(); ++s) {
    const int64_t table_row = table_rows[s].get(), length = length_of(s);
    if (sequences[s].owner != Owner::kLive || table_row < 0 || table_row >= entries.dim(0)) continue;
    const int64_t before = complete_windows(spans[s].start.get(), stride);
    const int64_t after = complete_windows(length, stride);
    for (int64_t row = 0; row * stride < length; ++row) {
      if (row / per_page >= entries.dim(1)) break;
      const int64_t page = entries.as<const int32_t>()[table_row * entries.stride(0) + row / per_page];
      if (page < 0 || page >= view.dim(0)) continue;
      has[static_cast<size_t>(page)] = true;
      const bool is_window = row > 0 && row <= after, is_new = row > before && row <= after;
      int roles = 0;
      if (writes && is_new) roles = kIsWritten | kStaysSame | kStartsFresh;
      if (!writes && !is_window) roles = kEntersNothing;
      if (writes || roles != 0) compressed_row(operand, named, {page, row % per_page}, roles);
    }
  }
  const int roles = writes ? 0 : kEntersNothing;
  const auto whole_page = [&](int64_t page) {
    for (int64_t row = 0; row < per_page; ++row) compressed_row(operand, named, {page, row}, roles);
  };
  whole_page(0);
  const auto pages = static_cast<int32_t>(view.dim(0));
  int32_t found = 0;
  for (int32_t i = 0; i < pages && found < kNeighbours; ++i) {
    const int32_t page = (turn(pages) + i) % pages;
    if (page == 0 || has[static_cast<size_t>(page)]) continue;
    whole_page(page);
    ++found;
  }
}

}  // namespace lockstep::internal
