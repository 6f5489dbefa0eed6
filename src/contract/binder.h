// Binder: the only way from a consumer to the plan. It hands out what the consumer's spec declares and
// nothing else, by device address or by host value, and logs what it handed out.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "contract/device_image.h"
#include "tensor/op_spec.h"

namespace lockstep {

enum class Feed : uint8_t {
  kAddress,  // the kernel reads the field from the device image: follows every replay
  kValue,    // the host reads it while preparing: exact, so it belongs to the graph key
};

// One field that a consumer reads, and the op argument that it feeds.
struct FieldUse {
  FieldId field;
  Feed feed = Feed::kAddress;
  std::string_view argument;  // "paged_attention.seq_lens"
};

// A block or backend that reads the plan: which ops it runs, which fields feed them.
struct ConsumerSpec {
  std::string_view name;  // "paged_attention"
  std::span<const OpSpec* const> ops;
  std::span<const FieldUse> fields;
};

// What was handed out, for whom.
struct Binding {
  std::string_view consumer;
  FieldId field;
  GroupId group;
  Feed feed;
  int64_t offset = 0;    // of the address in the image, bytes
  int64_t elements = 0;  // of the view; for values: the value
};

// Lives for one prepare(). Thread: one owner. Cost: a few ns per field.
class Binder {
 public:
  Binder(const StepPlan& plan, const DeviceImage& image, std::vector<Binding>* log)
      : plan_(plan), image_(image), log_(log) {}

  // The field's device view.
  // Errors: kInternal when the consumer did not declare it (L1) or the group has no such field.
  Result<TensorView> address(const ConsumerSpec& consumer, FieldId id, GroupId group = GroupId(0)) const;

  // The device address of a scalar field, typed.
  template <typename T>
  Result<const T*> scalar_address(const ConsumerSpec& consumer, Field<T> f,
                                  GroupId group = GroupId(0)) const {
    const TensorView view = LS_TRY(address(consumer, f.id, group));
    return static_cast<const T*>(view.data);
  }

  // The host value of a scalar field, typed. Errors: as address().
  template <typename T>
  Result<T> value(const ConsumerSpec& consumer, Field<T> f, GroupId group = GroupId(0)) const {
    T out{};
    LS_TRY(copy_value(consumer, f.id, group, &out));
    return out;
  }

 private:
  Status declared(const ConsumerSpec& consumer, FieldId id, Feed feed, GroupId group) const;
  Status copy_value(const ConsumerSpec& consumer, FieldId id, GroupId group, void* out) const;

  const StepPlan& plan_;
  const DeviceImage& image_;
  std::vector<Binding>* log_;  // null: nobody reads it
};

}  // namespace lockstep
