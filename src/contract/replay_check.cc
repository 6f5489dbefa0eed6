#include "contract/replay_check.h"

#include <algorithm>
#include <cstring>

#include "base/fault.h"
#include "plan/step_plan.h"

namespace lockstep {
namespace {

std::string_view name_of(Binding::Kind kind) {
  switch (kind) {
    case Binding::Kind::kAddress: return "by address";
    case Binding::Kind::kValue: return "by value";
    case Binding::Kind::kDerived: return "as a derived field";
    case Binding::Kind::kDecision: return "as a decision";
  }
  return "";
}

bool same_use(const Binding& a, const Binding& b) {
  return a.consumer == b.consumer && a.kind == b.kind && a.field == b.field && a.group == b.group &&
         a.name == b.name;
}

Fault at_replay(const StepPlan& plan, std::string_view check, const Binding& binding) {
  return {.check = std::string(check),
          .moment = Moment::kReplay,
          .consumer = std::string(binding.consumer->name),
          .field = std::string(name_of(binding)),
          .step = plan.scalar(field::epoch).get()};
}

template <typename T>
T element(const std::byte* bytes, int64_t index) {
  T value;
  std::memcpy(&value, bytes + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

bool within(const FieldInfo& info, Freeze freeze, const std::byte* captured, const std::byte* live,
            int64_t index) {
  if (freeze == Freeze::kExact) {
    const auto width = static_cast<size_t>(info.element_bytes);
    return std::memcmp(captured + static_cast<size_t>(index) * width,
                       live + static_cast<size_t>(index) * width, width) == 0;
  }
  const auto ordered = [&](auto was, auto is) {
    return freeze == Freeze::kUpperBound ? is <= was : is >= was;
  };
  switch (info.element) {
    case Element::kF32: return ordered(element<float>(captured, index), element<float>(live, index));
    case Element::kI64: return ordered(element<int64_t>(captured, index), element<int64_t>(live, index));
    case Element::kU64: return ordered(element<uint64_t>(captured, index), element<uint64_t>(live, index));
    default: return ordered(element<int32_t>(captured, index), element<int32_t>(live, index));
  }
}

}  // namespace

Digest digest_of(std::span<const Binding> bindings) {
  Digest digest = bindings.size();
  for (const Binding& each : bindings) {
    const auto what = static_cast<uint64_t>(each.kind) | static_cast<uint64_t>(each.field) << 8 |
                      static_cast<uint64_t>(each.group.get()) << 16;
    digest = mix64(digest ^ reinterpret_cast<uintptr_t>(each.consumer),
                   reinterpret_cast<uintptr_t>(each.name.data()) ^ what);
    digest = mix64(digest ^ static_cast<uint64_t>(each.offset) ^ static_cast<uint64_t>(each.elements) << 32,
                   static_cast<uint64_t>(each.value));
  }
  return digest;
}

CapturedStep::CapturedStep(const StepPlan& plan, const PreparedStep& prepared,
                           std::span<const Binding> bindings)
    : prepared_(prepared),
      bindings_(bindings.begin(), bindings.end()),
      bindings_digest_(digest_of(bindings)),
      image_(plan.image().begin(), plan.image().end()) {
  for (size_t i = 0; i < bindings.size(); ++i) {
    const Binding& binding = bindings[i];
    if (binding.kind != Binding::Kind::kValue) continue;
    const std::byte* begin = plan.image().data() + binding.offset;
    held_.push_back({.binding = i, .offset = values_.size()});
    values_.insert(values_.end(), begin, begin + binding.elements * info_of(binding.field).element_bytes);
  }
}

Status CapturedStep::check(const StepPlan& plan, const PreparedStep& prepared,
                           std::span<const Binding> bindings) const {
  LS_TRY(check_bindings(plan, bindings));
  const auto was = prepared_.parts(), is = prepared.parts();
  for (size_t part = 0; part < std::max(was.size(), is.size()); ++part) {
    const bool both = part < was.size() && part < is.size();
    if (both && was[part].maker == is[part].maker && was[part].group == is[part].group &&
        std::memcmp(prepared_.bytes_of(was[part]).data(), prepared.bytes_of(is[part]).data(),
                    prepared.bytes_of(is[part]).size()) == 0)
      continue;
    if (both && was[part].maker == is[part].maker &&
        within_bounds(plan, *was[part].maker, prepared_.bytes_of(was[part]), prepared.bytes_of(is[part])))
      continue;
    LS_TRY(undeclared(plan, prepared, part));
  }
  return {};
}

Status CapturedStep::check_bindings(const StepPlan& plan, std::span<const Binding> bindings) const {
  // A log that was held to this list to its end is this list.
  if (bindings.data() == bindings_.data() && bindings.size() == bindings_.size()) {
    for (const Held& held : held_) LS_TRY(check_values(plan, held));
    return {};
  }
  auto held = held_.begin();
  const size_t count = std::min(bindings_.size(), bindings.size());
  for (size_t i = 0; i < count; ++i) {
    const Binding& was = bindings_[i];
    const Binding& is = bindings[i];
    if (!same_use(was, is)) {
      Fault fault = at_replay(plan, "R5", is);
      fault.found = concat("bound ", name_of(is.kind), " as number ", i);
      fault.expected =
          concat(was.consumer->name, " to bind ", name_of(was), " ", name_of(was.kind), ", as captured");
      return broken(std::move(fault));
    }
    if (was.offset != is.offset || was.elements != is.elements) {
      Fault fault = at_replay(plan, "R1", is);
      fault.found = concat(is.elements, " elements at byte ", is.offset);
      fault.expected = concat(was.elements, " elements at byte ", was.offset, ", as captured");
      LS_TRY(broken(std::move(fault)));
    }
    if (was.value != is.value) {
      Fault fault = at_replay(plan, is.choice == DecisionKind::kBranch ? "R5" : "R7", is);
      fault.found = concat(is.value);
      fault.expected = concat(was.value, ", as captured");
      LS_TRY(broken(std::move(fault)));
    }
    if (was.kind == Binding::Kind::kValue) LS_TRY(check_values(plan, *held++));
  }
  if (bindings_.size() != bindings.size()) {
    const bool more = bindings.size() > count;
    Fault fault = at_replay(plan, "R5", more ? bindings[count] : bindings_[count]);
    fault.found = more ? "bound now and not at the capture" : "bound at the capture and not now";
    fault.expected = "the same bindings at every replay";
    LS_TRY(broken(std::move(fault)));
  }
  return {};
}

// Whether each word that differs is the value of a field that its maker has declared as a bound, then and
// now.
bool CapturedStep::within_bounds(const StepPlan& plan, const ConsumerSpec& maker,
                                 std::span<const std::byte> was, std::span<const std::byte> is) const {
  if (was.size() != is.size()) return false;
  const auto bounded = [&](int32_t captured, int32_t live) {
    return std::any_of(bindings_.begin(), bindings_.end(), [&](const Binding& binding) {
      const bool bound = binding.kind == Binding::Kind::kValue && binding.freeze != Freeze::kExact;
      if (!bound || binding.consumer != &maker || info_of(binding.field).element != Element::kI32)
        return false;
      for (int64_t i = 0; i < binding.elements; ++i) {
        if (element<int32_t>(image_.data() + binding.offset, i) == captured &&
            element<int32_t>(plan.image().data() + binding.offset, i) == live)
          return true;
      }
      return false;
    });
  };
  for (size_t at = 0; at + 4 <= was.size(); at += 4) {
    const auto captured = element<int32_t>(was.data() + at, 0), live = element<int32_t>(is.data() + at, 0);
    if (captured != live && !bounded(captured, live)) return false;
  }
  return true;
}

Status CapturedStep::check_values(const StepPlan& plan, const Held& held) const {
  const Binding& binding = bindings_[held.binding];
  const FieldInfo& info = info_of(binding.field);
  const std::byte* captured = values_.data() + held.offset;
  const std::byte* live = plan.image().data() + binding.offset;
  const auto bytes = static_cast<size_t>(binding.elements) * static_cast<size_t>(info.element_bytes);
  if (std::memcmp(captured, live, bytes) == 0) return {};
  for (int64_t i = 0; i < binding.elements; ++i) {
    if (within(info, binding.freeze, captured, live, i)) continue;
    Fault fault = at_replay(plan, "R2", binding);
    fault.row = info.form == Form::kScalar ? -1 : i;
    fault.found = element_text(info, live + i * info.element_bytes);
    const std::string_view relation = binding.freeze == Freeze::kExact        ? ""
                                      : binding.freeze == Freeze::kUpperBound ? "at most "
                                                                              : "at least ";
    fault.expected = concat(relation, element_text(info, captured + i * info.element_bytes),
                            ", which the graph has captured by value");
    return broken(std::move(fault));
  }
  return {};
}

// A consumer came to other bytes although all that it bound is the same: it read something it does not
// declare. The differing word is looked up among the live fields, then and now, so that it has a name.
Status CapturedStep::undeclared(const StepPlan& plan, const PreparedStep& prepared, size_t part) const {
  const auto was = prepared_.parts(), is = prepared.parts();
  if (part >= was.size() || part >= is.size() || was[part].maker != is[part].maker) {
    const auto name = [part](std::span<const PreparedStep::Part> parts) {
      return part < parts.size() ? std::string(parts[part].maker->name) : std::string("nothing");
    };
    return broken({.check = "L2",
                   .moment = Moment::kReplay,
                   .consumer = name(is),
                   .step = plan.scalar(field::epoch).get(),
                   .expected = concat(name(was), ", as captured"),
                   .found = concat("prepared as part ", part)});
  }
  const auto before = prepared_.bytes_of(was[part]), now = prepared.bytes_of(is[part]);
  size_t at = 0;
  while (at + 4 <= before.size() && std::memcmp(before.data() + at, now.data() + at, 4) == 0) at += 4;
  const auto captured = element<int32_t>(before.data() + at, 0), live = element<int32_t>(now.data() + at, 0);
  Fault fault{.check = "R2",
              .moment = Moment::kReplay,
              .consumer = std::string(was[part].maker->name),
              .field = std::string(kUnnamed),
              .step = plan.scalar(field::epoch).get(),
              .expected = concat(captured,
                                 ", as captured: what a consumer prepares may depend on addresses, frozen "
                                 "facts and declared values only"),
              .found = concat(live, " at byte ", at)};
  for (const FieldInfo& info : kFields) {
    const ImageLayout::Place& place = plan.layout().place(info.id);
    if (info.life != Life::kLive || place.offset < 0 || info.element != Element::kI32) continue;
    for (int32_t i = 0; i < place.count; ++i) {
      if (element<int32_t>(plan.image().data() + place.offset, i) != live) continue;
      if (element<int32_t>(image_.data() + place.offset, i) != captured) continue;
      fault.field = std::string(info.name);
      fault.found = concat(live);
      fault.row = info.form == Form::kScalar ? -1 : i;
      return broken(std::move(fault));
    }
  }
  return broken(std::move(fault));
}

std::string reason_against_capture(std::span<const Binding> bindings) {
  for (const Binding& binding : bindings) {
    if (binding.kind != Binding::Kind::kValue || binding.freeze != Freeze::kExact) continue;
    if (info_of(binding.field).life == Life::kFrozen) continue;
    return concat(binding.consumer->name, " reads ", name_of(binding), " on the host");
  }
  return {};
}

}  // namespace lockstep
