#include "guard/probe.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace lockstep {
namespace {

constexpr uint32_t kInfinity = 0x7F800000u;

struct Magnitudes {
  int64_t nan = 0;
  int64_t inf = 0;
  uint32_t largest = 0;  // bits of the largest finite magnitude
};

// Finite magnitudes are below infinity as integers: one pass that the compiler vectorizes says whether
// anything is to be counted at all.
void look_at_f32(const float* values, int64_t count, Magnitudes& out) {
  const auto magnitude_of = [&](int64_t i) { return std::bit_cast<uint32_t>(values[i]) & 0x7FFFFFFFu; };
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, magnitude_of(i));
  if (largest < kInfinity) {
    out.largest = std::max(out.largest, largest);
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t magnitude = magnitude_of(i);
    if (magnitude > kInfinity) ++out.nan;
    if (magnitude == kInfinity) ++out.inf;
    if (magnitude < kInfinity) out.largest = std::max(out.largest, magnitude);
  }
}

void look_at(const TensorView& view, uintptr_t begin, int64_t bytes, Magnitudes& out) {
  if (view.dtype == DType::kF32) return look_at_f32(reinterpret_cast<const float*>(begin), bytes / 4, out);
  with_float_type(view.dtype, [&]<typename T>() {
    for (int64_t at = 0; at < bytes; at += static_cast<int64_t>(sizeof(T))) {
      T value{};
      std::memcpy(&value, reinterpret_cast<const void*>(begin + static_cast<uintptr_t>(at)), sizeof(T));
      const auto wide = static_cast<float>(value);
      look_at_f32(&wide, 1, out);
    }
  });
}

bool is_probed(const Operand& operand, bool outputs) {
  if (operand.arg->kind != ArgKind::kTensor || !is_float_weight(operand.view.dtype)) return false;
  return operand.bytes[0] != kEverywhere && (outputs ? operand.writes() : operand.reads());
}

// Rows of a whole group of ranks, as a collective takes or leaves them.
bool is_gathered(const LaunchRecord& launch, const Operand& operand) {
  return launch.site.spec->collective && operand.arg->dims.starts_with('N') && operand.view.shape.rank > 0;
}

}  // namespace

CountsByOwner count(const TensorView& view, std::span<const OwnedEntry> owners) {
  CountsByOwner counts;
  for (int64_t row = 0; row < view.dim(0); ++row) {
    const auto at = static_cast<size_t>(row);
    const OwnedEntry entry = at < owners.size() ? owners[at] : OwnedEntry{};
    ProbeCounts& of = counts[static_cast<size_t>(entry.owner)];
    Magnitudes found;
    for_each_run(view, row, [&](uintptr_t begin, int64_t bytes) {
      look_at(view, begin, bytes, found);
      of.elements += bytes / size_of(view.dtype);
    });
    of.nan += found.nan;
    of.inf += found.inf;
    of.max_abs = std::max(of.max_abs, std::bit_cast<float>(found.largest));
    if (found.nan == 0 && found.inf == 0) continue;
    ++of.row_count;
    if (of.rows.size() < kFindingRows) of.rows.push_back(static_cast<int32_t>(row));
    if (entry.owner == Owner::kLive && (of.sequences.empty() || of.sequences.back() != entry.sequence))
      of.sequences.push_back(entry.sequence);
  }
  return counts;
}

bool Probe::Counted::clean() const {
  return std::all_of(by_owner.begin(), by_owner.end(), [](const ProbeCounts& c) { return c.clean(); });
}

void Probe::begin_step(const StepView&, std::span<const uint64_t> sequence_ids) {
  sequence_ids_.assign(sequence_ids.begin(), sequence_ids.end());
  order_ = 0;
  layer_ = -1;
  in_mlp_ = seen_any_ = false;
  if (!first_) launches_.clear();
}

std::vector<Probe::Counted> Probe::look(const StepView& step, const LaunchRecord& launch,
                                        bool outputs) const {
  std::vector<Counted> all;
  std::vector<std::byte> copy;
  for_each_operand(launch, [&](const Operand& operand) {
    if (!is_probed(operand, outputs)) return;
    std::optional<std::span<const OwnedEntry>> owners = owners_of(step, launch, operand);
    if (is_gathered(launch, operand)) owners = gathered(operand.view.dim(0));
    if (owners) all.push_back({operand.arg, count(step.memory.look(operand.view, copy), *owners)});
  });
  return all;
}

std::span<const OwnedEntry> Probe::gathered(int64_t rows) const {
  const auto count = static_cast<size_t>(rows);
  if (gathered_.size() < count) gathered_.resize(count, {.owner = Owner::kGathered});
  return std::span(gathered_).first(count);
}

void Probe::before(const StepView& step, const LaunchRecord& launch) { inputs_ = look(step, launch, false); }

void Probe::after(const StepView& step, const LaunchRecord& launch) {
  const LaunchPlace at = place_of(step, launch);
  const std::vector<Counted> outputs = look(step, launch, true);
  const bool bad = std::any_of(outputs.begin(), outputs.end(), [](const Counted& c) { return !c.clean(); });
  if (!first_ || first_->at.step == at.step) launches_.push_back({.at = at, .bad = bad});
  if (bad && !first_) first_ = first_bad(at);
  for (const Counted& counted : inputs_) keep(step, counted, at, Side::kInput);
  for (const Counted& counted : outputs) keep(step, counted, at, Side::kOutput);
}

LaunchPlace Probe::place_of(const StepView& step, const LaunchRecord& launch) {
  return {.rank = rank_,
          .step = step.plan.scalar(field::epoch).get(),
          .phase = std::string(name_of(static_cast<Phase>(step.plan.scalar(field::phase)))),
          .order = order_++,
          .layer = launch.site.layer,
          .layer_kind = kind_of(launch),
          .stage = std::string(launch.site.stage),
          .op = std::string(launch.site.op()),
          .collective = launch.site.spec->collective};
}

LayerKind Probe::kind_of(const LaunchRecord& launch) {
  const int32_t layer = launch.site.layer;
  if (layer != layer_) in_mlp_ = false;
  layer_ = layer;
  if (layer < 0) return seen_any_ ? LayerKind::kHead : LayerKind::kEmbedding;
  seen_any_ = true;
  in_mlp_ = in_mlp_ || launch.site.stage == "post_norm";
  if (layer >= static_cast<int32_t>(layers_.size())) return LayerKind::kOther;
  const LayerKinds& kinds = layers_[static_cast<size_t>(layer)];
  return in_mlp_ ? kinds.mlp : kinds.mixer;
}

FirstBadLaunch Probe::first_bad(const LaunchPlace& at) const {
  FirstBadLaunch first{.at = at, .inputs = {}, .weights_path = {}, .captured = {}};
  for (const Counted& counted : inputs_) {
    InputState state{.argument = std::string(counted.arg->name),
                     .clean = counted.clean() ? Verdict::kYes : Verdict::kNo};
    for (const ProbeCounts& counts : counted.by_owner) {
      state.nan += counts.nan;
      state.inf += counts.inf;
      state.max_abs = std::max(state.max_abs, static_cast<double>(counts.max_abs));
    }
    first.inputs.push_back(std::move(state));
  }
  return first;
}

void Probe::keep(const StepView& step, const Counted& counted, const LaunchPlace& at, Side side) {
  for (size_t owner = 0; owner < counted.by_owner.size(); ++owner) {
    const ProbeCounts& counts = counted.by_owner[owner];
    if (counts.clean() || findings_.size() >= kMaxFindings) continue;
    const auto phase = step.plan.scalar(field::phase);
    if (!told_
             .insert(concat(phase, " ", at.layer, " ", at.stage, " ", at.op, " ", counted.arg->name, " ",
                            static_cast<int>(side), " ", owner))
             .second)
      continue;
    Finding finding{.at = at,
                    .argument = std::string(counted.arg->name),
                    .side = side,
                    .owner = static_cast<Owner>(owner),
                    .sequences = {},
                    .rows = counts.rows,
                    .row_count = counts.row_count,
                    .nan = counts.nan,
                    .inf = counts.inf,
                    .elements = counts.elements,
                    .max_abs = static_cast<double>(counts.max_abs)};
    for (const int32_t s : counts.sequences) {
      const auto index = static_cast<size_t>(s);
      finding.sequences.push_back(index < sequence_ids_.size() ? sequence_ids_[index] : index);
    }
    findings_.push_back(std::move(finding));
  }
}

void Probe::clear() {
  findings_.clear();
  told_.clear();
  first_.reset();
  launches_.clear();
}

}  // namespace lockstep
