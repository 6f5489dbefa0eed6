#include "runtime/executor.h"

#include <algorithm>

#include "attention/paged/paged_backend.h"
#include "attention/sparse/sparse_backend.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/math.h"
#include "contract/selected_blocks.h"
#include "model/recurrent_backends.h"
#include "model/state_geometry.h"

namespace lockstep {
namespace {

constexpr const OpSpec* kOps[] = {&kTableEditsSpec, &kCopyPagesSpec};
constexpr FieldUse kUses[] = {
    {.field = FieldId::table_edits, .argument = "table_edits.edits"},
    {.field = FieldId::num_table_edits, .argument = "table_edits.num_edits"},
    {.field = FieldId::copies, .argument = "copy_pages.copies"},
    {.field = FieldId::num_copies, .argument = "copy_pages.num_copies"},
};
constexpr ConsumerSpec kConsumer{.name = "cache_update", .ops = kOps, .fields = kUses};

bool is_sparse(const DecoderSpec& spec) {
  return spec.softmax.sparse.has_value() && spec.count(Mixer::kSoftmax) > 0;
}

CacheGeometry cache_geometry(const DecoderSpec& spec, DType cache_dtype, const ExecutorOptions& options) {
  const CacheGroup& pages = options.limits.group(kKvGroup);
  const CacheGroup& states = options.limits.group(kStateGroup);
  return {.layout = options.layout,
          .kv = {.dtype = cache_dtype,
                 .num_pages = pages.num_pages,
                 .page_tokens = pages.page_tokens,
                 .heads = spec.softmax.kv_heads,
                 .head_dim = spec.softmax.head_dim},
          .softmax_layers = spec.count(Mixer::kSoftmax),
          .state = state_geometry(spec, states.num_pages),
          .recurrent_layers = spec.recurrent_layers(),
          .compressed_pages = is_sparse(spec) ? options.limits.group(kCompressedGroup).num_pages : 0,
          .table_rows = pages.table_rows,
          .max_pages_per_seq = pages.max_pages_per_seq};
}

ContextGroup context_of(const ExecutorOptions& options) {
  return context_group(options.mesh, options.limits.max_rows);
}

DecoderOptions decoder_options(MatmulInput input, const ExecutorOptions& options) {
  return {.input = input,
          .limits = {.rows = options.limits.max_rows, .logits_rows = options.limits.max_logits_rows},
          .threads = options.threads,
          .on_device = options.device != nullptr,
          .mesh = options.mesh};
}

SamplerLimits sampler_limits(const DecoderSpec& spec, const ExecutorOptions& options) {
  return {.logits_rows = options.limits.max_logits_rows,
          .vocab = spec.vocab,
          .vocab_known = std::min(options.vocab_known, spec.vocab),
          .penalty_slots = options.limits.penalty_slots,
          .threads = options.threads,
          .context = context_of(options),
          .seqs = options.limits.max_seqs};
}

std::vector<LayerKinds> layer_kinds(const DecoderSpec& spec) {
  std::vector<LayerKinds> kinds;
  for (const LayerSpec& layer : spec.layers) {
    kinds.push_back({.mixer = layer_kind(layer.mixer),
                     .mlp = layer.mlp == Mlp::kMoe ? LayerKind::kMoe : LayerKind::kDense});
  }
  return kinds;
}

RunnerOptions runner_options(const ExecutorOptions& options) {
  RunnerOptions runner{
      .limits = options.limits, .level = options.guard, .derived = {}, .overlapped = options.overlapped};
  if (options.limits.selection.kv_heads > 0) {
    const auto fields = selected_block_fields();
    runner.derived.assign(fields.begin(), fields.end());
  }
  return runner;
}

// The backend of the softmax layers.
std::unique_ptr<AttentionBackend> make_attention(const DecoderSpec& spec, const CacheStorage& storage,
                                                 const ExecutorOptions& options) {
  if (!is_sparse(spec)) return std::make_unique<PagedBackend>(storage, context_of(options));
  const SparseSpec& sparse = *spec.softmax.sparse;
  const CacheGroup& group = options.limits.group(kCompressedGroup);
  return std::make_unique<SparseBackend>(
      storage,
      SparseOptions{.init_blocks = sparse.init_blocks,
                    .window_blocks = sparse.window_blocks,
                    .most_blocks = sparse.most_blocks(),
                    .dense_len = options.limits.selection.dense_len,
                    .max_tokens = group.max_pages_per_seq * group.page_tokens,
                    .compressed = kCompressedGroup},
      context_of(options));
}

}  // namespace

LayerKind layer_kind(Mixer mixer) {
  switch (mixer) {
    case Mixer::kSoftmax: return LayerKind::kSoftmax;
    case Mixer::kDelta: return LayerKind::kGatedDelta;
    case Mixer::kLightning: return LayerKind::kLightning;
  }
  return LayerKind::kOther;
}

// Of each cache group.
struct Executor::CacheUpdate {
  FieldView edits;
  FieldView copies;
  const int32_t* num_edits = nullptr;
  const int32_t* num_copies = nullptr;
};

void set_cache_groups(const DecoderSpec& spec, DType cache_dtype, const KvLayout& layout,
                      const CacheSizes& sizes, StepLimits& limits) {
  // A model with compressed keys has all three groups; without recurrent layers its states are empty.
  limits.num_groups = is_sparse(spec) ? 3 : spec.recurrent_layers() > 0 ? 2 : 1;
  limits.groups[static_cast<size_t>(kKvGroup.get())] = {
      .kind = GroupKind::kPaged,
      .page_tokens = sizes.page_tokens,
      .kernel_page_tokens = sizes.page_tokens,
      .num_pages = sizes.num_pages,
      .table_rows = sizes.table_rows,
      .max_pages_per_seq = ceil_div(sizes.max_seq_len, sizes.page_tokens),
      .layout = id_of(layout),
      .dtype = std::string(name_of(cache_dtype))};
  if (limits.num_groups == 1) return;
  limits.groups[static_cast<size_t>(kStateGroup.get())] = {
      .kind = GroupKind::kState, .num_pages = sizes.state_slots, .layout = "slots", .dtype = "f32"};
  if (limits.num_groups == 2) return;
  CacheGroup& compressed = limits.groups[static_cast<size_t>(kCompressedGroup.get())];
  compressed = limits.group(kKvGroup);
  compressed.layout = "compressed";
  const SparseSpec& sparse = *spec.softmax.sparse;
  limits.selection = {.kv_heads = spec.softmax.kv_heads,
                      .block_tokens = sparse.block,
                      .most_blocks = sparse.most_blocks(),
                      .dense_len = sparse.dense_len,
                      .group = kCompressedGroup};
}

Result<ExecutorMemory> Executor::memory(const DecoderSpec& spec, DType cache_dtype,
                                        const ExecutorOptions& options) {
  const CacheStorage none;
  const std::unique_ptr<AttentionBackend> attention = make_attention(spec, none, options);
  const std::unique_ptr<RecurrentBackend> recurrent = recurrent_backend(spec, none, context_of(options));
  return ExecutorMemory{
      .cache = LS_TRY(CacheStorage::footprint(cache_geometry(spec, cache_dtype, options))),
      .activations =
          Decoder::footprint(spec, decoder_options(MatmulInput::kF32, options), *attention, *recurrent) +
          Sampler::footprint(sampler_limits(spec, options)) + StepRunner::footprint(runner_options(options))};
}

Executor::Executor(const Model& model, const ExecutorOptions& options, Memory memory,
                   std::unique_ptr<DeviceQueue> queue)
    : model_(model),
      options_(options),
      cache_arena_(std::move(memory.cache)),
      work_arena_(std::move(memory.work)),
      storage_(std::move(memory.storage)),
      attention_(make_attention(model.local, storage_, options)),
      recurrent_(recurrent_backend(model.local, storage_, context_of(options))),
      stream_(options.device, std::move(queue), options.threads, options.pace) {}

Result<std::unique_ptr<Executor>> Executor::create(const Model& model, const ExecutorOptions& options) {
  const ExecutorMemory bytes = LS_TRY(memory(model.local, model.cache_dtype, options));
  Arena cache = LS_TRY(Arena::create("cache", bytes.cache, options.device));
  Arena work = LS_TRY(Arena::create("activations", bytes.activations, options.device));
  CacheStorage storage =
      LS_TRY(CacheStorage::create(cache_geometry(model.local, model.cache_dtype, options), cache));
  std::unique_ptr<DeviceQueue> queue;
  if (options.device != nullptr) queue = LS_TRY(options.device->make_queue());
  std::unique_ptr<Executor> executor(new Executor(
      model, options, {std::move(storage), std::move(cache), std::move(work)}, std::move(queue)));
  LS_TRY(executor->finish(executor->work_arena_));
  return executor;
}

Status Executor::finish(Arena& work) {
  map_.add(cache_arena_);
  map_.add(work_arena_);
  if (model_.loaded) map_.add(model_.loaded->arena);
  runner_ = LS_TRY(StepRunner::create(runner_options(options_), stream_, map_, work));
  // Behind the report, which takes its outcome along where a copy is dear to begin.
  sampler_ = std::make_unique<Sampler>(LS_TRY(Sampler::create(sampler_limits(model_.spec, options_), work)));
  const TensorView outcome = sampler_->outcome();
  LS_CHECK(runner_->report().adjoins(outcome), "the sampler's outcome does not lie behind the report");
  if (stream_.device() != nullptr) LS_TRY(runner_->bring_along(outcome));
  decoder_ = std::make_unique<Decoder>(LS_TRY(Decoder::create(
      model_.local, model_.weights, decoder_options(options_.input.value_or(model_.input), options_),
      *attention_, *recurrent_, work)));
  std::vector<DeviceTable> tables;
  if (storage_.page_table()) tables.push_back({kKvGroup, storage_.page_table()});
  if (storage_.compressed_table()) tables.push_back({kCompressedGroup, storage_.compressed_table()});
  runner_->set_tables(std::move(tables));
  if (options_.guard == GuardLevel::kFull) {
    guard_ =
        std::make_unique<Guard>(GuardOptions{.limits = options_.limits,
                                             .layers = layer_kinds(model_.spec),
                                             .rank = options_.mesh != nullptr ? options_.mesh->rank() : 0,
                                             .memory = HostView(stream_)},
                                map_, runner_->image().bytes());
  }
  return {};
}

void Executor::watch(bool on) {
  watched_ = on && guard_ != nullptr;
  stream_.set_observer(watched_ ? guard_->observer() : LaunchObserver{});
}

Status Executor::run(const StepPlan& plan, StepResult& result) {
  if (!watched_) return run_unwatched(plan, result);
  guard_->begin_step(plan, sequence_ids_);
  Status status = run_unwatched(plan, result);
  // The launch at which it began says more than what it led to.
  LS_TRY(guard_->end_step());
  return status;
}

Status Executor::run_unwatched(const StepPlan& plan, StepResult& result) {
  LS_TRY(start(plan));
  return finish(plan, result);
}

Status Executor::start(const StepPlan& plan) {
  const int64_t start = now_ns();
  const uint64_t epoch = plan.scalar(field::epoch).get();
  if (options_.mesh != nullptr) options_.mesh->ledger().begin_step(epoch);
  newest_ = (newest_ + 1) % Sampler::kArrivals;
  started_[static_cast<size_t>(newest_)].epoch = epoch;
  LS_TRY(runner_->run(plan, *this, launcher()));
  const int32_t rows = plan.scalar(field::num_logits_rows).get();
  if (stream_.device() == nullptr) LS_TRY(sampler_->download(rows, newest_, stream_));
  if (options_.mesh != nullptr) LS_TRY(options_.mesh->settle());
  started_[static_cast<size_t>(newest_)] = {
      .epoch = epoch, .end = stream_.record(), .enqueue_ns = now_ns() - start};
  return {};
}

Status Executor::finish(const StepPlan& plan, StepResult& result) {
  const int64_t start = now_ns();
  const uint64_t epoch = plan.scalar(field::epoch).get();
  const bool newest = started_[static_cast<size_t>(newest_)].epoch == epoch;
  const int arrival = newest ? newest_ : (newest_ + 1) % Sampler::kArrivals;
  const Started& started = started_[static_cast<size_t>(arrival)];
  const Status finished = runner_->finish(plan, started.end);
  if (options_.mesh != nullptr) {
    LS_TRY(options_.mesh->status());  // whatever else went wrong then is its consequence
    options_.mesh->ledger().leave_all();
  }
  LS_TRY(finished);
  result.epoch = plan.scalar(field::epoch);
  const int32_t rows = plan.scalar(field::num_logits_rows).get();
  if (stream_.device() == nullptr) {
    sampler_->collect(rows, arrival, result);
  } else {
    sampler_->collect(rows, runner_->report().brought(plan), result);
  }
  times_ = {.enqueue_ns = started.enqueue_ns, .finish_ns = now_ns() - start};
  return {};
}

Status Executor::prepare(const Binder& binder, PreparedStep& step) const {
  LS_TRY(prepare_caches(binder, step));
  LS_TRY(decoder_->prepare(binder, step));
  const Bucket& bucket = binder.plan().bucket();
  return sampler_->prepare(binder, decoder_->tokens(bucket.rows.get()),
                           decoder_->logits(bucket.logits_rows.get()), step);
}

Status Executor::enqueue(const PreparedStep& step, const Launcher& on) const {
  LS_TRY(update_caches(step, on));
  LS_TRY(decoder_->run(step, sampler_->sampled(), on));
  return sampler_->run(step, on);
}

Status Executor::prepare_caches(const Binder& binder, PreparedStep& step) const {
  for (int32_t g = 0; g < options_.limits.num_groups; ++g) {
    const GroupId group(g);
    CacheUpdate& update = step.add<CacheUpdate>(kConsumer, group);
    if (options_.limits.group(group).kind == GroupKind::kPaged) {
      LS_TRY(binder.bind(kConsumer, {{FieldId::table_edits, update.edits, group},
                                     {field::num_table_edits, update.num_edits, group}}));
    }
    LS_TRY(binder.bind(
        kConsumer, {{FieldId::copies, update.copies, group}, {field::num_copies, update.num_copies, group}}));
  }
  return {};
}

Status Executor::update_caches(const PreparedStep& step, const Launcher& on) const {
  for (int32_t g = 0; g < options_.limits.num_groups; ++g) {
    const GroupId group(g);
    const CacheUpdate& update = *LS_TRY(step.get<CacheUpdate>(kConsumer, group));
    if (options_.limits.group(group).kind == GroupKind::kPaged) {
      const bool compressed = group == kCompressedGroup;
      const TableEditsArgs args{
          .edits = update.edits,
          .page_table = compressed ? storage_.compressed_table() : storage_.page_table(),
          .num_edits = update.num_edits};
      LS_TRY(table_edits(on, args, "table_edits"));
      LS_TRY(compressed ? storage_.copy_compressed(on, update.copies, update.num_copies)
                        : storage_.copy_pages(on, update.copies, update.num_copies));
    } else {
      LS_TRY(storage_.copy_states(on, update.copies, update.num_copies));
    }
  }
  return {};
}

}  // namespace lockstep
