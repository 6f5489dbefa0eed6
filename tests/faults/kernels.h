// What the entries about single kernels begin with: a step on a device, memory, and two ways to look at
// launches: run under the guard at level full, or recorded and held to what was bound. An entry then writes
// the kernel, or its arguments, the way that went wrong in the field.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "conformance/host_kernels.h"
#include "contract/replay_check.h"
#include "device/staging.h"
#include "faults/entries.h"
#include "faults/plans.h"
#include "guard/guard.h"
#include "kernels/kv_cache/kv_layout.h"

namespace lockstep::faults {

// Thread: one owner.
class KernelRig {
 public:
  // Steps of up to 2048 rows and 8 sequences; one group of 127 pages of kPageTokens.
  explicit KernelRig(const Where& where);

  // Plans that are right; sequence i lives in table row i + 1, and its pages follow one another.
  Plans& plans() { return plans_; }
  // Takes the plan, when it is valid, to the device: its image and its page table.
  Status take(StepPlan& plan);
  // The plan of `shares` in a bucket, taken. Precondition: it fits.
  void step(std::initializer_list<Share> shares, const Bucket& bucket);

  // New memory, zero. Precondition: there is room for it; numbers() is for floats: 1, 2, 3, ...
  TensorView memory(std::string_view name, DType dtype, const Shape& shape);
  TensorView numbers(std::string_view name, const Shape& shape);
  TensorView ids(std::string_view name, const Shape& shape, std::initializer_list<int32_t> values);
  // A cache of numbers, and pages of kPageTokens.
  struct CacheShape {
    int32_t pages = 8;
    int32_t heads = 1;
    int32_t head_dim = 4;
    DType dtype = DType::kF32;
    int32_t page_tokens = kPageTokens;
  };
  KvView cache(std::string_view layout, const CacheShape& shape);
  KvView small_cache() { return cache("apart/token", {}); }
  void put(const TensorView& target, const void* bytes);  // dense
  template <typename T>
  T look(const TensorView& view, int64_t at) {
    T value{};
    HostView(stream_).read(view.as<T>() + at, &value, sizeof(T));
    return value;
  }
  template <typename T>
  void fill(const TensorView& target, T value) {
    put(target, std::vector<T>(static_cast<size_t>(target.elements()), value).data());
  }

  const StepPlan& plan() const { return plan_; }
  TensorView field(FieldId id) const { return image_->view(plan_.layout(), id, kKv); }
  template <typename T>
  const T* scalar(Field<T> f) const {
    return static_cast<const T*>(field(f.id).data);
  }
  const TensorView& page_table() const { return page_table_; }  // [R, M] i32

  // Runs one launch as the only one of the step, and what the guard says of it.
  template <typename Args>
  Status watch(const OpSpec& spec, Kernel<Args> kernel, const Args& args) {
    Guard guard({.limits = limits_, .layers = {{}}, .memory = HostView(stream_)}, map_, image_->bytes());
    stream_.set_observer(guard.observer());
    stream_.set_layer(0);
    guard.begin_step(plan_);
    conformance::launch_on_host(host_.get(), stream_, {.spec = &spec, .stage = "stage"}, kernel, args);
    const Status status = guard.end_step();
    stream_.set_observer({});
    return status;
  }

  // Records one launch of `consumer`, which binds what it declares, and what the contract says of it.
  template <typename Args>
  Status record(const ConsumerSpec& consumer, Kernel<Args> kernel, const Args& args) {
    BindingLog bindings;
    const Binder binder(plan_, *image_, &bindings);
    for (const FieldUse& use : consumer.fields) LS_TRY(binder.address(consumer, use.field, kKv));
    Graph graph;
    LS_TRY(stream_.begin_capture(graph));
    launch(stream_, *consumer.ops.front(), "stage", kernel, args, Parts::kOne);
    stream_.end_capture();
    return check_launches(graph, {.plan = plan_, .image = *image_, .map = map_, .bindings = bindings.all()});
  }

 private:
  StepLimits limits_;
  Plans plans_;
  StepPlan plan_;
  DevicePtr device_;                            // null: the CPU
  std::vector<std::unique_ptr<Arena>> arenas_;  // one each for caches
  std::unique_ptr<conformance::HostKernels> host_;
  MemoryMap map_;
  Stream stream_;
  StagingRing staging_;
  std::optional<DeviceImage> image_;
  TensorView page_table_;
};

// out[t] = the mean of the values at the positions that row t has picked in its own sequence; 0 where it has
// picked none, and in pads. A position of -1 is no pick.
struct PickArgs {
  KvView cache;                // of one head
  TensorView page_table;       // [R, M] i32
  TensorView table_rows;       // [S] i32
  TensorView query_start_loc;  // [S + 1] i32
  TensorView picks;            // [T, k] i32
  TensorView out;              // [T, D] f32
  const LiveRows* num_rows = nullptr;
};
inline constexpr OpArg kPickArgs[] = {
    {LS_ARG(PickArgs, cache), .dims = "PKBD", .rows = RowsTouched::kOwned, .any_stride = true},
    {LS_ARG(PickArgs, page_table), .dims = "RM", .rows = RowsTouched::kOwned},
    {LS_ARG(PickArgs, table_rows), .dims = "S", .rows = RowsTouched::kLive},
    {LS_ARG(PickArgs, query_start_loc), .dims = "S1", .rows = RowsTouched::kLive},
    {LS_ARG(PickArgs, picks), .dims = "Tk", .rows = RowsTouched::kLive},
    {LS_ARG(PickArgs, out), .access = Access::kWrite, .dims = "TD"},
    {LS_ARG(PickArgs, num_rows), .rows = RowsTouched::kNone}};
inline constexpr OpSpec kPick{.name = "attend_picked", .args = kPickArgs, .args_bytes = sizeof(PickArgs)};

// Two sequences of 3 and 1 rows, in 8; each row with two picks. `picks` has the bucket's rows.
PickArgs pick_args(KernelRig& rig, std::initializer_list<int32_t> picks);
// The value at (page, offset) of head 0, [D].
inline const float* value_at(const PickArgs& args, int64_t page, int64_t offset) {
  return static_cast<const float*>(args.cache.v.data) + page * args.cache.v.page_stride +
         offset * args.cache.v.token_stride;
}
// The pages of the sequence that owns a live row.
const int32_t* pages_of(const PickArgs& args, int64_t row);
inline bool is_live(const PickArgs& args, int64_t row) { return row < args.num_rows->get(); }
// Done right.
void attend_picked(const PickArgs& args, Worker worker);

}  // namespace lockstep::faults
