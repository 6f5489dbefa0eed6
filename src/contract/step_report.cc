#include "contract/step_report.h"

#include <cstring>

#include "base/fault.h"
#include "device/staging.h"
#include "kernels/plan_check/plan_check.h"
#include "plan/step_plan.h"

namespace lockstep {
namespace {

// The field that a structure rule is about.
FieldId field_of(StructureRule rule) {
  switch (rule) {
    case StructureRule::kSequencesFit: return FieldId::num_seqs;
    case StructureRule::kRowsFitLength:
    case StructureRule::kPagesFitTable: return FieldId::seq_lens;
    case StructureRule::kTableRowExists: return FieldId::table_rows;
    case StructureRule::kPageExists:
    case StructureRule::kTableDigest: return FieldId::table_digests;
    default: return FieldId::query_start_loc;
  }
}

}  // namespace

int64_t StepReport::footprint() {
  return Arena::footprint(DType::kI64, {kMost, 2}) + Arena::footprint(DType::kU64, {2 * (kMost + 1)}) +
         Arena::footprint(DType::kI64, {kMaxGroups, 4});
}

Result<StepReport> StepReport::create(const StepLimits& limits, Arena& arena) {
  StepReport report;
  report.limits_ = limits;
  report.ranges_ = LS_TRY(arena.allocate("report ranges", DType::kI64, {kMost, 2}));
  report.report_ = LS_TRY(arena.allocate("report digests", DType::kU64, {2 * (kMost + 1)}));
  report.structure_ = LS_TRY(arena.allocate("report structure", DType::kI64, {kMaxGroups, 4}));
  report.host_.resize(static_cast<size_t>(2 * (kMost + 1)));
  report.host_structure_.resize(size_t{kMaxGroups} * 4);
  return report;
}

void StepReport::lay_out(const StepPlan& plan) {
  const ImageLayout& layout = plan.layout();
  places_.clear();
  for (const FieldInfo& info : kFields) {
    for (int32_t g = 0; g < std::max(layout.num_groups(), 1); ++g) {
      const ImageLayout::Place& place = layout.place(info.id, GroupId(g));
      if (place.offset < 0 || (info.scope == Scope::kPlan && g > 0)) continue;
      places_.push_back({info.id, GroupId(g), place.offset, int64_t{place.count} * info.element_bytes});
    }
  }
  image_bytes_ = layout.bytes();
  bucket_ = plan.bucket();
}

Status StepReport::head(const StepPlan& plan, const DeviceImage& image, StagingRing& staging,
                        const Launcher& on) {
  if (image_bytes_ != plan.layout().bytes() || !(bucket_ == plan.bucket())) {
    lay_out(plan);
    const auto count = static_cast<int64_t>(places_.size());
    StagingLease lease = LS_TRY(staging.lease(on.stream, count * 2 * static_cast<int64_t>(sizeof(int64_t))));
    auto* words = reinterpret_cast<int64_t*>(lease.bytes().data());
    for (const Place& place : places_) {
      *words++ = place.offset;
      *words++ = place.bytes;
    }
    LS_TRY(on.stream.copy(ranges_.rows(0, count), std::move(lease)));
  }
  const auto count = static_cast<int64_t>(places_.size());
  const TensorView epoch = image.view(plan.layout(), FieldId::epoch, GroupId(0));
  return plan_digest(on,
                     {.image = image.bytes().rows(0, plan.layout().bytes()),
                      .ranges = ranges_.rows(0, count),
                      .out = report_.rows(0, count + 1),
                      .epoch = static_cast<const Epoch*>(epoch.data)},
                     "report_head");
}

Status StepReport::tail(const StepPlan& plan, const DeviceImage& image, bool all_tables, const Launcher& on) {
  const ImageLayout& layout = plan.layout();
  const auto view = [&](FieldId id, GroupId group = GroupId(0)) { return image.view(layout, id, group); };
  const auto count = static_cast<int64_t>(places_.size());
  const auto* epoch = static_cast<const Epoch*>(view(FieldId::epoch).data);
  LS_TRY(plan_digest(on,
                     {.image = image.bytes().rows(0, layout.bytes()),
                      .ranges = ranges_.rows(0, count),
                      .out = report_.rows(kMost + 1, count + 1),
                      .epoch = epoch},
                     "report_tail"));
  PlanStructureArgs args{.query_start_loc = view(FieldId::query_start_loc),
                         .seq_lens = view(FieldId::seq_lens),
                         .out = structure_.rows(0, 1).reshaped({4}),
                         .epoch = epoch,
                         .num_rows = static_cast<const LiveRows*>(view(FieldId::num_rows).data),
                         .num_seqs = static_cast<const LiveSeqs*>(view(FieldId::num_seqs).data)};
  if (tables_.empty()) return plan_structure(on, args, "report_structure");
  for (size_t i = 0; i < tables_.size(); ++i) {
    const DeviceTable& table = tables_[i];
    const CacheGroup& group = limits_.group(table.group);
    args.table_rows = view(FieldId::table_rows, table.group);
    args.table_digests = view(FieldId::table_digests, table.group);
    args.page_table = table.pages;
    args.out = structure_.rows(static_cast<int64_t>(i), 1).reshaped({4});
    args.page_tokens = group.page_tokens;
    args.num_pages = group.num_pages;
    args.tables = all_tables ? plan.bucket().seqs.get() : kTablesPerStep;
    LS_TRY(plan_structure(on, args, "report_structure"));
  }
  return {};
}

Status StepReport::download(Stream& stream) {
  const auto count = static_cast<int64_t>(places_.size()) + 1;
  uint64_t* host = host_.data();
  LS_TRY(stream.download(report_.rows(0, count), dense_view(host, DType::kU64, {count})));
  LS_TRY(stream.download(report_.rows(kMost + 1, count), dense_view(host + tail_at(), DType::kU64, {count})));
  return stream.download(structure_, dense_view(host_structure_.data(), DType::kI64, {kMaxGroups, 4}));
}

Status StepReport::check(const StepPlan& plan, const DeviceImage& image) const {
  const uint64_t epoch = plan.scalar(field::epoch).get();
  for (const bool tail : {false, true}) {
    const uint64_t seen = host_[tail ? tail_at() : 0];
    if (seen != epoch) {
      LS_TRY(broken({.check = "R3",
                     .moment = Moment::kCommit,
                     .consumer = tail ? "device at the step's end" : "device at the step's beginning",
                     .field = "epoch",
                     .step = epoch,
                     .expected = concat(epoch, ", the step that the host planned"),
                     .found = concat(seen)}));
    }
    for (size_t i = 0; i < places_.size(); ++i) LS_TRY(compare(plan, image, i, tail));
  }
  return check_structure(plan);
}

Status StepReport::compare(const StepPlan& plan, const DeviceImage& image, size_t place, bool tail) const {
  const Place& at = places_[place];
  const Digest want = plan.field_digest(at.field, at.group);
  const Digest seen = tail ? tail_digests()[place] : head_digests()[place];
  if (seen == want) return {};
  Fault fault{.check = tail ? "R4" : "R3",
              .moment = Moment::kCommit,
              .consumer = tail ? "a kernel of the step" : "device at the step's beginning",
              .field = std::string(name_of(at.field)),
              .step = plan.scalar(field::epoch).get(),
              .expected = concat("digest ", want, ", as planned"),
              .found = concat("digest ", seen)};
  // Which entry: as far as the bytes are still there.
  const FieldInfo& info = info_of(at.field);
  const std::byte* planned = plan.image().data() + at.offset;
  const auto* device = static_cast<const std::byte*>(image.bytes().data) + at.offset;
  const auto width = static_cast<int64_t>(info.element_bytes);
  for (int64_t i = 0; i < at.bytes / width; ++i) {
    if (std::memcmp(planned + i * width, device + i * width, static_cast<size_t>(width)) == 0) continue;
    fault.row = info.form == Form::kScalar ? -1 : i;
    fault.expected = concat(element_text(info, planned + i * width), ", as planned");
    fault.found = element_text(info, device + i * width);
    break;
  }
  return broken(std::move(fault));
}

Status StepReport::check_structure(const StepPlan& plan) const {
  for (size_t i = 0; i < std::max<size_t>(tables_.size(), 1); ++i) {
    const int64_t* found = host_structure_.data() + i * 4;
    const auto rule = static_cast<StructureRule>(found[0]);
    if (rule == StructureRule::kHolds) continue;
    LS_TRY(broken({.check = "R6",
                   .moment = Moment::kCommit,
                   .consumer = concat("device (", check_of(rule), ", ", name_of(rule), ")"),
                   .field = std::string(name_of(field_of(rule))),
                   .row = found[1],
                   .step = plan.scalar(field::epoch).get(),
                   .expected = concat(found[3]),
                   .found = concat(found[2])}));
  }
  return {};
}

}  // namespace lockstep
