#include <algorithm>

#include "base/fault.h"
#include "contract/operand_check.h"
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
    LS_TRY(check_operands(
        launch,
        {.map = check_.map, .moment = Moment::kCapture, .step = check_.plan.scalar(field::epoch).get()}));
    Status status;
    for_each_operand(launch, [&](const Operand& operand) {
      if (status.ok()) status = hold(launch, operand);
    });
    if (!status.ok()) return status;
    LS_TRY(check_feeds(launch));
    return check_rows(launch);
  }

 private:
  Status hold(const LaunchRecord& launch, const Operand& operand) const {
    const ByteRange image{base_, base_ + static_cast<uintptr_t>(check_.image.bytes().elements())};
    for (const ByteRange& range : operand.ranges()) {
      if (range.empty() || !range.overlaps(image)) continue;
      if (operand.writes()) {
        LS_TRY(refuse(
            launch, operand, "L4", "no launch to write to the plan",
            concat("written to, in the plan's ", field_at(static_cast<int64_t>(range.begin - base_)))));
      }
      LS_TRY(check_read(launch, operand, static_cast<int64_t>(range.begin - base_)));
    }
    return {};
  }

  // A launch reads the image only where a consumer bound a field, and as the argument that it declared.
  Status check_read(const LaunchRecord& launch, const Operand& operand, int64_t offset) const {
    bool bound = false;
    for (const Binding& binding : check_.bindings) {
      // A field without elements begins where the next one does.
      if (binding.kind != Binding::Kind::kAddress || binding.offset != offset || binding.elements == 0)
        continue;
      bound = true;
      for (const FieldUse& use : binding.consumer->fields) {
        if (use.field == binding.field && feeds(use.argument, launch.site.op(), operand.arg->name))
          return check_extent(launch, operand, binding);
      }
    }
    return refuse(
        launch, operand, "L1", "a field that its consumer bound for this argument",
        concat("fed by ", field_at(offset), bound ? ", bound for another argument" : ", which nobody bound"));
  }

  // All of the field, so that no kernel walks past the end of a part, or finds another count than its mates.
  Status check_extent(const LaunchRecord& launch, const Operand& operand, const Binding& binding) const {
    const bool whole = operand.arg->kind != ArgKind::kTensor || operand.view.elements() == binding.elements;
    if (whole) return {};
    return refuse(launch, operand, "L1",
                  concat("all ", binding.elements, " elements of the plan's ", name_of(binding)),
                  concat(operand.view.elements(), " elements of it"));
  }

  // Whatever is indexed by rows has the rows of the bucket, live ones and pads: nobody narrows on their own.
  Status check_rows(const LaunchRecord& launch) const {
    const std::optional<int64_t> rows = rows_of(launch);
    if (!rows) return {};
    Status status;
    for_each_operand(launch, [&](const Operand& operand) {
      const OpArg& arg = *operand.arg;
      const bool by_row = arg.kind == ArgKind::kTensor && arg.dims.starts_with('T') &&
                          (arg.rows == RowsTouched::kAll || arg.rows == RowsTouched::kLive);
      if (!status.ok() || !by_row || operand.view.dim(0) == *rows) return;
      status = refuse(launch, operand, "L1", concat(*rows, " rows, as the bucket has"),
                      concat(operand.view.dim(0), " rows"));
    });
    return status;
  }

  // Rows of the bucket that a launch works on, by the count of live ones that it reads.
  std::optional<int64_t> rows_of(const LaunchRecord& launch) const {
    for (const OpArg& arg : launch.site.spec->args) {
      const std::optional<Operand> operand = operand_of(launch, arg);
      if (!operand || arg.kind != ArgKind::kScalar) continue;
      const int64_t offset = static_cast<int64_t>(reinterpret_cast<uintptr_t>(operand->address) - base_);
      const Bucket& bucket = check_.plan.bucket();
      if (offset == check_.plan.layout().place(FieldId::num_rows).offset) return bucket.rows.get();
      if (offset == check_.plan.layout().place(FieldId::num_logits_rows).offset)
        return bucket.logits_rows.get();
    }
    return std::nullopt;
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
          concat("at the plan's ", name_of(*declared), ", which ", declared->consumer->name, " bound for it"),
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
    return broken({.check = std::string(rule),
                   .moment = Moment::kCapture,
                   .consumer = consumer_of(launch),
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
