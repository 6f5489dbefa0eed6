// Binder: the only way from a consumer to the plan. It hands out what the consumer's spec declares and
// nothing else, by device address or by host value, and logs what it handed out.
#pragma once

#include <array>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "contract/consumer_spec.h"
#include "contract/derived.h"
#include "contract/device_image.h"

namespace lockstep {

// What a consumer's host code chose: R5 holds it to its branches, R7 to its counts.
enum class DecisionKind : uint8_t { kBranch, kCount };

// What was handed out, or decided, and for whom.
struct Binding {
  enum class Kind : uint8_t {
    kAddress,   // device address of a field
    kValue,     // host values of a field
    kDerived,   // device address of a derived field
    kDecision,  // a number that the consumer's host code chose: a branch, a split, a tile count
  };
  const ConsumerSpec* consumer = nullptr;
  Kind kind = Kind::kAddress;
  Freeze freeze = Freeze::kExact;
  DecisionKind choice = DecisionKind::kBranch;  // kDecision
  FieldId field = FieldId::token_ids;           // kAddress, kValue
  GroupId group;
  std::string_view name;  // kDerived, kDecision: of the derived field or the decision
  int64_t offset = 0;     // bytes from the beginning of the image, or of the derived field's memory
  int64_t elements = 0;
  int64_t value = 0;  // kDecision: the number

  bool operator==(const Binding&) const = default;
};
// Of what was bound, whatever its kind.
inline std::string_view name_of(const Binding& binding) {
  const bool field = binding.kind == Binding::Kind::kAddress || binding.kind == Binding::Kind::kValue;
  return field ? name_of(binding.field) : binding.name;
}

// The bindings of one prepare(), in their order. As long as they are those of a capture they are only held
// to its list, not written down again: a replay that is right reads memory and writes none.
class BindingLog {
 public:
  // Empties the log. `expected`: of a capture, which outlives this log or its next begin().
  void begin(std::span<const Binding> expected = {}) {
    expected_ = expected;
    same_ = 0;
    others_.clear();
    differs_ = false;
  }
  void add(const Binding& binding) {
    if (!differs_ && same_ < expected_.size() && expected_[same_] == binding) {
      ++same_;
    } else {
      write(binding);
    }
  }
  std::span<const Binding> all() const { return differs_ ? std::span(others_) : expected_.first(same_); }

 private:
  void write(const Binding& binding);

  std::span<const Binding> expected_;
  size_t same_ = 0;              // that many of expected_, so far
  std::vector<Binding> others_;  // all of them, once one differs
  bool differs_ = false;
};

// A field, and the place in a launch that it is bound to: a view, or the typed address of a scalar.
class FieldTarget {
 public:
  FieldTarget(FieldId id, FieldView& view, GroupId group = GroupId(0))
      : id_(id), group_(group), view_(&view) {}
  template <typename T>
  FieldTarget(Field<T> f, const T*& address, GroupId group = GroupId(0))
      : id_(f.id), group_(group), address_(&address) {}

  FieldId id() const { return id_; }
  GroupId group() const { return group_; }
  FieldView* view() const { return view_; }  // null: a scalar
  void set_address(const void* address) const { std::memcpy(address_, &address, sizeof(address)); }

 private:
  FieldId id_;
  GroupId group_;
  FieldView* view_ = nullptr;
  void* address_ = nullptr;  // of a pointer
};

// Lives for one prepare(). Thread: one owner. Cost: a few ns per field.
class Binder {
 public:
  // `derived` may be null where no consumer derives anything; `log` where nobody reads it.
  Binder(const StepPlan& plan, const DeviceImage& image, BindingLog* log, DerivedFields* derived = nullptr)
      : plan_(plan), image_(image), log_(log), derived_(derived) {}

  // Binds fields to their places in a launch, up to the first error: kInternal, with a fault of moment kBind:
  // the consumer did not declare the field or the group has no such field (L1); the plan is not what the
  // consumer needs (L1).
  Status bind(const ConsumerSpec& consumer, std::initializer_list<FieldTarget> targets) const;

  // The field's device view, as a tensor. Errors: as bind().
  Result<TensorView> address(const ConsumerSpec& consumer, FieldId id, GroupId group = GroupId(0)) const {
    FieldView view;
    LS_TRY(bind(consumer, {{id, view, group}}));
    return view.tensor();
  }

  // The device address of a scalar field, typed.
  template <typename T>
  Result<const T*> scalar_address(const ConsumerSpec& consumer, Field<T> f,
                                  GroupId group = GroupId(0)) const {
    const T* scalar = nullptr;
    LS_TRY(bind(consumer, {{f, scalar, group}}));
    return scalar;
  }

  // The host values of a field, typed: frozen by a capture. Errors: as bind().
  template <typename T>
  Result<std::span<const T>> values(const ConsumerSpec& consumer, Field<T> f,
                                    GroupId group = GroupId(0)) const {
    const std::span<const std::byte> bytes = LS_TRY(value_bytes(consumer, f.id, group));
    return std::span<const T>(reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T));
  }
  // Of a scalar field.
  template <typename T>
  Result<T> value(const ConsumerSpec& consumer, Field<T> f, GroupId group = GroupId(0)) const {
    const std::span<const T> all = LS_TRY(values(consumer, f, group));
    return all.front();
  }

  // Logs what the consumer's host code chose (which kernel, how many splits); the same must be chosen at
  // every replay (R5, R7).
  int64_t decide(const ConsumerSpec& consumer, std::string_view name, int64_t value,
                 DecisionKind choice = DecisionKind::kBranch) const;

  // Where `consumer` writes the derived field on the host, in prepare() (DerivedMaker::kHost); pads are
  // filled in and the stamp is set. Errors: kInternal (L1) when its spec does not list it; (L4) when
  // another consumer derives it too; (P10) beyond the capacity.
  Result<std::span<int32_t>> derive(const ConsumerSpec& consumer, const DerivedSpec& spec) const;
  // Where a kernel of `consumer` writes it (DerivedMaker::kDevice): [capacity] i32. Errors: L1, L4.
  Result<TensorView> derive_on_device(const ConsumerSpec& consumer, const DerivedSpec& spec) const;
  // Where a kernel of `consumer` reads it. Errors: L1; kInternal (P8) when it was not derived from this plan.
  Result<TensorView> derived(const ConsumerSpec& consumer, const DerivedSpec& spec) const;
  // Holds every host-made field of this plan to its reference and its rule (moment kBind).
  Status check_host_made() const;

  const StepPlan& plan() const { return plan_; }
  uint64_t step() const;  // the plan's epoch, for messages of those who may not look into it

 private:
  bool declared_next(const ConsumerSpec& consumer, FieldId id, Feed feed, GroupId group) const;
  Status declared(const ConsumerSpec& consumer, FieldId id, Feed feed, GroupId group) const;
  Status accepts(const ConsumerSpec& consumer) const;
  Result<std::span<const std::byte>> value_bytes(const ConsumerSpec& consumer, FieldId id,
                                                 GroupId group) const;
  Result<DerivedFields::Entry*> derived_entry(const ConsumerSpec& consumer, const DerivedSpec& spec,
                                              std::span<const DerivedSpec* const> allowed) const;
  Status only_maker(const ConsumerSpec& consumer, const DerivedSpec& spec) const;
  Status refuse(const ConsumerSpec& consumer, FieldId id, int64_t row, std::string expected,
                std::string found) const;

  const StepPlan& plan_;
  const DeviceImage& image_;
  BindingLog* log_;
  DerivedFields* derived_;
  mutable const ConsumerSpec* accepted_ = nullptr;  // the last one whose needs were held up
  mutable size_t next_use_ = 0;                     // of it
};

}  // namespace lockstep
