#include "contract/derived_check.h"

#include <algorithm>

#include "base/fault.h"
#include "kernels/common/operands.h"
#include "plan/step_plan.h"

namespace lockstep {
namespace {

ByteRange range_of(const DerivedFields::Entry& entry) {
  const auto begin = reinterpret_cast<uintptr_t>(entry.values.data);
  return {begin, begin + static_cast<uintptr_t>(entry.values.bytes())};
}

template <typename T>
bool holds(std::span<const T* const> list, const T* wanted) {
  return std::find(list.begin(), list.end(), wanted) != list.end();
}

// Whether a consumer of the step makes the field with this op.
bool makes(const DerivedFields::Entry& entry, const OpSpec* op, std::span<const Binding> bindings) {
  return entry.spec->maker == DerivedMaker::kDevice &&
         std::any_of(bindings.begin(), bindings.end(), [&](const Binding& binding) {
           return binding.kind == Binding::Kind::kDerived && holds(binding.consumer->derives, entry.spec) &&
                  holds(binding.consumer->ops, op);
         });
}

}  // namespace

Status check_derived_writes(const Graph& graph, const StepPlan& plan, DerivedFields& derived,
                            std::span<const Binding> bindings) {
  for (size_t i = 0; i < graph.launches().size(); ++i) {
    const LaunchRecord launch = graph.record(i);
    Status status;
    for_each_operand(launch, [&](const Operand& operand) {
      if (!status.ok() || !operand.writes()) return;
      for (const DerivedFields::Entry& entry : derived.entries()) {
        const bool touched =
            std::any_of(operand.ranges().begin(), operand.ranges().end(),
                        [&](const ByteRange& range) { return range.overlaps(range_of(entry)); });
        if (!touched || makes(entry, launch.site.spec, bindings)) continue;
        const bool host = entry.spec->maker == DerivedMaker::kHost;
        status = broken({.check = "L4",
                         .moment = Moment::kCapture,
                         .consumer = consumer_of(launch),
                         .field = std::string(operand.arg->name),
                         .step = plan.scalar(field::epoch).get(),
                         .expected = host ? "no launch to write to what the host derives"
                                          : "nobody to write to it but who derives it",
                         .found = concat("written to, in the derived field ", entry.spec->name)});
        return;
      }
    });
    if (!status.ok()) return status;
  }
  return {};
}

Status check_host_made_on_device(const StepPlan& plan, DerivedFields& derived, const HostView& memory) {
  const uint64_t epoch = plan.scalar(field::epoch).get();
  for (const DerivedFields::Entry& entry : derived.entries()) {
    if (entry.spec->maker != DerivedMaker::kHost || entry.stamp.epoch != epoch || entry.dirty) continue;
    std::vector<std::byte> copy;
    const int32_t* device = memory.look(entry.values, copy).as<int32_t>();
    const auto [made, found] = std::mismatch(entry.host.begin(), entry.host.end(), device);
    if (made == entry.host.end()) continue;
    LS_TRY(broken({.check = "R4",
                   .moment = Moment::kCommit,
                   .consumer = "a kernel of the step",
                   .field = std::string(entry.spec->name),
                   .row = made - entry.host.begin(),
                   .step = epoch,
                   .expected = concat(*made, ", as derived on the host: nobody writes to it"),
                   .found = concat(*found)}));
  }
  return {};
}

}  // namespace lockstep
