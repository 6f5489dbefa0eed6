#include "contract/derived.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/fault.h"
#include "plan/step_plan.h"

namespace lockstep {

int64_t DerivedFields::footprint(std::span<const DerivedSpec* const> specs, const StepLimits& limits) {
  int64_t bytes = 0;
  for (const DerivedSpec* spec : specs) bytes += Arena::footprint(DType::kI32, {spec->capacity(limits)});
  return bytes;
}

Result<DerivedFields> DerivedFields::create(std::span<const DerivedSpec* const> specs,
                                            const StepLimits& limits, Arena& arena) {
  DerivedFields fields;
  fields.limits_ = limits;
  for (const DerivedSpec* spec : specs) {
    const int64_t capacity = spec->capacity(limits);
    Entry entry{.spec = spec,
                .values = LS_TRY(arena.allocate(spec->name, DType::kI32, {capacity})),
                .stamp = {},
                .host = {}};
    if (spec->maker == DerivedMaker::kHost) entry.host.assign(static_cast<size_t>(capacity), spec->pad_value);
    fields.entries_.push_back(std::move(entry));
  }
  return fields;
}

DerivedFields::Entry* DerivedFields::find(const DerivedSpec& spec) {
  const auto found =
      std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.spec == &spec; });
  return found == entries_.end() ? nullptr : &*found;
}

Status DerivedFields::refresh(Stream& stream, StagingRing& staging) {
  for (Entry& entry : entries_) {
    if (!entry.dirty) continue;
    StagingLease lease = LS_TRY(staging.lease(stream, entry.values.bytes()));
    std::memcpy(lease.bytes().data(), entry.host.data(), lease.bytes().size());
    LS_TRY(stream.copy(entry.values, std::move(lease)));
    entry.dirty = false;
  }
  return {};
}

Digest source_digest(const DerivedSpec& spec, const StepPlan& plan) {
  Digest digest = 0;
  for (const FieldId source : spec.sources) digest = mix64(digest, plan.field_digest(source));
  return digest;
}

namespace {

struct Broken {
  int64_t entry = 0;
  std::string expected;
};

std::optional<Broken> first_broken(const DerivedSpec& spec, DerivedSpec::Range range,
                                   std::span<const int32_t> values, std::span<const int32_t> of) {
  const bool cumulative = spec.rule == DerivedRule::kMonotone || spec.rule == DerivedRule::kPrefixSum;
  for (size_t i = 0; i < values.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    if (values[i] < range.low || values[i] >= range.high)
      return Broken{at, concat("in [", range.low, ", ", range.high, ")")};
    if (cumulative && i == 0 && values[0] != 0) return Broken{0, "0, where it begins"};
    if (cumulative && i > 0 && values[i] < values[i - 1])
      return Broken{at, concat("at least ", values[i - 1], ", the entry before")};
    if (spec.rule == DerivedRule::kPrefixSum && i > 0 && i <= of.size() &&
        values[i] - values[i - 1] != of[i - 1])
      return Broken{at, concat(values[i - 1] + of[i - 1], ", the prefix sum of ", spec.of->name)};
  }
  if (spec.rule != DerivedRule::kUnique) return std::nullopt;
  // `of` cuts the entries into sequences; without it they are one.
  const size_t pieces = of.size() < 2 ? 1 : of.size() - 1;
  for (size_t piece = 0; piece < pieces; ++piece) {
    const size_t begin = of.size() < 2 ? 0 : static_cast<size_t>(of[piece]);
    const size_t end =
        of.size() < 2 ? values.size() : std::min(values.size(), static_cast<size_t>(of[piece + 1]));
    for (size_t i = begin; i < end; ++i) {
      for (size_t j = begin; j < i; ++j) {
        if (values[i] == values[j])
          return Broken{static_cast<int64_t>(i), concat("no entry of its sequence twice, as entry ", j)};
      }
    }
  }
  return std::nullopt;
}

// Pieces are short and many: one look at each entry.
std::optional<Broken> first_falling(const DerivedSpec& spec, const StepLimits& limits, const StepPlan& plan,
                                    const DerivedCheck& check) {
  for (size_t piece = 0; piece + 1 < check.of.size(); ++piece) {
    const auto begin = static_cast<size_t>(std::max(0, check.of[piece]));
    const size_t end = std::min(check.values.size(), static_cast<size_t>(std::max(0, check.of[piece + 1])));
    if (begin >= end) continue;
    const int32_t last = check.values[end - 1];
    for (size_t i = begin + 1; i < end; ++i) {
      if (check.values[i] <= check.values[i - 1])
        return Broken{static_cast<int64_t>(i),
                      concat("more than ", check.values[i - 1], ", the entry before")};
    }
    if (spec.piece_end == nullptr) continue;
    const int32_t most = spec.piece_end(limits, plan, static_cast<int64_t>(piece));
    if (last >= most)
      return Broken{static_cast<int64_t>(end) - 1, concat("below ", most, ", inside its sequence")};
  }
  return std::nullopt;
}

}  // namespace

Status check_derived(const DerivedSpec& spec, const StepLimits& limits, const StepPlan& plan,
                     const DerivedCheck& check) {
  std::optional<Broken> found = first_broken(spec, spec.range(limits, plan), check.values, check.of);
  if (!found && spec.rule == DerivedRule::kAscending) found = first_falling(spec, limits, plan, check);
  if (!found) return {};
  return broken({.check = "P3",
                 .moment = check.moment,
                 .consumer = std::string(check.consumer),
                 .field = std::string(spec.name),
                 .row = found->entry,
                 .step = plan.scalar(field::epoch).get(),
                 .expected = found->expected,
                 .found = concat(check.values[static_cast<size_t>(found->entry)])});
}

}  // namespace lockstep
