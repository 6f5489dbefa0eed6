// What a launch touches of memory that others own too: pages, states, counts, tables.
#include <algorithm>
#include <array>

#include "guard/launch_memory.h"

namespace lockstep::internal {
namespace {

constexpr int32_t kNeighbours = 2;  // pages or slots of nobody in this step, looked at per launch, in turn

}  // namespace

const OpArg* find_tensor(const OpSpec& spec, std::string_view dims) {
  for (const OpArg& arg : spec.args) {
    if (arg.kind == ArgKind::kTensor && arg.dims == dims) return &arg;
  }
  return nullptr;
}

size_t early_halves(const StepPlan& plan) {
  const bool cut = plan.scalar(field::cp_ranks) > 1;
  return cut ? static_cast<size_t>(std::max(0, plan.scalar(field::num_seqs).get() / 2)) : 0;
}

// Tokens of a sequence that the launch may look at: up to this rank's last row, or where the launch reads
// what all ranks have computed, up to theirs.
int64_t LaunchReader::length_of(size_t sequence) const {
  if (find_tensor(*launch_.site.spec, "S2") == nullptr)
    return step_.plan.get(field::seq_lens)[sequence].get();
  const CpSegment& span = step_.plan.get(field::cp_spans)[sequence];
  return int64_t{span.start.get()} + span.length.get();
}

void LaunchReader::owned(const Operand& operand) {
  if (operand.kv != nullptr) return cache(operand);
  if (operand.arg->kind == ArgKind::kMemory) return page_copies(operand);
  if (operand.arg->kind != ArgKind::kTensor || operand.view.shape.rank == 0) return;
  if (operand.arg->dims == "RM" || operand.arg->dims == "RL")
    return page_table(operand, operand.arg->dims == "RL" ? step_.limits.selection.group : group_);
  if (operand.arg->dims.starts_with('P')) return compressed(operand);
  if (operand.arg->dims == "NV") return counts(operand);
  if (operand.arg->dims.starts_with('N')) return states(operand);
  picked_rows(operand);
}

// --- caches
// -------------------------------------------------------------------------------------------------

void LaunchReader::cache(const Operand& operand) {
  const KvView& kv = *operand.kv;
  const auto size = static_cast<int64_t>(size_of(kv.dtype));
  std::array<int32_t, 2> planes{};
  planes[0] = name(operand, operand.bytes[0], kv.k.page_stride * size);
  planes[1] = name(operand, operand.bytes[1], kv.v.page_stride * size);
  memory_.operands.back().base = reinterpret_cast<uintptr_t>(kv.v.data);
  if (operand.writes()) {
    cache_writes(operand, planes);
  } else {
    cache_reads(operand, planes);
  }
}

void LaunchReader::cache_slot(const Operand& operand, const std::array<int32_t, 2>& planes, int64_t slot,
                              int64_t row, int roles) {
  const KvView& kv = *operand.kv;
  const auto size = static_cast<int64_t>(size_of(kv.dtype));
  const int64_t page = slot / kv.page_tokens, token = slot % kv.page_tokens;
  const std::array<const KvPlane*, 2> of{&kv.k, &kv.v};
  for (size_t p = 0; p < of.size(); ++p) {
    for (int64_t head = 0; head < kv.heads; ++head) {
      for (int64_t d = 0; d < kv.head_dim; d += of[p]->chunk) {
        const auto begin = reinterpret_cast<uintptr_t>(of[p]->data) +
                           static_cast<uintptr_t>(of[p]->offset(page, head, token, d) * size);
        add(planes[p], row, {begin, begin + static_cast<uintptr_t>(of[p]->chunk * size)}, roles);
      }
    }
  }
}

// A plane's share of a page lies without gaps, in whatever order.
void LaunchReader::cache_page(const Operand& operand, const std::array<int32_t, 2>& planes, int64_t page,
                              int roles) {
  const KvView& kv = *operand.kv;
  const auto size = static_cast<int64_t>(size_of(kv.dtype));
  const int64_t bytes = int64_t{kv.page_tokens} * kv.heads * kv.head_dim * size;
  const std::array<const KvPlane*, 2> of{&kv.k, &kv.v};
  for (size_t p = 0; p < of.size(); ++p) {
    const auto begin =
        reinterpret_cast<uintptr_t>(of[p]->data) + static_cast<uintptr_t>(page * of[p]->page_stride * size);
    const ByteRange run{begin, begin + static_cast<uintptr_t>(bytes)};
    save(run);
    if (roles != 0) add(planes[p], page, run, roles);
  }
}

void LaunchReader::cache_writes(const Operand& operand, const std::array<int32_t, 2>& planes) {
  const KvView& kv = *operand.kv;
  // Rows of all ranks have no owners here: their slots alone tell live ones.
  const bool gathered = find_tensor(*launch_.site.spec, "N") != nullptr;
  const auto slots = step_.plan.get(gathered ? field::cp_slot_mapping : field::slot_mapping, group_);
  const auto owners = step_.owners.rows();
  cache_page(operand, planes, 0, 0);
  for (int32_t i = 0; i < kNeighbours; ++i) cache_page(operand, planes, turn(kv.num_pages - i) + i, 0);
  int64_t last = -1;
  for (size_t row = 0; row < slots.size(); ++row) {
    if (slots[row].is_skip() || (!gathered && owners[row].owner != Owner::kLive)) continue;
    const int64_t slot = slots[row].slot(), page = slot / kv.page_tokens;
    if (page < 0 || page >= kv.num_pages) continue;
    if (page != last) {
      // The neighbours of a page are where a slot that is off by one leads.
      for (int64_t near = std::max<int64_t>(page - 1, 0); near <= page + 1 && near < kv.num_pages; ++near)
        cache_page(operand, planes, near, 0);
      last = page;
    }
    const bool fresh = operand.arg->access == Access::kWrite;
    cache_slot(operand, planes, slot, static_cast<int64_t>(row),
               kIsWritten | kStaysSame | (fresh ? kStartsFresh : 0));
  }
}

// Tokens past the end of a sequence in its last page, the pad page, and pages that no sequence of the step
// has. Without a page table nobody can say which pages are whose.
void LaunchReader::cache_reads(const Operand& operand, const std::array<int32_t, 2>& planes) {
  const KvView& kv = *operand.kv;
  const OpArg* arg = find_tensor(*launch_.site.spec, "RM");
  const std::optional<Operand> table = arg != nullptr ? operand_of(launch_, *arg) : std::nullopt;
  if (!table || table->view.dtype != DType::kI32) return;
  std::vector<std::byte> copy;
  const TensorView pages = step_.memory.look(table->view, copy);
  const auto table_rows = step_.plan.get(field::table_rows, group_);
  std::vector<bool> has(static_cast<size_t>(kv.num_pages), false);
  const auto page_at = [&](int64_t row, int64_t index) -> int64_t {
    if (row < 0 || row >= pages.dim(0) || index >= pages.dim(1)) return -1;
    const int64_t page = pages.as<const int32_t>()[row * pages.stride(0) + index];
    return page < kv.num_pages ? page : -1;
  };
  const auto sequences = step_.owners.sequences();
  for (size_t s = early_halves(step_.plan); s < sequences.size(); ++s) {
    if (sequences[s].owner != Owner::kLive) continue;
    const int64_t length = length_of(s), row = table_rows[s].get();
    int64_t page = -1;
    for (int64_t first = 0; first < length; first += kv.page_tokens) {
      page = page_at(row, first / kv.page_tokens);
      if (page >= 0) has[static_cast<size_t>(page)] = true;
    }
    if (page < 0) continue;
    cache_page(operand, planes, page, 0);
    for (int64_t token = (length - 1) % kv.page_tokens + 1; token < kv.page_tokens; ++token)
      cache_slot(operand, planes, page * kv.page_tokens + token, page, kEntersNothing);
  }
  cache_page(operand, planes, 0, kEntersNothing);
  int32_t found = 0;
  for (int32_t i = 0; i < kv.num_pages && found < kNeighbours; ++i) {
    const int32_t page = (turn(kv.num_pages) + i) % kv.num_pages;
    if (page == 0 || has[static_cast<size_t>(page)]) continue;
    cache_page(operand, planes, page, kEntersNothing);
    ++found;
  }
}

// --- states and counts
// --------------------------------------------------------------------------------------

void LaunchReader::slot(const Operand& operand, int32_t named, int64_t slot, int roles) {
  if (slot < 0 || slot >= operand.view.dim(0)) return;
  for_each_run(operand.view, slot, [&](uintptr_t begin, int64_t bytes) {
    const ByteRange run{begin, begin + static_cast<uintptr_t>(bytes)};
    save(run);
    if (roles != 0) add(named, slot, run, roles);
  });
}

void LaunchReader::states(const Operand& operand) {
  const auto num_slots = static_cast<int32_t>(operand.view.dim(0));
  const int32_t named = name(operand, operand.bytes[0], operand.view.stride(0) * size_of(operand.view.dtype));
  std::vector<bool> read(static_cast<size_t>(num_slots)), written(read);
  const auto mark = [&](std::vector<bool>& set, int32_t at) {
    if (at >= 0 && at < num_slots) set[static_cast<size_t>(at)] = true;
  };
  const auto sequences = step_.owners.sequences();
  for (size_t s = 0; s < sequences.size(); ++s) {
    if (sequences[s].owner != Owner::kLive) continue;
    if (step_.plan.get(field::has_initial_state)[s] != 0)
      mark(read, step_.plan.get(field::state_read_slot)[s].get());
  }
  const auto rows = step_.owners.rows();
  const auto targets = step_.plan.get(field::state_write_slots);
  if (operand.writes()) {
    for (size_t row = 0; row < rows.size(); ++row) {
      if (rows[row].owner == Owner::kLive && !targets[row].is_skip())
        mark(written, targets[row].slot().get());
    }
    // States that other ranks hand on.
    for (size_t s = 0; s < early_halves(step_.plan); ++s)
      mark(written, step_.plan.get(field::state_read_slot)[s].get());
  }
  int32_t others = 0;
  for (int32_t i = 0; i < num_slots; ++i) {
    const int32_t at = (turn(num_slots) + i) % num_slots;
    const auto a = static_cast<size_t>(at);
    const int fresh = operand.reads() && !read[a] ? kEntersNothing : 0;
    if (written[a]) {
      slot(operand, named, at, kIsWritten | kStaysSame | fresh);
    } else if (read[a]) {
      slot(operand, named, at, 0);
    } else if (at == 0 || others++ < kNeighbours) {
      slot(operand, named, at, fresh);
    }
  }
}

void LaunchReader::counts(const Operand& operand) {
  const auto num_slots = static_cast<int32_t>(operand.view.dim(0));
  const int32_t named = name(operand, operand.bytes[0], operand.view.stride(0) * size_of(operand.view.dtype));
  std::vector<bool> has(static_cast<size_t>(num_slots));
  const auto sequences = step_.owners.sequences();
  const auto slots = step_.plan.get(field::penalty_slots);
  for (size_t s = 0; s < sequences.size(); ++s) {
    const int32_t at = slots[s].get();
    if (sequences[s].owner != Owner::kLive || at < 0 || at >= num_slots) continue;
    has[static_cast<size_t>(at)] = true;
    slot(operand, named, at, operand.writes() ? kIsWritten | kStaysSame : 0);
  }
  const int32_t other = turn(num_slots);
  if (num_slots > 0 && !has[static_cast<size_t>(other)])
    slot(operand, named, other, operand.reads() ? kEntersNothing : 0);
}

// --- tables, copies, picked rows
// ----------------------------------------------------------------------------

void LaunchReader::page_table(const Operand& operand, GroupId group) {
  const TensorView& view = operand.view;
  const int32_t named = name(operand, operand.bytes[0], view.stride(0) * size_of(view.dtype));
  memory_.operands.back().bad_id = step_.limits.group(group).num_pages;
  const auto entry = [&](int64_t row, int64_t from, int64_t to, int roles) {
    if (row < 0 || row >= view.dim(0) || from >= to || to > view.dim(1)) return;
    const auto begin =
        reinterpret_cast<uintptr_t>(view.data) + static_cast<uintptr_t>((row * view.stride(0) + from) * 4);
    add(named, row, {begin, begin + static_cast<uintptr_t>((to - from) * 4)}, roles);
  };
  if (operand.writes()) {
    const auto edits = step_.plan.get(field::table_edits, group);
    const auto live = static_cast<size_t>(std::max(0, step_.plan.scalar(field::num_table_edits, group)));
    for (const TableEdit& edit : edits.first(std::min(live, edits.size()))) {
      slot(operand, named, edit.row.get(), 0);
      entry(edit.row.get(), edit.index, edit.index + 1, kIsWritten | kStaysSame | kStartsFresh);
    }
    slot(operand, named, turn(static_cast<int32_t>(view.dim(0))), 0);
    return;
  }
  const auto table_rows = step_.plan.get(field::table_rows, group);
  const auto sequences = step_.owners.sequences();
  const int32_t tokens = std::max(1, step_.limits.group(group).page_tokens);
  std::vector<bool> has(static_cast<size_t>(view.dim(0)));
  for (size_t s = early_halves(step_.plan); s < sequences.size(); ++s) {
    const int64_t row = table_rows[s].get();
    if (sequences[s].owner != Owner::kLive || row < 0 || row >= view.dim(0)) continue;
    has[static_cast<size_t>(row)] = true;
    const int64_t pages = (length_of(s) + tokens - 1) / tokens;
    slot(operand, named, row, 0);
    entry(row, pages, view.dim(1), kEntersNothing);
  }
  slot(operand, named, 0, kEntersNothing);
  const int32_t other = turn(static_cast<int32_t>(view.dim(0)));
  if (!has[static_cast<size_t>(other)]) slot(operand, named, other, kEntersNothing);
}

void LaunchReader::page_copies(const Operand& operand) {
  const auto value = [&](std::string_view member) { return value_operand(launch_, member).value_or(0); };
  const auto extent = operand.arg->extent;
  if (extent.size() != 3) return;
  const int64_t pages = value(extent[0].count), stride = value(extent[0].stride);
  const int64_t segments = value(extent[1].count), segment_stride = value(extent[1].stride);
  const int64_t bytes = value(extent[2].count);
  const int32_t named = name(operand, operand.bytes[0], stride);
  const auto page = [&](int64_t id, int roles) {
    for (int64_t i = 0; id >= 0 && id < pages && i < segments; ++i) {
      const auto begin = reinterpret_cast<uintptr_t>(operand.address) +
                         static_cast<uintptr_t>(id * stride + i * segment_stride);
      const ByteRange run{begin, begin + static_cast<uintptr_t>(bytes)};
      save(run);
      if (roles != 0) add(named, id, run, roles);
    }
  };
  const auto copies = step_.plan.get(field::copies, group_);
  const auto live = static_cast<size_t>(std::max(0, step_.plan.scalar(field::num_copies, group_)));
  page(0, 0);
  page(turn(static_cast<int32_t>(pages)), 0);
  for (const PageCopy& copy : copies.first(std::min(live, copies.size()))) {
    page(copy.source.get(), 0);
    page(copy.target.get(), kIsWritten | kStaysSame | kStartsFresh);
  }
}

// Rows that the plan names one by one: those whose logits are wanted, tokens of an earlier step.
void LaunchReader::picked_rows(const Operand& operand) {
  const TensorView& view = operand.view;
  const int32_t named = name(operand, operand.bytes[0], view.stride(0) * size_of(view.dtype));
  std::vector<bool> has(static_cast<size_t>(view.dim(0)));
  const auto pick = [&](int32_t row) {
    if (row >= 0 && row < view.dim(0)) has[static_cast<size_t>(row)] = true;
  };
  if (operand.arg->dims.starts_with('T')) {
    for (const RowIndex row : step_.plan.get(field::logits_rows)) pick(row.get());
  } else {
    for (const TokenSource source : step_.plan.get(field::token_source))
      if (!source.is_literal()) pick(source.logits_row());
  }
  save(operand.bytes[0]);
  for (int64_t row = 0; row < view.dim(0) && operand.reads(); ++row) {
    if (has[static_cast<size_t>(row)]) continue;
    for_each_run(view, row, [&](uintptr_t begin, int64_t bytes) {
      add(named, row, {begin, begin + static_cast<uintptr_t>(bytes)}, kEntersNothing);
    });
  }
}

}  // namespace lockstep::internal
