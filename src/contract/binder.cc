#include "contract/binder.h"

#include <algorithm>

#include "base/fault.h"
#include "plan/step_plan.h"

namespace lockstep {
namespace {

bool needs_nothing(const PlanNeeds& needs) {
  return needs.uniform_query_len == 0 && needs.max_query_len == 0 && needs.min_seq_len == 0 &&
         needs.rows_multiple_of == 0;
}

std::string_view name_of(Feed feed) { return feed == Feed::kAddress ? "address" : "value"; }

}  // namespace

void BindingLog::write(const Binding& binding) {
  if (!differs_) others_.assign(expected_.begin(), expected_.begin() + static_cast<int64_t>(same_));
  differs_ = true;
  others_.push_back(binding);
}

Status Binder::refuse(const ConsumerSpec& consumer, FieldId id, int64_t row, std::string expected,
                      std::string found) const {
  const std::string_view check = "L1";
  return broken({.check = std::string(check),
                 .moment = Moment::kBind,
                 .consumer = std::string(consumer.name),
                 .field = std::string(lockstep::name_of(id)),
                 .row = row,
                 .step = plan_.scalar(field::epoch).get(),
                 .expected = std::move(expected),
                 .found = std::move(found)});
}

// Consumers bind in the order of their spec, mostly: then the next line is the one.
bool Binder::declared_next(const ConsumerSpec& consumer, FieldId id, Feed feed, GroupId group) const {
  if (accepted_ != &consumer) {
    if (!needs_nothing(consumer.needs)) return false;
    accepted_ = &consumer;
    next_use_ = 0;
  }
  if (next_use_ >= consumer.fields.size()) return false;
  const FieldUse& use = consumer.fields[next_use_];
  const bool in_range = group.get() >= 0 && group.get() < kMaxGroups;
  if (use.field != id || use.feed != feed || !in_range) return false;
  if (plan_.layout().place(id, group).offset < 0) return false;
  ++next_use_;
  return true;
}

Status Binder::declared(const ConsumerSpec& consumer, FieldId id, Feed feed, GroupId group) const {
  const std::span<const FieldUse> uses = consumer.fields;
  size_t use = 0;
  while (use < uses.size() && (uses[use].field != id || uses[use].feed != feed)) ++use;
  next_use_ = use + 1;
  if (use == uses.size()) {
    LS_TRY(refuse(consumer, id, -1, "its spec to declare that", concat("read by ", name_of(feed))));
  }
  const bool in_range = group.get() >= 0 && group.get() < kMaxGroups;
  if (!in_range || plan_.layout().place(id, group).offset < 0) {
    return error(Code::kInternal, "L1 ", consumer.name, ": reads ", lockstep::name_of(id), " of group ",
                 group, "; expected a group that has this field");
  }
  return accepted_ == &consumer ? Status() : accepts(consumer);
}

Status Binder::accepts(const ConsumerSpec& consumer) const {
  const PlanNeeds& needs = consumer.needs;
  const int32_t uniform = plan_.scalar(field::uniform_query_len).get();
  if (needs.uniform_query_len > 0 && uniform != needs.uniform_query_len) {
    LS_TRY(refuse(consumer, FieldId::uniform_query_len, -1,
                  concat(needs.uniform_query_len, ", which this consumer needs"), concat(uniform)));
  }
  const int32_t longest = plan_.scalar(field::max_query_len).get();
  if (needs.max_query_len > 0 && longest > needs.max_query_len) {
    LS_TRY(refuse(consumer, FieldId::max_query_len, -1,
                  concat("at most ", needs.max_query_len, ", which is all this consumer takes"),
                  concat(longest)));
  }
  const int32_t rows = plan_.scalar(field::num_rows_padded).get();
  if (needs.rows_multiple_of > 0 && rows % needs.rows_multiple_of != 0) {
    LS_TRY(refuse(consumer, FieldId::num_rows_padded, -1, concat("a multiple of ", needs.rows_multiple_of),
                  concat(rows)));
  }
  if (needs.min_seq_len > 0) {
    const auto lengths = plan_.get(field::seq_lens);
    const auto live = static_cast<size_t>(plan_.scalar(field::num_seqs).get());
    for (size_t s = 0; s < std::min(live, lengths.size()); ++s) {
      if (lengths[s].get() >= needs.min_seq_len) continue;
      LS_TRY(refuse(consumer, FieldId::seq_lens, static_cast<int64_t>(s),
                    concat("at least ", needs.min_seq_len), concat(lengths[s])));
    }
  }
  accepted_ = &consumer;
  return {};
}

namespace {

// One cache line, where the field table has one for each field.
constexpr auto kElements = [] {
  struct Small {
    uint8_t code = 0;
    constexpr operator Element() const { return static_cast<Element>(code); }
  };
  std::array<Small, kNumFields> elements{};
  for (const FieldInfo& info : kFields)
    elements[static_cast<size_t>(info.id)] = {static_cast<uint8_t>(info.element)};
  return elements;
}();

}  // namespace

Status Binder::bind(const ConsumerSpec& consumer, std::initializer_list<FieldTarget> targets) const {
  for (const FieldTarget& target : targets) {
    const FieldId id = target.id();
    if (!declared_next(consumer, id, Feed::kAddress, target.group()))
      LS_TRY(declared(consumer, id, Feed::kAddress, target.group()));
    const ImageLayout::Place& place = plan_.layout().place(id, target.group());
    const Element element = kElements[static_cast<size_t>(id)];
    if (target.view() != nullptr) {
      *target.view() = {.data = image_.at(place.offset), .entries = place.count, .element = element};
    } else {
      target.set_address(image_.at(place.offset));
    }
    if (log_ == nullptr) continue;
    log_->add({.consumer = &consumer,
               .kind = Binding::Kind::kAddress,
               .field = id,
               .group = target.group(),
               .offset = place.offset,
               .elements = place.count * element_shape(element).words});
  }
  return {};
}

Result<std::span<const std::byte>> Binder::value_bytes(const ConsumerSpec& consumer, FieldId id,
                                                       GroupId group) const {
  if (!declared_next(consumer, id, Feed::kValue, group)) LS_TRY(declared(consumer, id, Feed::kValue, group));
  const ImageLayout::Place& place = plan_.layout().place(id, group);
  if (log_ != nullptr) {
    // Where the rule is switched off, a field that no line declares.
    const bool has_line = next_use_ <= consumer.fields.size();
    log_->add({.consumer = &consumer,
               .kind = Binding::Kind::kValue,
               .freeze = has_line ? consumer.fields[next_use_ - 1].freeze : Freeze::kExact,
               .field = id,
               .group = group,
               .offset = place.offset,
               .elements = place.count});
  }
  return plan_.image().subspan(
      static_cast<size_t>(place.offset),
      static_cast<size_t>(place.count) * static_cast<size_t>(info_of(id).element_bytes));
}

int64_t Binder::decide(const ConsumerSpec& consumer, std::string_view name, int64_t value,
                       DecisionKind choice) const {
  if (log_ != nullptr) {
    log_->add({.consumer = &consumer,
               .kind = Binding::Kind::kDecision,
               .choice = choice,
               .name = name,
               .value = value});
  }
  return value;
}

Result<DerivedFields::Entry*> Binder::derived_entry(const ConsumerSpec& consumer, const DerivedSpec& spec,
                                                    std::span<const DerivedSpec* const> allowed) const {
  DerivedFields::Entry* entry = derived_ == nullptr ? nullptr : derived_->find(spec);
  const bool listed = std::find(allowed.begin(), allowed.end(), &spec) != allowed.end();
  if (entry == nullptr || !listed) {
    Status status = broken(
        {.check = "L1",
         .moment = Moment::kBind,
         .consumer = std::string(consumer.name),
         .field = std::string(spec.name),
         .step = plan_.scalar(field::epoch).get(),
         .expected = listed ? "an executor that was made with this field" : "its spec to list the field",
         .found = "asked for"});
    if (!status.ok() || entry == nullptr) {
      return status.ok() ? error(Code::kInternal, spec.name, ": no executor holds this field") : status;
    }
  }
  if (log_ != nullptr) {
    log_->add({.consumer = &consumer,
               .kind = Binding::Kind::kDerived,
               .name = spec.name,
               .elements = entry->values.elements()});
  }
  return entry;
}

// What one consumer derives, no other writes to in the same step: the first would read the second's.
Status Binder::only_maker(const ConsumerSpec& consumer, const DerivedSpec& spec) const {
  if (log_ == nullptr) return {};
  for (const Binding& binding : log_->all()) {
    const auto& derives = binding.consumer->derives;
    if (binding.kind != Binding::Kind::kDerived || binding.consumer == &consumer) continue;
    if (binding.name != spec.name || std::find(derives.begin(), derives.end(), &spec) == derives.end())
      continue;
    LS_TRY(broken({.check = "L4",
                   .moment = Moment::kBind,
                   .consumer = std::string(consumer.name),
                   .field = std::string(spec.name),
                   .step = plan_.scalar(field::epoch).get(),
                   .expected = "one consumer to derive a field: another one has memory of its own",
                   .found = concat("derived by ", binding.consumer->name, " already")}));
  }
  return {};
}

Result<std::span<int32_t>> Binder::derive(const ConsumerSpec& consumer, const DerivedSpec& spec) const {
  LS_TRY(only_maker(consumer, spec));
  DerivedFields::Entry* entry = LS_TRY(derived_entry(consumer, spec, consumer.derives));
  const int64_t live = spec.live(derived_->limits(), plan_);
  if (live > entry->values.elements()) {
    return Result<std::span<int32_t>>(
        Status(broken({.check = "P10",
                       .moment = Moment::kBind,
                       .consumer = std::string(consumer.name),
                       .field = std::string(spec.name),
                       .step = plan_.scalar(field::epoch).get(),
                       .expected = concat("at most ", entry->values.elements(), ", its capacity"),
                       .found = concat(live, " entries")})));
  }
  std::fill(entry->host.begin() + live, entry->host.end(), spec.pad_value);
  entry->stamp = {
      .epoch = plan_.scalar(field::epoch).get(), .sources = source_digest(spec, plan_), .entries = live};
  entry->dirty = true;
  return std::span<int32_t>(entry->host.data(), static_cast<size_t>(live));
}

Result<TensorView> Binder::derive_on_device(const ConsumerSpec& consumer, const DerivedSpec& spec) const {
  LS_TRY(only_maker(consumer, spec));
  DerivedFields::Entry* entry = LS_TRY(derived_entry(consumer, spec, consumer.derives));
  entry->stamp = {.epoch = plan_.scalar(field::epoch).get(),
                  .sources = source_digest(spec, plan_),
                  .entries = spec.live(derived_->limits(), plan_)};
  return entry->values;
}

Result<TensorView> Binder::derived(const ConsumerSpec& consumer, const DerivedSpec& spec) const {
  DerivedFields::Entry* entry = LS_TRY(derived_entry(consumer, spec, consumer.reads));
  const uint64_t epoch = plan_.scalar(field::epoch).get();
  const bool stale = entry->stamp.epoch != epoch;
  if (stale || entry->stamp.sources != source_digest(spec, plan_)) {
    Status status =
        broken({.check = "P8",
                .moment = Moment::kBind,
                .consumer = std::string(consumer.name),
                .field = std::string(spec.name),
                .step = epoch,
                .expected = concat("derived in step ", epoch, " from this plan"),
                .found = stale ? concat("derived in step ", entry->stamp.epoch)
                               : concat("derived in step ", epoch, " from other values of its sources")});
    if (!status.ok()) return status;
  }
  return entry->values;
}

Status Binder::check_host_made() const {
  if (derived_ == nullptr) return {};
  for (const DerivedFields::Entry& entry : derived_->entries()) {
    const DerivedSpec& spec = *entry.spec;
    const uint64_t epoch = plan_.scalar(field::epoch).get();
    if (spec.maker != DerivedMaker::kHost || entry.stamp.epoch != epoch) continue;
    const auto live = static_cast<size_t>(entry.stamp.entries);
    std::vector<int32_t> want(live);
    spec.reference(derived_->limits(), plan_, want);
    for (size_t i = 0; i < live; ++i) {
      if (entry.host[i] == want[i]) continue;
      LS_TRY(broken({.check = "P8",
                     .moment = Moment::kBind,
                     .consumer = "derived",
                     .field = std::string(spec.name),
                     .row = static_cast<int64_t>(i),
                     .step = epoch,
                     .expected = concat(want[i], ", as its reference derives it"),
                     .found = concat(entry.host[i])}));
      break;
    }
    DerivedCheck check{
        .consumer = "derived", .moment = Moment::kBind, .values = {entry.host.data(), live}, .of = {}};
    if (spec.of != nullptr) {
      const DerivedFields::Entry* of = derived_->find(*spec.of);
      if (of != nullptr && of->spec->maker == DerivedMaker::kHost)
        check.of = {of->host.data(), static_cast<size_t>(of->stamp.entries)};
    }
    LS_TRY(check_derived(spec, derived_->limits(), plan_, check));
  }
  return {};
}

uint64_t Binder::step() const { return plan_.scalar(field::epoch).get(); }

}  // namespace lockstep
