#include "plan/fields.h"

#include <cstring>
#include <sstream>

#include "base/status.h"

namespace lockstep {
namespace {

constexpr int32_t bytes_of(Element element) {
  switch (element) {
    case Element::kI32:
    case Element::kF32: return 4;
    case Element::kI64:
    case Element::kU64:
    case Element::kI32x2: return 8;
    case Element::kI32x3: return 12;
    case Element::kI32x4: return 16;
  }
  return 0;
}

// Every type of the table is as wide as the bytes it is read as, and none has padding bytes: a digest never
// depends on what memory held before.
#define LS_FIELD_CHECK(name, type, ...)                                                              \
  static_assert(sizeof(type) == bytes_of(element_of<type>()) && std::is_trivially_copyable_v<type>); \
  static_assert(std::has_unique_object_representations_v<type> || std::is_same_v<type, float>);
LS_PLAN_FIELDS(LS_FIELD_CHECK)
#undef LS_FIELD_CHECK

constexpr bool skip_means_minus_one() {
  for (const FieldInfo& info : kFields) {
    if (info.pad == Pad::kSkip && info.pad_value != -1) return false;
  }
  return true;
}
static_assert(skip_means_minus_one(), "SKIP is -1 in every image");

// The pad column of the printed table.
std::string pad_text(const FieldInfo& info) {
  switch (info.pad) {
    case Pad::kSequence: return "by its sequence";
    case Pad::kSkip: return "SKIP";
    case Pad::kNone: return "none";
    case Pad::kValue: return std::to_string(info.pad_value);
  }
  return "unknown";
}

}  // namespace

std::string_view name_of(Unit unit) {
  switch (unit) {
    case Unit::kRows: return "rows";
    case Unit::kTokens: return "tokens";
    case Unit::kPages: return "pages";
    case Unit::kSlots: return "slots";
    case Unit::kStates: return "states";
    case Unit::kSequences: return "sequences";
    case Unit::kBytes: return "bytes";
    case Unit::kNone: return "none";
  }
  return "unknown";
}

std::string_view name_of(Form form) {
  switch (form) {
    case Form::kScalar: return "scalar";
    case Form::kPerRow: return "per row";
    case Form::kPerSequence: return "per sequence";
    case Form::kCumulative: return "cumulative";
    case Form::kPerLogitsRow: return "per logits row";
    case Form::kEdits: return "list of edits";
    case Form::kCopies: return "list of copies";
    case Form::kPerRank: return "per rank";
    case Form::kPerGathered: return "per gathered row";
  }
  return "unknown";
}

std::string_view name_of(Extent extent) {
  switch (extent) {
    case Extent::kLive: return "live";
    case Extent::kPadded: return "padded";
  }
  return "unknown";
}

std::string_view name_of(Space space) {
  switch (space) {
    case Space::kGlobal: return "global";
    case Space::kRankLocal: return "rank-local";
    case Space::kKernelPage: return "kernel page";
  }
  return "unknown";
}

std::string_view name_of(Share share) {
  switch (share) {
    case Share::kAll: return "all";
    case Share::kOwn: return "own";
  }
  return "unknown";
}

std::string_view name_of(Scope scope) {
  switch (scope) {
    case Scope::kPlan: return "plan";
    case Scope::kPagedGroup: return "paged group";
    case Scope::kAnyGroup: return "any group";
  }
  return "unknown";
}

std::string_view name_of(Life life) {
  switch (life) {
    case Life::kLive: return "live";
    case Life::kFrozen: return "frozen";
  }
  return "unknown";
}

std::string_view name_of(Phase phase) {
  switch (phase) {
    case Phase::kIdle: return "idle";
    case Phase::kDecode: return "decode";
    case Phase::kPrefill: return "prefill";
    case Phase::kMixed: return "mixed";
  }
  return "unknown";
}

std::string field_table_text() {
  std::ostringstream out;
  out << "# The fields of the step plan\n\n"
         "Printed from `src/plan/fields.h`; a test compares this page with the table. To print it anew, run\n"
         "`plan_test --gtest_filter='FieldTable.*'` with `LOCKSTEP_PRINT_DOCS=1`.\n\n"
         "- **unit**: what an entry counts or names. **form**: how many entries there are.\n"
         "- **extent**: whether the entries cover the live things only, or those of the bucket.\n"
         "- **space**: whether ranks share the numbers. **scope**: one array, or one per cache group.\n"
         "- **share**: whether context-parallel ranks that share a step's rows hold all the same, or what "
         "is\n"
         "  their own rows'.\n"
         "- **pad**: what an entry past the live ones holds: a value, SKIP (-1), or what follows from the "
         "pad\n"
         "  sequence that owns it. Lists have no pad entries; their tails are zero.\n"
         "- **life**: `live` fields change at each replay of a graph, `frozen` ones are in its key.\n\n"
         "| field | says | type | unit | form | extent | space | share | scope | pad | life |\n"
         "|---|---|---|---|---|---|---|---|---|---|---|\n";
  for (const FieldInfo& info : kFields) {
    out << "| `" << info.name << "` | " << meaning_of(info.id) << " | `" << info.type << "` | "
        << name_of(info.unit) << " | " << name_of(info.form) << " | " << name_of(info.extent) << " | "
        << name_of(info.space) << " | " << name_of(info.share) << " | " << name_of(info.scope) << " | "
        << pad_text(info) << " | " << name_of(info.life) << " |\n";
  }
  return std::move(out).str();
}

namespace {

template <typename T>
std::string numbers_text(const std::byte* bytes, int count) {
  std::string text = count > 1 ? "(" : "";
  for (int i = 0; i < count; ++i) {
    T number;
    std::memcpy(&number, bytes + static_cast<size_t>(i) * sizeof(T), sizeof(T));
    text += concat(i > 0 ? ", " : "", number);
  }
  return count > 1 ? text + ")" : text;
}

}  // namespace

std::string element_text(const FieldInfo& info, const std::byte* element) {
  switch (info.element) {
    case Element::kI32: return numbers_text<int32_t>(element, 1);
    case Element::kI64: return numbers_text<int64_t>(element, 1);
    case Element::kU64: return numbers_text<uint64_t>(element, 1);
    case Element::kF32: return numbers_text<float>(element, 1);
    case Element::kI32x2: return numbers_text<int32_t>(element, 2);
    case Element::kI32x3: return numbers_text<int32_t>(element, 3);
    case Element::kI32x4: return numbers_text<int32_t>(element, 4);
  }
  return {};
}

}  // namespace lockstep
