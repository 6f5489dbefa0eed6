// A rank of field report 2: its attention leaves rows without a sequence as they were, its plan may say 30
// rows where its sequences end at 26. Alone, or one of a mesh.
#pragma once

#include <cstring>
#include <limits>

#include "attention/delta/delta_backend.h"
#include "attention/paged/paged_backend.h"
#include "base/check.h"
#include "engine/engine.h"
#include "engine/fault_records.h"
#include "engine/record_file.h"
#include "guard/flight_recorder.h"
#include "guard/guard.h"
#include "model/state_geometry.h"

namespace lockstep::fr2 {

inline constexpr int32_t kWidth = 2048;   // of tiny-next-2048
inline constexpr int32_t kHeadDim = 128;  // likewise
using Lengths = std::array<int32_t, 4>;   // of the prompts of one replica
inline constexpr Lengths kShort{5, 5, 8, 8}, kLong{7, 5, 11, 7};

template <typename T>
T must(Result<T> result) {
  LS_CHECK(result.ok(), result.status().message());
  return std::move(result).value();
}

// --- the wrong consumer
// -------------------------------------------------------------------------------------

struct VendorArgs {
  TensorView attended;         // [T, H, D]
  TensorView query_start_loc;  // [S + 1]
  TensorView out;              // [T, H, D]
};
inline constexpr OpArg kVendorArgs[] = {
    {LS_ARG(VendorArgs, attended), .access = Access::kRead, .dims = "THD", .rows = RowsTouched::kLive},
    {LS_ARG(VendorArgs, query_start_loc), .access = Access::kRead, .dims = "S1", .rows = RowsTouched::kLive},
    {LS_ARG(VendorArgs, out), .access = Access::kWrite, .dims = "THD", .any_stride = true},
};
inline constexpr OpSpec kVendor{
    .name = "vendor_attention", .args = kVendorArgs, .args_bytes = sizeof(VendorArgs)};

// Writes the rows of sequences, and no others.
inline void vendor_attention(const VendorArgs& args, Worker worker) {
  const auto* starts = static_cast<const int32_t*>(args.query_start_loc.data);
  const int32_t rows = worker.index == 0 ? starts[args.query_start_loc.dim(0) - 1] : 0;
  for (int32_t row = 0; row < rows; ++row) {
    std::memcpy(args.out.as<float>() + row * args.out.stride(0),
                args.attended.as<float>() + row * args.attended.stride(0),
                static_cast<size_t>(args.out.dim(1) * args.out.dim(2)) * sizeof(float));
  }
}

// The house's attention into memory of its own, from where the vendor's kernel takes the rows that it knows,
// to memory that nobody has initialised.
class VendorBackend final : public AttentionBackend {
 public:
  VendorBackend(const CacheStorage& storage, Arena& arena, int64_t rows, int32_t heads)
      : house_(storage),
        heads_(heads),
        attended_(arena.allocate("attended", DType::kF32, {rows, heads * kHeadDim}).value()) {}

  const ConsumerSpec& spec() const override { return house_.spec(); }
  int64_t workspace_bytes(int threads, int32_t heads, int32_t kv_heads, int32_t head_dim) const override {
    return house_.workspace_bytes(threads, heads, kv_heads, head_dim);
  }
  Status prepare(const Binder& binder, GroupId group, PreparedStep& step) const override {
    return house_.prepare(binder, group, step);
  }
  Status run(const PreparedStep& step, GroupId group, const AttentionTensors& tensors, int32_t layer,
             const Launcher& on) const override {
    AttentionTensors own = tensors;
    own.out = attended_.rows(0, tensors.out.dim(0)).heads(0, heads_, kHeadDim, kHeadDim);
    LS_TRY(house_.run(step, group, own, layer, on));
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (int64_t row = 0; row < tensors.out.dim(0); ++row)
      std::fill_n(tensors.out.as<float>() + row * tensors.out.stride(0), heads_ * kHeadDim, nan);
    launch(on.stream, kVendor, "attention", vendor_attention,
           VendorArgs{.attended = own.out, .query_start_loc = starts_, .out = tensors.out});
    return {};
  }

  // Where the plan of the step that follows says that sequences begin.
  void set_starts(const TensorView& starts) { starts_ = starts; }

 private:
  PagedBackend house_;
  int32_t heads_;
  TensorView attended_;
  TensorView starts_;
};

// --- a rank that runs the model
// -----------------------------------------------------------------------------

inline CacheGeometry geometry_of(const DecoderSpec& spec, const EngineSizes& sizes) {
  const CacheGroup& pages = sizes.limits.group(kKvGroup);
  return {.layout = sizes.executor.layout,
          .kv = {.dtype = DType::kF32,
                 .num_pages = pages.num_pages,
                 .page_tokens = pages.page_tokens,
                 .heads = spec.softmax.kv_heads,
                 .head_dim = spec.softmax.head_dim},
          .softmax_layers = spec.count(Mixer::kSoftmax),
          .state = state_geometry(spec, sizes.limits.group(kStateGroup).num_pages),
          .recurrent_layers = spec.recurrent_layers(),
          .table_rows = pages.table_rows,
          .max_pages_per_seq = pages.max_pages_per_seq};
}

class Rank final : public StepProgram {
 public:
  explicit Rank(bool vendor, Mesh* mesh = nullptr) : mesh_(mesh) {
    EngineConfig config;
    config.mesh = mesh;
    if (mesh != nullptr) config.parallel = mesh->shape();
    config.model = {.path = "tiny-next-2048", .format = LoadFormat::kDummy, .dtype = ComputeDType::kFloat32};
    config.max_model_len = 64;
    config.max_num_seqs = 6;
    config.max_num_batched_tokens = 32;
    config.page_size = 16;
    config.num_pages = 16;
    config.threads = mesh == nullptr ? 2 : 1;
    if (mesh != nullptr) config.model.shard = shard_of(mesh->shape(), mesh->place());
    model_ = must(load_model(config.model));
    const DecoderSpec& spec = model_->local;
    sizes_ = must(size_engine(config, spec, DType::kF32, spec.vocab));
    sampled_ = must(arena_.allocate("sampled", DType::kI32, {sizes_.limits.max_logits_rows}));
    storage_ = must(CacheStorage::create(geometry_of(spec, sizes_), arena_));
    map_.add(arena_);
    runner_ = must(StepRunner::create({.limits = sizes_.limits, .derived = {}}, stream_, map_, arena_));
    if (vendor) {
      attention_ = std::make_unique<VendorBackend>(storage_, arena_, 32, spec.softmax.heads);
    } else {
      attention_ = std::make_unique<PagedBackend>(storage_);
    }
    recurrent_ = std::make_unique<DeltaBackend>(storage_);
    const DecoderOptions options{
        .limits = {.rows = sizes_.limits.max_rows, .logits_rows = sizes_.limits.max_logits_rows},
        .threads = config.threads,
        .mesh = mesh};
    decoder_ = std::make_unique<Decoder>(
        must(Decoder::create(spec, model_->weights, options, *attention_, *recurrent_, arena_)));
    std::vector<LayerKinds> kinds(4, {LayerKind::kGatedDelta, LayerKind::kMoe});
    kinds[3].mixer = LayerKind::kSoftmax;
    const int32_t number = mesh == nullptr ? 0 : mesh->rank();
    guard_ = std::make_unique<Guard>(
        GuardOptions{.limits = sizes_.limits, .layers = kinds, .rank = number, .poison = false}, map_,
        runner_->image().bytes());
    stream_.set_observer(guard_->observer());
    RecorderOptions recorded;
    if (mesh != nullptr) add_ranks(*mesh, recorded.rank);
    recorded.rank.model = "tiny-next-2048";
    recorded.rank.device = "cpu";
    recorded.rank.guard = "full";
    recorded.rank.limits = sizes_.limits;
    for (const LayerKinds& kind : kinds) recorded.rank.mixers.push_back(kind.mixer);
    recorded.image = map_.handle(runner_->image().bytes().data);
    recorder_ = std::make_unique<FlightRecorder>(recorded);
    runner_->set_recorder(recorder_.get());
  }

  // Four prompts in 30 rows; where they are shorter, a pad sequence has the rest.
  StepPlan right_plan(const Lengths& lengths = kShort) {
    const CacheGroup& pages = sizes_.limits.group(kKvGroup);
    PageTables tables(pages.table_rows, pages.max_pages_per_seq);
    std::vector<std::vector<TokenId>> tokens;
    std::vector<SequenceStep> steps;
    for (size_t s = 0; s < lengths.size(); ++s) {
      const TableRow row(static_cast<int32_t>(s) + 1);
      const PageId page(static_cast<int32_t>(s) + 1);
      tables.append(row, page);
      storage_.page_table().as<int32_t>()[row.get() * pages.max_pages_per_seq] = page.get();
      tokens.emplace_back();
      for (int32_t i = 0; i < lengths[s]; ++i) tokens.back().emplace_back(100 * static_cast<int32_t>(s) + i);
    }
    for (size_t s = 0; s < lengths.size(); ++s) {
      steps.push_back({.tokens = tokens[s],
                       .last_token_source = TokenSource::literal(),
                       .computed = TokenCount(0),
                       .prompt_len = TokenCount(lengths[s]),
                       .state_slot = StateSlot(static_cast<int32_t>(s) + 1),
                       .wants_logits = true,
                       .sampling = {}});
      steps.back().table_rows[0] = TableRow(static_cast<int32_t>(s) + 1);
    }
    StepPlan plan;
    PlanBuilder builder(sizes_.limits, {&tables, nullptr});
    const Status built = builder.build(
        {.epoch = Epoch(1),
         .source_epoch = Epoch(0),
         .sequences = steps,
         .bucket = {.rows = PaddedRows(30), .seqs = PaddedSeqs(5), .logits_rows = PaddedRows(4)}},
        plan);
    EXPECT_TRUE(built.ok()) << built.message();
    return plan;
  }

  // The same without its pad sequence, and with the padded count for the live one: the metadata of rank 0.
  StepPlan rank_0_of_the_report() {
    const StepPlan right = right_plan();
    StepPlan plan;
    plan.reset(sizes_.limits, {.rows = PaddedRows(30), .seqs = PaddedSeqs(4), .logits_rows = PaddedRows(4)});
    auto* image = const_cast<std::byte*>(plan.image().data());
    for (const FieldInfo& info : kFields) {
      for (int32_t g = 0; g < plan.layout().num_groups(); ++g) {
        const ImageLayout::Place& from = right.layout().place(info.id, GroupId(g));
        const ImageLayout::Place& to = plan.layout().place(info.id, GroupId(g));
        if (to.offset < 0) continue;
        std::memcpy(image + to.offset, right.image().data() + from.offset,
                    static_cast<size_t>(std::min(from.count, to.count) * info.element_bytes));
      }
    }
    plan.edit(field::num_rows)[0] = LiveRows(30);
    plan.edit(field::num_seqs_padded)[0] = PaddedSeqs(4);
    plan.freeze();
    return plan;
  }

  const Probe& run(const StepPlan& plan) {
    constexpr uint64_t kIds[] = {1, 2, 3, 4};
    recorder_->begin({.plan = plan, .sequence_ids = kIds});
    if (mesh_ != nullptr) mesh_->ledger().begin_step(plan.scalar(field::epoch).get());
    guard_->begin_step(plan, kIds);
    if (auto* vendor = dynamic_cast<VendorBackend*>(attention_.get()))
      vendor->set_starts(runner_->image().view(plan.layout(), FieldId::query_start_loc, GroupId(0)));
    Status status = runner_->run(plan, *this, {kernel_table(sizes_.executor.isa), stream_});
    if (status.ok()) status = runner_->finish(plan);
    if (status.ok()) status = guard_->end_step();
    EXPECT_TRUE(status.ok()) << status.message();
    recorder_->end({.head_epoch = runner_->report().head_epoch(),
                    .head = runner_->report().head_digests(),
                    .tail = runner_->report().tail_digest(),
                    .tokens = {},
                    .non_finite = {}});
    return guard_->probe();
  }

  // What an engine would have put on file, had it noticed.
  Record record() const {
    Record record = recorder_->snapshot();
    if (mesh_ != nullptr) add_ledger(*mesh_, record);
    record.findings = guard_->probe().findings();
    record.launches = guard_->probe().launches();
    if (guard_->probe().first_bad_launch())
      record.first_bad_launch.push_back(*guard_->probe().first_bad_launch());
    return record;
  }

  Status prepare(const Binder& binder, PreparedStep& step) const override {
    return decoder_->prepare(binder, step);
  }
  Status enqueue(const PreparedStep& step, const Launcher& on) const override {
    return decoder_->run(step, sampled_, on);
  }

 private:
  Mesh* mesh_;
  std::unique_ptr<Model> model_;
  EngineSizes sizes_;
  Arena arena_ = Arena::create("memory", int64_t{1} << 30).value();
  TensorView sampled_;
  CacheStorage storage_;
  MemoryMap map_;
  Stream stream_{2};
  std::unique_ptr<StepRunner> runner_;
  std::unique_ptr<AttentionBackend> attention_;
  std::unique_ptr<DeltaBackend> recurrent_;
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<Guard> guard_;
  std::unique_ptr<FlightRecorder> recorder_;
};

}  // namespace lockstep::fr2
