#include "faults/kernels.h"

#include <algorithm>
#include <numeric>

namespace lockstep::faults {
namespace {

constexpr int64_t kArenaBytes = int64_t{2} << 20;
constexpr int64_t kStagingBytes = int64_t{1} << 18;

StepLimits kernel_limits() {
  StepLimits limits = small_limits();
  limits.max_seqs = limits.max_logits_rows = 8;
  limits.num_groups = 1;
  limits.groups[0].num_pages = 128;
  limits.groups[0].table_rows = 9;
  return limits;
}

Result<std::unique_ptr<Arena>> new_arena(std::string_view name, int64_t bytes, const DevicePtr& device) {
  Arena arena = LS_TRY(Arena::create(name, bytes, device));
  return std::make_unique<Arena>(std::move(arena));
}

template <typename T>
T value_of(Result<T> result) {
  LS_CHECK(result.ok(), result.status().message());
  return std::move(result).value();
}

std::vector<float> counted(int64_t count) {
  std::vector<float> numbers(static_cast<size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 1.0f);
  return numbers;
}

std::unique_ptr<DeviceQueue> queue_of(const DevicePtr& device) {
  return device == nullptr ? nullptr : value_of(device->make_queue());
}

}  // namespace

KernelRig::KernelRig(const Where& where)
    : limits_(kernel_limits()),
      plans_(limits_),
      device_(where.device),
      host_(value_of(conformance::HostKernels::create(device_, kArenaBytes))),
      stream_(device_, queue_of(device_)),
      staging_(2, kStagingBytes, device_.get()) {
  arenas_.push_back(value_of(new_arena("memory", kArenaBytes, device_)));
  map_.add(*arenas_.front());
  image_.emplace(value_of(DeviceImage::create(limits_, *arenas_.front())));
  page_table_ = memory("page_table", DType::kI32,
                       {limits_.group(kKv).table_rows, limits_.group(kKv).max_pages_per_seq});
}

Status KernelRig::take(StepPlan& plan) {
  LS_TRY(plans_.run(plan));
  const auto live = static_cast<size_t>(plan.scalar(field::num_table_edits, kKv));
  for (const TableEdit& edit : plan.get(field::table_edits, kKv).first(live)) {
    const int32_t page = edit.page.get();
    int32_t* entry = page_table_.as<int32_t>() + edit.row.get() * page_table_.stride(0) + edit.index;
    HostView(stream_).write(entry, &page, sizeof(page));
  }
  plan_ = plan;
  return image_->refresh(plan_, stream_, staging_);
}

void KernelRig::step(std::initializer_list<Share> shares, const Bucket& bucket) {
  StepPlan plan = plans_.next(shares, {.bucket = bucket});
  const Status taken = take(plan);
  LS_CHECK(taken.ok(), taken.message());
}

TensorView KernelRig::memory(std::string_view name, DType dtype, const Shape& shape) {
  return value_of(arenas_.front()->allocate(name, dtype, shape));
}

TensorView KernelRig::numbers(std::string_view name, const Shape& shape) {
  const TensorView view = memory(name, DType::kF32, shape);
  put(view, counted(view.elements()).data());
  return view;
}

TensorView KernelRig::ids(std::string_view name, const Shape& shape, std::initializer_list<int32_t> values) {
  const TensorView view = memory(name, DType::kI32, shape);
  LS_CHECK(static_cast<int64_t>(values.size()) == view.elements(), name, " has ", shape);
  put(view, std::data(values));
  return view;
}

void KernelRig::put(const TensorView& target, const void* bytes) {
  HostView(stream_).write(target.data, bytes, target.bytes());
}

KvView KernelRig::cache(std::string_view layout, const CacheShape& shape) {
  const KvLayout parsed = value_of(parse_kv_layout(layout));
  KvGeometry geometry{.dtype = shape.dtype,
                      .num_pages = shape.pages,
                      .page_tokens = shape.page_tokens,
                      .heads = shape.heads,
                      .head_dim = shape.head_dim};
  if (parsed.pool == KvPool::kShared) geometry.shared_page_bytes = 2 * kv_page_bytes(parsed, geometry);
  const int64_t bytes = kv_cache_bytes(parsed, geometry);
  arenas_.push_back(value_of(new_arena("caches", bytes, device_)));
  map_.add(*arenas_.back());
  const TensorView pages = value_of(arenas_.back()->allocate("cache", DType::kU8, {bytes}));
  if (bytes <= kArenaBytes) put(dense_view(pages.data, DType::kF32, {bytes / 4}), counted(bytes / 4).data());
  return make_kv_view(pages.data, parsed, geometry);
}

PickArgs pick_args(KernelRig& rig, std::initializer_list<int32_t> picks) {
  rig.step({{0, 3}, {1, 1}}, bucket(8, 4, 2));
  const KvView cache = rig.small_cache();
  return {.cache = cache,
          .page_table = rig.page_table(),
          .table_rows = rig.field(FieldId::table_rows),
          .query_start_loc = rig.field(FieldId::query_start_loc),
          .picks = rig.ids("picks", {8, 2}, picks),
          .out = rig.memory("out", DType::kF32, {8, cache.head_dim}),
          .num_rows = rig.scalar(field::num_rows)};
}

const int32_t* pages_of(const PickArgs& args, int64_t row) {
  const int32_t* starts = args.query_start_loc.as<int32_t>();
  int64_t s = 0;
  while (row >= starts[s + 1]) ++s;
  return args.page_table.as<int32_t>() + args.table_rows.as<int32_t>()[s] * args.page_table.stride(0);
}

void attend_picked(const PickArgs& args, Worker /*worker*/) {
  const int64_t picks = args.picks.dim(1), dim = args.out.dim(1), tokens = args.cache.page_tokens;
  for (int64_t t = 0; t < args.out.dim(0); ++t) {
    float* out = args.out.as<float>() + t * dim;
    std::fill_n(out, dim, 0.0f);
    if (!is_live(args, t)) continue;
    const int32_t* pages = pages_of(args, t);
    int64_t count = 0;
    for (int64_t j = 0; j < picks; ++j) {
      const int32_t position = args.picks.as<int32_t>()[t * picks + j];
      if (position < 0) continue;
      const float* value = value_at(args, pages[position / tokens], position % tokens);
      for (int64_t d = 0; d < dim; ++d) out[d] += value[d];
      ++count;
    }
    for (int64_t d = 0; d < dim && count > 0; ++d) out[d] /= static_cast<float>(count);
  }
}

}  // namespace lockstep::faults
