#include "conformance/rig.h"

#include <cstring>
#include <limits>

#include "base/math.h"
#include "kernels/table.h"

namespace lockstep::conformance {
namespace {

constexpr GroupId kPages{0};
constexpr const OpSpec* kOps[] = {&kTableEditsSpec};
constexpr FieldUse kUses[] = {
    {.field = FieldId::table_edits, .argument = "table_edits.edits"},
    {.field = FieldId::num_table_edits, .argument = "table_edits.num_edits"},
};
constexpr ConsumerSpec kConsumer{.name = "table_update", .ops = kOps, .fields = kUses};
constexpr int64_t kDecoyBytes = int64_t{1} << 20;  // room for what a case allocates between two steps

}  // namespace

StepLimits limits_for(const CacheGeometry& cache, int32_t max_rows, int32_t max_seqs, int32_t max_seq_len) {
  StepLimits limits{.max_rows = max_rows,
                    .max_seqs = max_seqs,
                    .max_logits_rows = 0,
                    .max_seq_len = max_seq_len,
                    .max_edits = cache.table_rows * cache.max_pages_per_seq + 1,
                    .max_copies = 0,
                    .vocab_size = 1};
  if (cache.softmax_layers > 0) {
    limits.groups[static_cast<size_t>(limits.num_groups++)] = {.kind = GroupKind::kPaged,
                                                               .page_tokens = cache.kv.page_tokens,
                                                               .kernel_page_tokens = cache.kv.page_tokens,
                                                               .num_pages = cache.kv.num_pages,
                                                               .table_rows = cache.table_rows,
                                                               .max_pages_per_seq = cache.max_pages_per_seq,
                                                               .layout = id_of(cache.layout),
                                                               .dtype = std::string(name_of(cache.kv.dtype))};
  }
  if (cache.compressed_pages > 0) {
    limits.groups[static_cast<size_t>(kCompressedPages.get())] = limits.groups[0];
    limits.groups[static_cast<size_t>(kCompressedPages.get())].layout = "compressed";
    limits.num_groups = 2;
  }
  if (cache.recurrent_layers > 0) {
    limits.groups[static_cast<size_t>(limits.num_groups++)] = {
        .kind = GroupKind::kState, .num_pages = cache.state.slots, .layout = {}, .dtype = "f32"};
  }
  return limits;
}

Rig::Rig(const RigOptions& options, Memory memory, int64_t cache_bytes)
    : cache_(std::move(memory.cache)),
      work_(std::move(memory.work)),
      storage_(std::move(memory.storage)),
      planner_(options.limits),
      table_(kernel_table(options.device != nullptr ? Isa::kSm90 : detect_cpu().best)),
      stream_(options.device, std::move(memory.queue), options.threads, options.pace),
      staging_(2, options.staging_bytes, options.device.get()),
      cache_used_(cache_bytes) {}

Result<std::unique_ptr<Rig>> Rig::create(const RigOptions& options) {
  LS_TRY(check_limits(options.limits));
  const RunnerOptions runner{.limits = options.limits, .level = options.level, .derived = options.derived};
  const int64_t bytes = LS_TRY(CacheStorage::footprint(options.cache));
  Arena cache = LS_TRY(Arena::create("cache", bytes, options.device));
  const int64_t work_bytes = options.work_bytes + StepRunner::footprint(runner) + kDecoyBytes;
  Arena work = LS_TRY(Arena::create("work", work_bytes, options.device));
  CacheStorage storage = LS_TRY(CacheStorage::create(options.cache, cache));
  const bool paged = options.cache.softmax_layers > 0;
  const int64_t data = paged ? cache.offset_of(storage.page_table().data) : cache.used();
  std::unique_ptr<DeviceQueue> queue;
  if (options.device != nullptr) queue = LS_TRY(options.device->make_queue());
  std::unique_ptr<Rig> rig(
      new Rig(options, {std::move(storage), std::move(cache), std::move(work), std::move(queue)}, data));
  rig->map_.add(rig->cache_);
  rig->map_.add(rig->work_);
  rig->runner_ = LS_TRY(StepRunner::create(runner, rig->stream_, rig->map_, rig->work_));
  std::vector<DeviceTable> tables;
  // A pool may be shared with pages that the plan does not know.
  const bool planned = options.limits.groups[0].kind == GroupKind::kPaged;
  if (planned && rig->storage_.page_table()) tables.push_back({kPages, rig->storage_.page_table()});
  if (rig->storage_.compressed_table())
    tables.push_back({kCompressedPages, rig->storage_.compressed_table()});
  rig->runner_->set_tables(std::move(tables));
  if (options.level == GuardLevel::kFull) {
    const GuardOptions guard{.limits = options.limits, .layers = {}, .memory = HostView(rig->stream_)};
    rig->guard_ = std::make_unique<Guard>(guard, rig->map_, rig->runner_->image().bytes());
    rig->stream_.set_observer(rig->guard_->observer());
  }
  return rig;
}

Status Rig::run(const StepPlan& plan, const StepProgram& program, Mode mode) {
  runner_->set_eager(mode == Mode::kEager ? "the case asks for it" : "");
  if (mode == Mode::kGraph && !runner_->has_graph(graph_key(plan)))
    LS_TRY(runner_->capture(plan, program, launcher()));
  if (guard_ != nullptr) guard_->begin_step(plan);
  LS_TRY(runner_->run(plan, program, launcher()));
  LS_TRY(runner_->finish(plan));
  if (mode == Mode::kGraph && !runner_->last().replayed) {
    return error(Code::kUnimplemented, "graphs: the step ran without one: ", runner_->last().eager_reason,
                 "; expected a replay");
  }
  return guard_ == nullptr ? Status() : guard_->end_step();
}

Status Rig::upload(const TensorView& target, const void* bytes) {
  StagingLease lease = LS_TRY(staging_.lease(stream_, target.bytes()));
  std::memcpy(lease.bytes().data(), bytes, lease.bytes().size());
  return stream_.copy(target, std::move(lease));
}

Status Rig::download(const TensorView& source, void* bytes) {
  LS_TRY(stream_.download(source, dense_view(bytes, source.dtype, source.shape)));
  stream_.synchronize();
  return {};
}

Status Rig::check_image(const StepPlan& plan) {
  std::vector<uint8_t> bytes(plan.image().size());
  LS_TRY(download(runner_->image().bytes().rows(0, static_cast<int64_t>(bytes.size())), bytes.data()));
  if (std::memcmp(bytes.data(), plan.image().data(), bytes.size()) == 0) return {};
  size_t at = 0;
  while (bytes[at] == static_cast<uint8_t>(plan.image()[at])) ++at;
  return error(Code::kInternal, "step ", plan.scalar(field::epoch), ": byte ", at,
               " of the plan on the device has changed; expected nobody to write there");
}

Result<std::vector<uint8_t>> Rig::cache_bytes() {
  std::vector<uint8_t> bytes(static_cast<size_t>(cache_used_));
  const auto& geometry = storage_.geometry();
  void* base = geometry.softmax_layers > 0 ? storage_.kv(0).k.data : storage_.state(0).conv.data;
  LS_TRY(download(dense_view(base, DType::kU8, {cache_used_}), bytes.data()));
  return bytes;
}

Status prepare_tables(const Binder& binder, PreparedStep& step) {
  const int32_t groups = binder.plan().layout().num_groups();
  for (const GroupId group : {kPages, kCompressedPages}) {
    if (group.get() >= groups) continue;
    TableUpdate& update = step.add<TableUpdate>(kConsumer, group);
    update.edits = LS_TRY(binder.address(kConsumer, FieldId::table_edits, group));
    update.num_edits = LS_TRY(binder.scalar_address(kConsumer, field::num_table_edits, group));
  }
  return {};
}

Status update_tables(const PreparedStep& step, const CacheStorage& storage, const Launcher& on) {
  const auto edit = [&](GroupId group, const TensorView& table) -> Status {
    if (!table) return {};
    const TableUpdate& update = *LS_TRY(step.get<TableUpdate>(kConsumer, group));
    const TableEditsArgs args{.edits = update.edits, .page_table = table, .num_edits = update.num_edits};
    return table_edits(on, args, "table_edits");
  };
  LS_TRY(edit(kPages, storage.page_table()));
  return edit(kCompressedPages, storage.compressed_table());
}

void fill_numbers(uint64_t key, std::span<float> values) {
  uint64_t state = mix64(key, values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    state += 0x9E3779B97F4A7C15u;
    const auto word = static_cast<uint32_t>(mix64(state, key) >> 40);
    values[i] = static_cast<float>(word) * 0x1p-23f - 1.0f;
  }
}

void fill_poison(Poison poison, std::span<float> values) {
  if (poison == Poison::kGarbage) {
    fill_numbers(0xBAD, values);
    for (float& value : values) value *= 1e4f;
    return;
  }
  const float value =
      poison == Poison::kNan ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::max();
  std::fill(values.begin(), values.end(), value);
}

RigStep decode_step(std::span<const int32_t> sequences, int32_t bucket, Mode mode, bool compare) {
  RigStep step{.shares = {},
               .bucket = {.rows = PaddedRows(bucket), .seqs = PaddedSeqs(bucket)},
               .mode = mode,
               .compare = compare};
  for (const int32_t sequence : sequences) step.shares.push_back({sequence, 1});
  return step;
}

RigStep prefill_step(int32_t sequence, int32_t rows) {
  return {.shares = {{sequence, rows}}, .bucket = {.rows = PaddedRows(rows), .seqs = PaddedSeqs(1)}};
}

}  // namespace lockstep::conformance
