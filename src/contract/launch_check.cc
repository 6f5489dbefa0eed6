#include <algorithm>

#include "base/fault.h"
#include "contract/replay_check.h"
#include "kernels/common/operands.h"
#include "plan/step_plan.h"

namespace lockstep {
namespace {

// "paged_attention.seq_lens" or "*.seq_lens" for argument seq_lens of paged_attention.
bool feeds(std::string_view use, std::string_view op, std::string_view argument) {
  const size_t dot = use.find('.');
  if (dot == std::string_view::npos || use.substr(dot + 1) != argument) return false;
  return use.substr(0, dot) == "*" || use.substr(0, dot) == op;
}

class LaunchChecker {
 public:
  LaunchChecker(const LaunchCheck& check)
      : check_(check), base_(reinterpret_cast<uintptr_t>(check.image.bytes().data)) {}

  Status hold(const LaunchRecord& launch) const {
    Status status;
    for_each_operand(launch, [&](const Operand& operand) {
      if (status.ok()) status = hold(launch, operand);
    });
    if (!status.ok()) return status;
    return check_feeds(launch);
  }

 private:
  Status hold(const LaunchRecord& launch, const Operand& operand) const {
    const ByteRange image{base_, base_ + static_cast<uintptr_t>(check_.image.bytes().elements())};
    for (const ByteRange& range : operand.ranges()) {
      if (range.empty()) continue;
      LS_TRY(check_memory(launch, operand, range));
      if (!range.overlaps(image)) continue;
      if (operand.writes()) {
        LS_TRY(refuse(
            launch, operand, "L4", "no launch to write to the plan",
            concat("written to, in the plan's ", field_at(static_cast<int64_t>(range.begin - base_)))));
      }
      LS_TRY(check_read(launch, operand, static_cast<int64_t>(range.begin - base_)));
    }
    return {};
  }

  Status check_memory(const LaunchRecord& launch, const Operand& operand, const ByteRange& range) const {
    const auto found = check_.map.find(operand.address);
    if (!found) return {};  // the graph refuses it when it leases its memory
    const Arena::Allocation& allocation = found->arena->allocation(found->allocation);
    const auto address = reinterpret_cast<uintptr_t>(operand.address);
    const uintptr_t begin =
        address - static_cast<uintptr_t>(found->arena->offset_of(operand.address) - allocation.offset);
    const ByteRange owned{begin, begin + static_cast<uintptr_t>(allocation.bytes)};
    const auto second = check_.map.find(reinterpret_cast<const void*>(range.begin));
    const bool inside = owned.contains(range) || (second && same_allocation(*second, range));
    if (!inside) {
      LS_TRY(refuse(launch, operand, "P6",
                    concat("bytes inside ", found->arena->name(), "/", allocation.name, " of ",
                           allocation.bytes, " bytes"),
                    concat("bytes ", static_cast<int64_t>(range.begin - begin), " to ",
                           static_cast<int64_t>(range.end - begin), " of it")));
    }
    const int bits = operand.arg->index_bits;
    if (bits < 64 && (range.end - range.begin) >> (bits - 1) != 0) {
      LS_TRY(refuse(launch, operand, "P6", concat("offsets that fit the ", bits, " bits of its index"),
                    concat(range.end - range.begin, " bytes wide")));
    }
    return {};
  }

  static bool same_allocation(const MemoryMap::Found& found, const ByteRange& range) {
    const Arena::Allocation& allocation = found.arena->allocation(found.allocation);
    const auto* first = reinterpret_cast<const void*>(range.begin);
    return found.arena->offset_of(first) + static_cast<int64_t>(range.end - range.begin) <=
           allocation.offset + allocation.bytes;
  }

  // A launch reads the image only where a consumer bound a field, and as the argument that it declared.
  Status check_read(const LaunchRecord& launch, const Operand& operand, int64_t offset) const {
    bool bound = false;
    for (const Binding& binding : check_.bindings) {
      if (binding.kind != Binding::Kind::kAddress || binding.offset != offset) continue;
      bound = true;
      for (const FieldUse& use : binding.consumer->fields) {
        if (use.field == binding.field && feeds(use.argument, launch.site.op(), operand.arg->name)) return {};
      }
    }
    return refuse(
        launch, operand, "L1", "a field that its consumer bound for this argument",
        concat("fed by ", field_at(offset), bound ? ", bound for another argument" : ", which nobody bound"));
  }

  // Every argument that a bound field feeds points at that field.
  Status check_feeds(const LaunchRecord& launch) const {
    for (const OpArg& arg : launch.site.spec->args) {
      const std::optional<Operand> operand = operand_of(launch, arg);
      if (!operand) continue;
      const Binding* declared = nullptr;
      bool right = false;
      for (const Binding& binding : check_.bindings) {
        if (binding.kind != Binding::Kind::kAddress || !runs(*binding.consumer, *launch.site.spec)) continue;
        for (const FieldUse& use : binding.consumer->fields) {
          if (use.field != binding.field || !feeds(use.argument, launch.site.op(), arg.name)) continue;
          declared = &binding;
          right = right || reinterpret_cast<uintptr_t>(operand->address) ==
                               base_ + static_cast<uintptr_t>(binding.offset);
        }
      }
      if (declared == nullptr || right) continue;
      LS_TRY(refuse(
          launch, *operand, "R1",
          concat("at the plan's ", declared->name, ", which ", declared->consumer->name, " bound for it"),
          concat("at ", check_.map.describe(operand->address))));
    }
    return {};
  }

  static bool runs(const ConsumerSpec& consumer, const OpSpec& op) {
    return std::find(consumer.ops.begin(), consumer.ops.end(), &op) != consumer.ops.end();
  }

  std::string field_at(int64_t offset) const {
    const ImageLayout& layout = check_.plan.layout();
    for (const FieldInfo& info : kFields) {
      for (int32_t g = 0; g < layout.num_groups(); ++g) {
        const ImageLayout::Place& place = layout.place(info.id, GroupId(g));
        if (place.offset < 0) continue;
        if (offset >= place.offset && offset < place.offset + int64_t{place.count} * info.element_bytes)
          return concat(info.name, " + ", offset - place.offset, " bytes");
      }
    }
    return concat("byte ", offset, ", which is no field");
  }

  Status refuse(const LaunchRecord& launch, const Operand& operand, std::string_view rule,
                std::string expected, std::string found) const {
    return broken(
        {.check = std::string(rule),
         .moment = Moment::kCapture,
         .consumer = concat(launch.site.op(), " (", launch.site.stage, ", layer ", launch.site.layer, ")"),
         .field = std::string(operand.arg->name),
         .step = check_.plan.scalar(field::epoch).get(),
         .expected = std::move(expected),
         .found = std::move(found)});
  }

  const LaunchCheck& check_;
  uintptr_t base_;
};

}  // namespace

Status check_launches(const Graph& graph, const LaunchCheck& check) {
  const LaunchChecker checker(check);
  for (size_t i = 0; i < graph.launches().size(); ++i) LS_TRY(checker.hold(graph.record(i)));
  return {};
}

}  // namespace lockstep
