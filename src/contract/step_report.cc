#include "contract/step_report.h"

#include <cstring>

#include "base/check.h"
#include "base/fault.h"
#include "base/prefetch.h"
#include "device/staging.h"
#include "kernels/table.h"

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
  return Arena::footprint(DType::kI64, {2 * kMost, 2}) + Arena::footprint(DType::kU64, {kMostWords});
}

Result<StepReport> StepReport::create(const StepLimits& limits, Arena& arena,
                                      const StepReportOptions& options) {
  StepReport report;
  report.by_piece_ = options.overlapped || options.device != nullptr;
  report.in_place_ = !report.by_piece_;
  constexpr std::array<std::byte, ImageLayout::kAlignment> kZeros{};
  for (size_t i = 0; i < kZeros.size(); ++i) report.zeros_[i] = digest_bytes(kZeros.data(), i);
  report.limits_ = limits;
  report.ranges_ = LS_TRY(arena.allocate("report ranges", DType::kI64, {2 * kMost, 2}));
  report.report_ = LS_TRY(arena.allocate("report", DType::kU64, {kMostWords}));
  report.device_ = options.device;
  LS_TRY(report.bring_along({}));
  return report;
}

void StepReport::lay_out(const StepPlan& plan, const DeviceImage& image) {
  const ImageLayout& layout = plan.layout();
  fields_ = layout.fields().size();
  image_bytes_ = layout.bytes();
  bucket_ = plan.bucket();
  const auto count = static_cast<int64_t>(fields_);
  head_ = {.image = image.bytes().rows(0, layout.bytes()),
           .ranges = ranges_.rows(0, count),
           .out = report_.rows(0, count + 1),
           .epoch = static_cast<const Epoch*>(image.view(layout, FieldId::epoch, GroupId(0)).data)};
  tail_ = head_;
  tail_.ranges = ranges_.rows(by_piece_ ? 0 : count, static_cast<int64_t>(tail_pieces()));
  tail_.out = report_.rows(static_cast<int64_t>(tail_at()), tail_.ranges.dim(0) + 1);
  structures_.clear();
  for (size_t i = 0; i < std::max<size_t>(tables_.size(), 1); ++i)
    structures_.push_back(structure_args(plan, image, i));
  fresh_ = true;
}

PlanStructureArgs StepReport::structure_args(const StepPlan& plan, const DeviceImage& image,
                                             size_t table) const {
  const auto view = [&](FieldId id, GroupId group = GroupId(0)) {
    return image.view(plan.layout(), id, group);
  };
  TensorView out =
      report_.rows(static_cast<int64_t>(structure_at() + table * kStructureWords), kStructureWords);
  out.dtype = DType::kI64;
  PlanStructureArgs args{.query_start_loc = view(FieldId::query_start_loc),
                         .seq_lens = view(FieldId::seq_lens),
                         .table_rows = {},
                         .table_digests = {},
                         .page_table = {},
                         .out = out,
                         .epoch = head_.epoch,
                         .num_rows = static_cast<const LiveRows*>(view(FieldId::num_rows).data),
                         .num_seqs = static_cast<const LiveSeqs*>(view(FieldId::num_seqs).data)};
  if (tables_.empty()) return args;
  const GroupId group = tables_[table].group;
  args.table_rows = view(FieldId::table_rows, group);
  args.table_digests = view(FieldId::table_digests, group);
  args.page_table = tables_[table].pages;
  args.page_tokens = limits_.group(group).page_tokens;
  args.num_pages = limits_.group(group).num_pages;
  return args;
}

Status StepReport::head(const StepPlan& plan, const DeviceImage& image, StagingRing& staging,
                        const Launcher& on) {
  if (image_bytes_ != plan.layout().bytes() || !(bucket_ == plan.bucket())) {
    lay_out(plan, image);
    const auto count = static_cast<int64_t>(fields_ + (by_piece_ ? fields_ : 1));
    StagingLease lease = LS_TRY(staging.lease(on.stream, count * 2 * static_cast<int64_t>(sizeof(int64_t))));
    auto* words = reinterpret_cast<int64_t*>(lease.bytes().data());
    const auto add = [&words](int64_t offset, int64_t bytes) {
      *words++ = offset;
      *words++ = bytes;
    };
    const ImageLayout& layout = plan.layout();
    for (const ImageLayout::FieldPlace& place : layout.fields()) add(place.offset, place.bytes);
    for (size_t i = 0; by_piece_ && i < fields_; ++i)
      add(layout.fields()[i].offset + layout.fields()[i].bytes, layout.bytes_behind(i));
    if (!by_piece_) add(0, image_bytes_);
    LS_TRY(on.stream.copy(ranges_.rows(0, count), std::move(lease)));
  }
  constexpr std::string_view kStage = "report_head";
  if (fresh_) return plan_digest(on, head_, kStage);
  launch(on.stream, kPlanDigestSpec, kStage, on.table.plan_digest, head_, Parts::kOne);
  return {};
}

// What a step of the CPU has pushed out of its caches, and what follows needs at once: the report, and what
// it is held to.
void StepReport::fetch_ahead(const StepPlan& plan) const {
  if (device_ != nullptr) return;
  const auto words = static_cast<size_t>(structure_at()) * sizeof(uint64_t);
  prefetch({static_cast<const std::byte*>(report_.data), words});
  prefetch(std::as_bytes(plan.field_digests()));
}

Status StepReport::tail(const StepPlan& plan, bool all_tables, const Launcher& on) {
  constexpr std::string_view kStage = "report_tail";
  fetch_ahead(plan);
  if (fresh_) {
    LS_TRY(plan_digest(on, tail_, kStage));
  } else {
    launch(on.stream, kPlanDigestSpec, kStage, on.table.plan_digest, tail_, Parts::kOne);
  }
  for (PlanStructureArgs& args : structures_) {
    args.tables = all_tables ? plan.bucket().seqs.get() : kTablesPerStep;
    if (fresh_) {
      LS_TRY(plan_structure(on, args, kStage));
    } else {
      launch(on.stream, kPlanStructureSpec, kStage, on.table.plan_structure, args, Parts::kOne);
    }
  }
  fresh_ = false;
  return {};
}

bool StepReport::adjoins(const TensorView& outcome) const {
  return outcome.data == static_cast<const std::byte*>(report_.data) + report_.bytes();
}

Status StepReport::bring_along(const TensorView& outcome) {
  LS_CHECK(outcome.data == nullptr || adjoins(outcome), "what comes with a report lies elsewhere");
  along_bytes_ = outcome.data == nullptr ? 0 : outcome.bytes();
  if (in_place_ && !brings_along()) return {};
  in_place_ = false;
  landing_ = LS_TRY(Landing::create(static_cast<int64_t>(kAtOnce) * arrival_bytes(), device_));
  return {};
}

size_t StepReport::arrival_of(const StepPlan& plan) const {
  const size_t other = (newest_ + 1) % kAtOnce;
  const uint64_t epoch = plan.scalar(field::epoch).get();
  return arrivals_[newest_].epoch != epoch && arrivals_[other].epoch == epoch ? other : newest_;
}

const std::byte* StepReport::brought(const StepPlan& plan) const {
  return reinterpret_cast<const std::byte*>(host(arrival_of(plan)) + kMostWords);
}

Status StepReport::download(const StepPlan& plan, Stream& stream) {
  LS_CHECK(stream.device() == device_, "a report is brought by another device's stream");
  newest_ = (newest_ + 1) % kAtOnce;
  arrivals_[newest_].epoch = plan.scalar(field::epoch).get();
  if (!in_place_) {
    const size_t words = structure_at() + kStructureWords * structures_.size();
    const int64_t bytes = brings_along() ? arrival_bytes() : static_cast<int64_t>(words * sizeof(uint64_t));
    LS_TRY(stream.download(dense_view(report_.data, DType::kU8, {bytes}),
                           dense_view(host(newest_), DType::kU8, {bytes})));
  }
  stream_ = &stream;
  arrivals_[newest_].landed = stream.record();
  return {};
}

Status StepReport::check(const StepPlan& plan, const DeviceImage& image) {
  checked_ = arrival_of(plan);
  if (stream_ == nullptr || !stream_->done(arrivals_[checked_].landed)) {
    LS_TRY(broken({.check = "L5",
                   .moment = Moment::kCommit,
                   .consumer = "host",
                   .field = "report",
                   .step = plan.scalar(field::epoch).get(),
                   .expected = "nobody to read it until its copy has landed",
                   .found = "read before that"}));
  }
  LS_TRY(check_epoch(plan, false));
  LS_TRY(check_head(plan, image));
  LS_TRY(check_epoch(plan, true));
  LS_TRY(check_tail(plan, image));
  return check_structure(plan);
}

Status StepReport::check_epoch(const StepPlan& plan, bool tail) const {
  const uint64_t epoch = plan.scalar(field::epoch).get();
  const uint64_t seen = host()[tail ? tail_at() : 0];
  if (seen == epoch) return {};
  return broken({.check = "R3",
                 .moment = Moment::kCommit,
                 .consumer = tail ? "device at the step's end" : "device at the step's beginning",
                 .field = "epoch",
                 .step = epoch,
                 .expected = concat(epoch, ", the step that the host planned"),
                 .found = concat(seen)});
}

namespace {

// The first entry of a field that differs from the plan's on the device, as far as its bytes are still there.
void find_entry(const StepPlan& plan, std::span<const std::byte> image, FieldId id, GroupId group,
                Fault& fault) {
  const FieldInfo& info = info_of(id);
  const ImageLayout::Place& place = plan.layout().place(id, group);
  const std::byte* planned = plan.image().data() + place.offset;
  const std::byte* device = image.data() + place.offset;
  const auto width = static_cast<int64_t>(info.element_bytes);
  for (int64_t i = 0; i < place.count; ++i) {
    if (std::memcmp(planned + i * width, device + i * width, static_cast<size_t>(width)) == 0) continue;
    fault.row = info.form == Form::kScalar ? -1 : i;
    fault.expected = concat(element_text(info, planned + i * width), ", as planned");
    fault.found = element_text(info, device + i * width);
    return;
  }
}

}  // namespace

// The plan as the device holds it by now. Only a fault needs it.
Result<std::vector<std::byte>> StepReport::read_image(const StepPlan& plan, const DeviceImage& image) const {
  std::vector<std::byte> bytes(static_cast<size_t>(plan.layout().bytes()));
  LS_TRY(stream_->read(image.bytes().rows(0, plan.layout().bytes()), bytes.data()));
  return bytes;
}

Status StepReport::check_head(const StepPlan& plan, const DeviceImage& image) const {
  const auto planned = plan.field_digests(), head = head_digests();
  for (size_t i = 0; i < planned.size(); ++i) {
    const Digest want = planned[i], seen = head[i];
    if (seen == want) continue;
    const ImageLayout::FieldPlace& at = plan.layout().fields()[i];
    Fault fault{.check = "R3",
                .moment = Moment::kCommit,
                .consumer = "device at the step's beginning",
                .field = std::string(name_of(at.field)),
                .step = plan.scalar(field::epoch).get(),
                .expected = concat("digest ", want, ", as planned"),
                .found = concat("digest ", seen)};
    if (checked_ == newest_) find_entry(plan, LS_TRY(read_image(plan, image)), at.field, at.group, fault);
    LS_TRY(broken(std::move(fault)));
  }
  return {};
}

// The first piece that the tail saw changed: a field, or what lies behind one; their number if none.
size_t StepReport::changed_piece(const StepPlan& plan) const {
  const Digest* seen = host() + tail_at() + 1;
  const auto planned = plan.field_digests();
  for (size_t i = 0; i < planned.size(); ++i) {
    if (seen[i] != planned[i]) return i;
  }
  for (size_t i = 0; i < planned.size(); ++i) {
    if (seen[fields_ + i] != zeros_[static_cast<size_t>(plan.layout().bytes_behind(i))]) return fields_ + i;
  }
  return tail_pieces();
}

Status StepReport::check_tail(const StepPlan& plan, const DeviceImage& image) {
  const Digest* seen = host() + tail_at() + 1;
  const size_t pieces = by_piece_ ? tail_pieces() : 0;
  const size_t piece = by_piece_ ? changed_piece(plan) : 0;
  tail_digest_ = !by_piece_        ? *seen
                 : piece == pieces ? plan.digest()
                                   : digest_bytes(seen, pieces * sizeof(Digest));
  if (tail_digest_ == plan.digest()) return {};
  Fault fault{.check = "R4",
              .moment = Moment::kCommit,
              .consumer = "a kernel of the step",
              .field = "plan",
              .step = plan.scalar(field::epoch).get(),
              .expected = concat("digest ", plan.digest(), ", as planned: nobody writes to the plan"),
              .found = concat("digest ", tail_digest_)};
  const auto fields = plan.layout().fields();
  if (piece < std::min(fields_, pieces)) {
    fault.field = name_of(fields[piece].field);
    fault.expected =
        concat("digest ", plan.field_digests()[piece], ", as planned: nobody writes to the plan");
    fault.found = concat("digest ", seen[piece]);
  } else if (piece < pieces) {
    const size_t before = piece - fields_;
    fault.expected = concat("zeros in the ", plan.layout().bytes_behind(before), " bytes behind ",
                            name_of(fields[before].field), ": nobody writes to the plan");
    fault.found = "something else there";
  }
  if (checked_ != newest_) return broken(std::move(fault));
  const std::vector<std::byte> bytes = LS_TRY(read_image(plan, image));
  for (const ImageLayout::FieldPlace& at : fields) {
    const std::byte* planned = plan.image().data() + at.offset;
    if (std::memcmp(planned, bytes.data() + at.offset, static_cast<size_t>(at.bytes)) == 0) continue;
    fault.field = name_of(at.field);
    find_entry(plan, bytes, at.field, at.group, fault);
    break;
  }
  return broken(std::move(fault));
}

Status StepReport::check_structure(const StepPlan& plan) const {
  for (size_t i = 0; i < structures_.size(); ++i) {
    const auto* found = reinterpret_cast<const int64_t*>(host() + structure_at() + i * kStructureWords);
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
