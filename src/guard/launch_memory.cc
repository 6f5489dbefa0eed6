#include "guard/launch_memory.h"

#include <algorithm>

#include "guard/ids.h"

namespace lockstep {
namespace {

constexpr uintptr_t kMargin = 256;                  // bytes on both sides of what a launch writes
constexpr uintptr_t kWindow = uintptr_t{16} << 10;  // of each arena, looked at per launch, in turn
constexpr int64_t kSmall = int64_t{256} << 10;      // bytes of an operand without rows that are kept whole

bool is_integer(DType dtype) {
  return dtype == DType::kI32 || dtype == DType::kI64 || dtype == DType::kU64 || dtype == DType::kU32;
}

}  // namespace

int32_t LaunchMemory::operand_at(uintptr_t address) const {
  for (size_t i = 0; i < operands.size(); ++i) {
    if (operands[i].bytes.begin <= address && address < operands[i].bytes.end) return static_cast<int32_t>(i);
  }
  return -1;
}

void read_launch(const StepView& step, const LaunchRecord& launch, LaunchMemory& memory) {
  memory.operands.clear();
  memory.runs.clear();
  memory.saved.clear();
  memory.written.clear();
  ++memory.turn;
  internal::LaunchReader(step, launch, memory).read();
  for (const Run& run : memory.runs) {
    if (run.is(kIsWritten)) memory.written.add({run.begin, run.begin + static_cast<uintptr_t>(run.bytes)});
  }
  memory.saved.finish();
  memory.written.finish();
}

namespace internal {

void LaunchReader::read() {
  for_each_operand(launch_, [&](const Operand& operand) {
    if (operand.weight != nullptr || operand.arg->kind == ArgKind::kScalar) return;
    if (operand.arg->rows == RowsTouched::kOwned) return owned(operand);
    if (operand.arg->kind != ArgKind::kTensor || operand.bytes[0] == kEverywhere) return;
    if (operand.arg->rows == RowsTouched::kNone) return whole(operand);
    if (const auto owners = owners_of(step_, launch_, operand)) return rows(operand, *owners);
    list(operand);
  });
  rest_of_memory();
}

int32_t LaunchReader::name(const Operand& operand, const ByteRange& bytes, int64_t row_bytes) {
  const DType dtype = operand.kv != nullptr                   ? operand.kv->dtype
                      : operand.arg->kind == ArgKind::kTensor ? operand.view.dtype
                                                              : DType::kU8;
  memory_.operands.push_back({.arg = operand.arg,
                              .dtype = dtype,
                              .bytes = bytes,
                              .base = reinterpret_cast<uintptr_t>(operand.address),
                              .row_bytes = row_bytes,
                              .bad_id = is_integer(dtype) ? bad_id(operand) : 0});
  return static_cast<int32_t>(memory_.operands.size()) - 1;
}

void LaunchReader::add(int32_t operand, int64_t row, ByteRange bytes, int roles) {
  memory_.runs.push_back({.begin = bytes.begin,
                          .bytes = static_cast<int64_t>(bytes.end - bytes.begin),
                          .operand = operand,
                          .row = static_cast<int32_t>(row),
                          .roles = static_cast<uint8_t>(roles)});
}

void LaunchReader::save(ByteRange bytes) { memory_.saved.add(bytes); }

int32_t LaunchReader::turn(int32_t count) const {
  return count > 0 ? static_cast<int32_t>(memory_.turn % count) : 0;
}

bool LaunchReader::overwrites_its_input(const Operand& operand) const {
  bool found = operand.arg->access == Access::kReadWrite;
  for_each_operand(launch_, [&](const Operand& other) {
    if (other.arg == operand.arg || !other.reads()) return;
    for (const ByteRange& range : other.ranges()) found = found || range.overlaps(operand.bytes[0]);
  });
  return found;
}

bool LaunchReader::has_row_outputs() const {
  bool found = false;
  for_each_operand(launch_, [&](const Operand& operand) {
    found = found || (operand.writes() && operand.arg->rows != RowsTouched::kNone);
  });
  return found;
}

// Just past the end of what an id may be, so that whoever follows it reads a neighbour instead of ending the
// process.
int64_t LaunchReader::bad_id(const Operand& operand) const {
  const StepLimits& limits = step_.limits;
  if (const auto field = step_.field_at(operand.address)) {
    const CacheGroup& group = limits.group(field->group);
    switch (info_of(field->id).unit) {
      case Unit::kTokens: return std::max(limits.vocab_size, limits.max_seq_len);
      case Unit::kRows: return limits.max_rows;
      case Unit::kPages: return group.num_pages;
      case Unit::kSlots: return int64_t{group.num_pages} * group.page_tokens;
      case Unit::kSequences: return limits.max_seqs;
      case Unit::kStates:
        for (int32_t g = 0; g < limits.num_groups; ++g) {
          if (limits.group(GroupId(g)).kind == GroupKind::kState) return limits.group(GroupId(g)).num_pages;
        }
        return 1;
      default: return std::max(1, limits.penalty_slots);
    }
  }
  const int64_t entries = table_entries(launch_);
  return entries > 0 ? entries : limits.vocab_size;
}

void LaunchReader::rows(const Operand& operand, std::span<const OwnedEntry> owners) {
  const OpArg& arg = *operand.arg;
  const TensorView& view = operand.view;
  const int32_t named = name(operand, operand.bytes[0], view.stride(0) * size_of(view.dtype));
  const bool fresh = operand.writes() && !overwrites_its_input(operand);
  const int pads = arg.pad == PadRows::kSkip ? kIsSkip : arg.pad == PadRows::kZero ? kIsZero : 0;
  // Where sequences begin has one entry more than there are sequences; the one behind the last live sequence
  // says where that one ends.
  const bool cumulative = arg.dims.starts_with("S1");
  for (int64_t row = 0; row < view.dim(0); ++row) {
    const auto at = static_cast<size_t>(cumulative && row > 0 ? row - 1 : row);
    const bool live = at < owners.size() && owners[at].owner == Owner::kLive;
    const bool first = cumulative && row == 0;
    int roles = 0;
    if (operand.reads() && !live && !first) roles |= kEntersNothing;
    if (operand.writes()) roles |= kIsWritten | (fresh ? kStartsFresh : 0) | (live ? kStaysSame : pads);
    if (roles == 0) continue;
    for_each_run(view, row, [&](uintptr_t begin, int64_t bytes) {
      add(named, row, {begin, begin + static_cast<uintptr_t>(bytes)}, roles);
    });
  }
  save(operand.bytes[0]);
}

// Lists of which a scalar of the launch counts the live entries, and rows of several ranks.
void LaunchReader::list(const Operand& operand) {
  const TensorView& view = operand.view;
  if (view.shape.rank == 0) return;
  const int32_t named = name(operand, operand.bytes[0], view.stride(0) * size_of(view.dtype));
  save(operand.bytes[0]);
  if (operand.writes()) {
    const int roles = kIsWritten | kStaysSame | (overwrites_its_input(operand) ? 0 : kStartsFresh);
    for (int64_t row = 0; row < view.dim(0); ++row) {
      for_each_run(view, row, [&](uintptr_t begin, int64_t bytes) {
        add(named, row, {begin, begin + static_cast<uintptr_t>(bytes)}, roles);
      });
    }
    return;
  }
  if (operand.arg->rows != RowsTouched::kLive) return;
  int64_t live = view.dim(0);
  for (const OpArg& arg : launch_.site.spec->args) {
    if (arg.kind == ArgKind::kScalar) live = scalar_operand(launch_, arg.name, step_.memory).value_or(live);
  }
  for (int64_t row = std::max<int64_t>(live, 0); row < view.dim(0); ++row) {
    for_each_run(view, row, [&](uintptr_t begin, int64_t bytes) {
      add(named, row, {begin, begin + static_cast<uintptr_t>(bytes)}, kEntersNothing);
    });
  }
}

// Operands without rows. Of a workspace, made for the largest step, as much is kept as this step may need.
void LaunchReader::whole(const Operand& operand) {
  ByteRange bytes = operand.bytes[0];
  const auto all = static_cast<int64_t>(bytes.end - bytes.begin);
  const double share =
      static_cast<double>(step_.plan.bucket().rows.get()) / std::max(1, step_.limits.max_rows);
  const int64_t kept = std::min(all, kSmall + static_cast<int64_t>(share * static_cast<double>(all)));
  if (!operand.writes()) {
    if (all <= kSmall) save(bytes);
    return;
  }
  const int32_t named = name(operand, bytes, 0);
  memory_.operands.back().workspace = true;
  memory_.operands.back().scratch = has_row_outputs();
  add(named, -1, bytes, kIsWritten);
  if (memory_.operands.back().scratch) return;  // threads share it out as they come
  bytes.end = bytes.begin + static_cast<uintptr_t>(kept);
  add(named, -1, bytes, kIsWritten | kStaysSame | (overwrites_its_input(operand) ? 0 : kStartsFresh));
  save(bytes);
}

// What lies around the outputs, and a piece of every arena, another one each time.
void LaunchReader::rest_of_memory() {
  const auto clip = [&](uintptr_t begin, uintptr_t end, const Arena& arena) {
    const auto base = reinterpret_cast<uintptr_t>(arena.data());
    const uintptr_t last = base + static_cast<uintptr_t>(arena.used());
    save({std::clamp(begin, base, last), std::clamp(end, base, last)});
  };
  for (const NamedOperand& operand : memory_.operands) {
    if (operand.arg->access == Access::kRead || operand.arg->rows == RowsTouched::kOwned) continue;
    const auto found = step_.map.find(reinterpret_cast<const void*>(operand.bytes.begin));
    if (!found) continue;
    if (!operand.workspace) clip(operand.bytes.begin - kMargin, operand.bytes.end, *found->arena);
    clip(operand.bytes.end, operand.bytes.end + kMargin, *found->arena);
    clip(operand.bytes.begin - kMargin, operand.bytes.begin, *found->arena);
  }
  for (const Arena* arena : step_.map.arenas()) {
    const auto windows = static_cast<uintptr_t>(arena->used()) / kWindow + 1;
    const auto base = reinterpret_cast<uintptr_t>(arena->data());
    const uintptr_t begin = base + static_cast<uintptr_t>(memory_.turn) % windows * kWindow;
    clip(begin, begin + kWindow, *arena);
  }
}

}  // namespace internal
}  // namespace lockstep
