#include "guard/flight_recorder.h"

#include <algorithm>
#include <cstring>

#include "base/clock.h"
#include "base/math.h"
#include "contract/replay_check.h"

namespace lockstep {
namespace {

constexpr int64_t kAlignment = 64;

// Copies what fits and gives how many that were.
template <typename T>
int64_t copy_front(std::span<const T> from, int64_t room, std::byte* to) {
  const int64_t count = std::min(static_cast<int64_t>(from.size()), room);
  if (count > 0) std::memcpy(to, from.data(), static_cast<size_t>(count) * sizeof(T));
  return count;
}

template <typename T>
std::vector<T> copied(const std::byte* from, int64_t count) {
  std::vector<T> values(static_cast<size_t>(count));
  if (count > 0) std::memcpy(values.data(), from, values.size() * sizeof(T));
  return values;
}

}  // namespace

bool FlightRecorder::Hold::try_write() {
  int32_t nobody = 0;
  return state_.compare_exchange_strong(nobody, -1, std::memory_order_acquire);
}

bool FlightRecorder::Hold::try_read() {
  int32_t readers = state_.load(std::memory_order_relaxed);
  while (readers >= 0) {
    if (state_.compare_exchange_weak(readers, readers + 1, std::memory_order_acquire)) return true;
  }
  return false;
}

FlightRecorder::Places FlightRecorder::places_for(const StepLimits& limits) {
  Places places;
  const auto place = [&places](int64_t bytes) {
    const int64_t at = places.slot_bytes;
    places.slot_bytes += round_up(bytes, kAlignment);
    return at;
  };
  const Bucket any{.rows = PaddedRows(1), .seqs = PaddedSeqs(1), .logits_rows = PaddedRows(1)};
  places.most_digests = static_cast<int64_t>(ImageLayout(limits, any).fields().size());
  const auto digest_bytes = static_cast<int64_t>(sizeof(Digest)) * places.most_digests;
  const int64_t token_bytes = int64_t{4} * limits.max_logits_rows;
  places.image = place(image_bytes(limits, {.rows = PaddedRows(limits.max_rows),
                                            .seqs = PaddedSeqs(limits.max_seqs),
                                            .logits_rows = PaddedRows(limits.max_logits_rows)}));
  places.ids = place(int64_t{8} * limits.max_seqs);
  places.head = place(digest_bytes);
  places.tokens = place(token_bytes);
  places.non_finite = place(token_bytes);
  return places;
}

int64_t FlightRecorder::footprint(const RecorderOptions& options) {
  return (int64_t{options.steps} + 1) * places_for(options.rank.limits).slot_bytes +
         RecordedTables::footprint(options.rank.limits) +
         int64_t{options.binding_sets} * options.max_bindings * static_cast<int64_t>(sizeof(Binding));
}

// One slot more than steps: a reader holds one at most.
FlightRecorder::FlightRecorder(RecorderOptions options)
    : options_(std::move(options)),
      places_(places_for(options_.rank.limits)),
      slots_(static_cast<size_t>(options_.steps) + 1),
      memory_(slots_.size() * static_cast<size_t>(places_.slot_bytes)),
      sets_(static_cast<size_t>(options_.binding_sets)),
      bindings_(static_cast<size_t>(options_.binding_sets) * static_cast<size_t>(options_.max_bindings)),
      tables_(options_.rank.limits),
      born_ns_(now_ns()) {}

std::byte* FlightRecorder::at(size_t slot, int64_t place) const {
  return &memory_[slot * static_cast<size_t>(places_.slot_bytes) + static_cast<size_t>(place)];
}

// The oldest slot that no reader holds; its step, and those before it, are forgotten. A reader holds one slot
// at a time, so a second try fails only when it has moved there in between, and there is a third slot then.
size_t FlightRecorder::take_slot() {
  size_t taken = slots_.size(), held = slots_.size();
  for (; taken == slots_.size();) {
    size_t oldest = held == 0 ? 1 : 0;
    for (size_t slot = 0; slot < slots_.size(); ++slot) {
      const uint64_t serial = slots_[slot].serial.load(std::memory_order_relaxed);
      if (slot != held && serial < slots_[oldest].serial.load(std::memory_order_relaxed)) oldest = slot;
    }
    if (slots_[oldest].hold.try_write())
      taken = oldest;
    else
      held = oldest;
  }
  forget_up_to(slots_[taken].serial.load(std::memory_order_relaxed));
  return taken;
}

void FlightRecorder::forget_up_to(uint64_t serial) {
  for (uint64_t next = tables_.serial() + 1; next <= serial; ++next) {
    const auto slot = std::find_if(slots_.begin(), slots_.end(), [next](const Slot& each) {
      return each.serial.load(std::memory_order_relaxed) == next;
    });
    RecordedTables::Forgotten step{.serial = next,
                                   .epoch = slot->epoch,
                                   .live_logits_rows = slot->live_logits_rows,
                                   .refused = slot->refused};
    for (size_t g = 0; g < step.edits.size(); ++g) {
      const std::byte* edits =
          at(static_cast<size_t>(slot - slots_.begin()), places_.image) + slot->edits[g].offset;
      step.edits[g] = {reinterpret_cast<const TableEdit*>(edits), static_cast<size_t>(slot->edits[g].count)};
    }
    tables_.forget(step);
  }
}

void FlightRecorder::begin(const Began& step) {
  before_ = current_;
  current_ = take_slot();
  Slot& slot = slots_[current_];
  const StepPlan& plan = step.plan;
  slot.epoch = plan.scalar(field::epoch).get();
  slot.bucket = plan.bucket();
  slot.refused = step.refused;
  slot.plan_digest = plan.digest();
  slot.live_logits_rows = plan.scalar(field::num_logits_rows).get();
  const auto image = plan.image();
  const bool fits = static_cast<int64_t>(image.size()) <= places_.ids;  // a refused plan may be of any size
  slot.image_bytes = fits ? copy_front(image, places_.ids, at(current_, places_.image)) : 0;
  slot.ids = copy_front(step.sequence_ids, options_.rank.limits.max_seqs, at(current_, places_.ids));
  for (int32_t g = 0; g < kMaxGroups; ++g) {
    const ImageLayout::Place& list = plan.layout().place(FieldId::table_edits, GroupId(g));
    const bool has = fits && g < options_.rank.limits.num_groups && list.offset >= 0;
    const int32_t count = has ? plan.scalar(field::num_table_edits, GroupId(g)) : 0;
    slot.edits[static_cast<size_t>(g)] = {.offset = has ? list.offset : 0,
                                          .count = std::clamp(count, 0, has ? list.count : 0)};
  }
  slot.began_ns = now_ns();
  slot.prepared.store(0, std::memory_order_relaxed);
  slot.ended.store(0, std::memory_order_relaxed);
  slot.serial.store(++serial_, std::memory_order_release);
  slot.hold.end_write();
}

void FlightRecorder::prepared(const Prepared& step) {
  Slot& slot = slots_[current_];
  slot.run = step.run;
  slot.reason_bytes = copy_front(std::span(step.reason.data(), step.reason.size()), kReason,
                                 reinterpret_cast<std::byte*>(slot.reason.data()));
  slot.graph_key = step.graph_key;
  slot.binding_set = step.bindings.empty() ? 0 : keep_bindings(step.bindings, step.bindings_digest);
  slot.prepared.store(serial_, std::memory_order_release);
}

uint64_t FlightRecorder::keep_bindings(std::span<const Binding> bindings, Digest digest) {
  if (digest == 0) digest = digest_of(bindings);
  const auto same = [digest](const BindingSet& set) { return set.number > 0 && set.digest == digest; };
  if (!same(sets_[last_set_])) {
    const auto found = std::find_if(sets_.begin(), sets_.end(), same);
    const auto oldest =
        std::min_element(sets_.begin(), sets_.end(),
                         [](const BindingSet& a, const BindingSet& b) { return a.last_used < b.last_used; });
    last_set_ = static_cast<size_t>((found == sets_.end() ? oldest : found) - sets_.begin());
  }
  BindingSet& set = sets_[last_set_];
  if (!same(set)) {
    if (!set.hold.try_write()) return 0;  // being read: this step's bindings are not recorded
    set.number = ++sets_seen_;
    set.digest = digest;
    set.first_epoch = slots_[current_].epoch;
    set.count = std::min(static_cast<int64_t>(bindings.size()), int64_t{options_.max_bindings});
    std::copy_n(bindings.begin(), set.count,
                bindings_.begin() + static_cast<int64_t>(last_set_) * options_.max_bindings);
    set.hold.end_write();
  }
  set.last_used = serial_;
  return set.number;
}

void FlightRecorder::end(const Ended& step) {
  const bool newest =
      step.epoch == 0 || slots_[before_].epoch != step.epoch || slots_[current_].epoch == step.epoch;
  const size_t at_slot = newest ? current_ : before_;
  Slot& slot = slots_[at_slot];
  slot.head_epoch = step.head_epoch;
  slot.heads = copy_front(step.head, places_.most_digests, at(at_slot, places_.head));
  slot.tail = step.tail;
  const int64_t rows = options_.rank.limits.max_logits_rows;
  slot.tokens = copy_front(step.tokens, rows, at(at_slot, places_.tokens));
  slot.non_finite = copy_front(step.non_finite, rows, at(at_slot, places_.non_finite));
  slot.took_ns = now_ns() - slot.began_ns;
  slot.ended.store(slot.serial.load(std::memory_order_relaxed), std::memory_order_release);
}

bool FlightRecorder::read_slot(size_t index, uint64_t& serial, StepEntry& step, StepTime& time) const {
  const Slot& slot = slots_[index];
  serial = slot.serial.load(std::memory_order_acquire);
  if (serial == 0) return false;
  const int32_t rank = options_.rank.rank;
  step = {.rank = rank, .epoch = slot.epoch, .bucket = slot.bucket, .plan_digest = slot.plan_digest};
  step.run = slot.refused ? RunKind::kRefused : RunKind::kEager;
  time = {.rank = rank, .epoch = slot.epoch, .began_ns = slot.began_ns - born_ns_};
  step.plan = {.dtype = DType::kU8,
               .shape = {slot.image_bytes},
               .bytes = copied<std::byte>(at(index, places_.image), slot.image_bytes)};
  step.sequence_ids = copied<uint64_t>(at(index, places_.ids), slot.ids);
  if (slot.prepared.load(std::memory_order_acquire) == serial) {
    step.run = slot.run;
    step.reason = std::string(slot.reason.data(), static_cast<size_t>(slot.reason_bytes));
    step.graph_key = slot.graph_key;
    step.binding_set = slot.binding_set;
  }
  if (slot.ended.load(std::memory_order_acquire) != serial) return true;
  step.ended = true;
  step.head_epoch = slot.head_epoch;
  step.head = copied<Digest>(at(index, places_.head), slot.heads);
  step.tail = slot.tail;
  step.tokens = copied<int32_t>(at(index, places_.tokens), slot.tokens);
  step.non_finite = copied<int32_t>(at(index, places_.non_finite), slot.non_finite);
  time.took_ns = slot.took_ns;
  return true;
}

}  // namespace lockstep
