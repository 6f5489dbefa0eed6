// Field report 2 with every check switched off: a plan that says 30 rows where its sequences end at 26, and
// an attention that leaves rows without a sequence as they were. What the probes see is what took its finders
// days of prints: which layer was first, that its input was clean, and whose rows they are.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <limits>

#include "attention/delta/delta_backend.h"
#include "attention/paged/paged_backend.h"
#include "engine/engine.h"
#include "engine/record_file.h"
#include "guard/flight_recorder.h"
#include "guard/guard.h"

namespace lockstep {

// Stands in for the product's definition: no rule is held up.
bool rule_is_on(std::string_view) { return false; }

namespace {

constexpr int32_t kWidth = 2048;     // of tiny-next-2048
constexpr int32_t kHeads = 8 * 128;  // its query heads
constexpr std::array<int32_t, 4> kLengths{5, 5, 8, 8};

// --- the wrong consumer
// -------------------------------------------------------------------------------------

struct VendorArgs {
  TensorView attended;         // [T, H, D]
  TensorView query_start_loc;  // [S + 1]
  TensorView out;              // [T, H, D]
};
constexpr OpArg kVendorArgs[] = {
    {LS_ARG(VendorArgs, attended), .access = Access::kRead, .dims = "THD", .rows = RowsTouched::kLive},
    {LS_ARG(VendorArgs, query_start_loc), .access = Access::kRead, .dims = "S1", .rows = RowsTouched::kLive},
    {LS_ARG(VendorArgs, out), .access = Access::kWrite, .dims = "THD", .any_stride = true},
};
constexpr OpSpec kVendor{.name = "vendor_attention", .args = kVendorArgs, .args_bytes = sizeof(VendorArgs)};

// Writes the rows of sequences, and no others.
void vendor_attention(const VendorArgs& args, Worker worker) {
  const auto* starts = static_cast<const int32_t*>(args.query_start_loc.data);
  const int32_t rows = worker.index == 0 ? starts[args.query_start_loc.dim(0) - 1] : 0;
  for (int32_t row = 0; row < rows; ++row) {
    std::memcpy(args.out.as<float>() + row * args.out.stride(0), args.attended.as<float>() + row * kHeads,
                kHeads * sizeof(float));
  }
}

// The house's attention into memory of its own, from where the vendor's kernel takes the rows that it knows,
// to memory that nobody has initialised.
class VendorBackend final : public AttentionBackend {
 public:
  VendorBackend(const CacheStorage& storage, Arena& arena, int64_t rows, const TensorView& starts)
      : house_(storage),
        attended_(arena.allocate("attended", DType::kF32, {rows, kHeads}).value()),
        starts_(starts) {}

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
    own.out = attended_.rows(0, tensors.out.dim(0)).heads(0, 8, 128, 128);
    LS_TRY(house_.run(step, group, own, layer, on));
    const float nan = std::numeric_limits<float>::quiet_NaN();
    std::fill_n(tensors.out.as<float>(), tensors.out.dim(0) * kHeads, nan);
    launch(on.stream, kVendor, "attention", vendor_attention,
           VendorArgs{.attended = own.out, .query_start_loc = starts_, .out = tensors.out});
    return {};
  }

  // Where the plan of the step that follows says that sequences begin.
  void set_starts(const TensorView& starts) { starts_ = starts; }

 private:
  PagedBackend house_;
  TensorView attended_;
  TensorView starts_;
};

// --- a rank that runs the model
// -----------------------------------------------------------------------------

CacheGeometry geometry_of(const DecoderSpec& spec, const EngineSizes& sizes) {
  const CacheGroup& pages = sizes.limits.group(kKvGroup);
  const DeltaMixerSpec& d = spec.delta;
  return {.layout = sizes.executor.layout,
          .kv = {.dtype = DType::kF32,
                 .num_pages = pages.num_pages,
                 .page_tokens = pages.page_tokens,
                 .heads = spec.softmax.kv_heads,
                 .head_dim = spec.softmax.head_dim},
          .softmax_layers = spec.count(Mixer::kSoftmax),
          .state = {.slots = sizes.limits.group(kStateGroup).num_pages,
                    .conv_channels = d.conv_channels(),
                    .conv_width = d.conv_width,
                    .value_heads = d.value_heads,
                    .key_dim = d.key_dim,
                    .value_dim = d.value_dim},
          .delta_layers = spec.count(Mixer::kDelta),
          .table_rows = pages.table_rows,
          .max_pages_per_seq = pages.max_pages_per_seq};
}

class Rank final : public StepProgram {
 public:
  explicit Rank(bool vendor) {
    EngineConfig config;
    config.model = {.path = "tiny-next-2048", .format = LoadFormat::kDummy, .dtype = ComputeDType::kFloat32};
    config.max_model_len = 64;
    config.max_num_seqs = 6;
    config.max_num_batched_tokens = 32;
    config.page_size = 16;
    config.num_pages = 16;
    config.threads = 2;
    model_ = load_model(config.model).value();
    const DecoderSpec& spec = model_->spec;
    sizes_ = size_engine(config, spec, DType::kF32, spec.vocab).value();
    sampled_ = arena_.allocate("sampled", DType::kI32, {sizes_.limits.max_logits_rows}).value();
    storage_ = CacheStorage::create(geometry_of(spec, sizes_), arena_).value();
    map_.add(arena_);
    runner_ = StepRunner::create({.limits = sizes_.limits, .derived = {}}, stream_, map_, arena_).value();
    if (vendor) {
      attention_ = std::make_unique<VendorBackend>(storage_, arena_, 32, TensorView{});
    } else {
      attention_ = std::make_unique<PagedBackend>(storage_);
    }
    recurrent_ = std::make_unique<DeltaBackend>(storage_);
    const DecoderOptions options{
        .limits = {.rows = sizes_.limits.max_rows, .logits_rows = sizes_.limits.max_logits_rows},
        .threads = 2};
    decoder_ = std::make_unique<Decoder>(
        Decoder::create(spec, model_->weights, options, *attention_, *recurrent_, arena_).value());
    std::vector<LayerKinds> kinds(4, {LayerKind::kGatedDelta, LayerKind::kMoe});
    kinds[3].mixer = LayerKind::kSoftmax;
    guard_ = std::make_unique<Guard>(GuardOptions{.limits = sizes_.limits, .layers = kinds, .poison = false},
                                     map_, runner_->image().bytes());
    stream_.set_observer(guard_->observer());
    RecorderOptions recorded;
    recorded.rank.place = "dp 0 of 2, tp 0 of 2";
    recorded.rank.model = "tiny-next-2048";
    recorded.rank.device = "cpu";
    recorded.rank.guard = "full";
    recorded.rank.limits = sizes_.limits;
    for (const LayerKinds& kind : kinds) recorded.rank.mixers.push_back(kind.mixer);
    recorded.image = map_.handle(runner_->image().bytes().data);
    recorder_ = std::make_unique<FlightRecorder>(recorded);
    runner_->set_recorder(recorder_.get());
  }

  // Four prompts in 30 rows: 26 of theirs, and a pad sequence of 4.
  StepPlan right_plan() {
    const CacheGroup& pages = sizes_.limits.group(kKvGroup);
    PageTables tables(pages.table_rows, pages.max_pages_per_seq);
    std::vector<std::vector<TokenId>> tokens;
    std::vector<SequenceStep> steps;
    for (size_t s = 0; s < kLengths.size(); ++s) {
      const TableRow row(static_cast<int32_t>(s) + 1);
      const PageId page(static_cast<int32_t>(s) + 1);
      tables.append(row, page);
      storage_.page_table().as<int32_t>()[row.get() * pages.max_pages_per_seq] = page.get();
      tokens.emplace_back();
      for (int32_t i = 0; i < kLengths[s]; ++i) tokens.back().emplace_back(100 * static_cast<int32_t>(s) + i);
    }
    for (size_t s = 0; s < kLengths.size(); ++s) {
      steps.push_back({.tokens = tokens[s],
                       .last_token_source = TokenSource::literal(),
                       .computed = TokenCount(0),
                       .prompt_len = TokenCount(kLengths[s]),
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

const std::vector<int32_t> kNobodys{26, 27, 28, 29};

TEST(FieldReport2, ShowsWhichLayerWasFirstThatItsInputWasCleanAndThatNobodyOwnsTheRows) {
  Rank rank(true);
  const StepPlan plan = rank.rank_0_of_the_report();
  ASSERT_EQ(static_cast<Phase>(plan.scalar(field::phase)), Phase::kPrefill);
  ASSERT_EQ(plan.scalar(field::num_rows), LiveRows(30));
  ASSERT_EQ(plan.get(field::query_start_loc).back(), RowOffset(26));

  const Probe& probe = rank.run(plan);

  ASSERT_TRUE(probe.first_bad_launch().has_value());
  const FirstBadLaunch& first = *probe.first_bad_launch();
  EXPECT_EQ(first.at.layer, 3);
  EXPECT_EQ(first.at.layer_kind, LayerKind::kSoftmax);
  EXPECT_EQ(first.at.stage, "attention");
  EXPECT_EQ(first.at.op, "vendor_attention");
  ASSERT_EQ(first.inputs.size(), 1u);
  EXPECT_EQ(first.inputs[0].clean, Verdict::kYes);
  EXPECT_GT(first.inputs[0].max_abs, 0.0);

  bool told = false;
  for (const Finding& finding : probe.findings()) {
    EXPECT_EQ(finding.owner, Owner::kUnowned) << finding.at.op << " " << finding.argument;
    EXPECT_EQ(finding.rows, kNobodys) << finding.at.op << " " << finding.argument;
    EXPECT_TRUE(finding.at.layer == 3 || finding.at.layer == -1) << finding.at.layer;
    if (finding.at.stage != "o_proj" || finding.at.op != "linear" || finding.side != Side::kOutput) continue;
    told = true;
    EXPECT_EQ(finding.nan, 4 * kWidth);  // the report's 8192 elements
    EXPECT_EQ(finding.elements, 4 * kWidth);
    EXPECT_EQ(finding.row_count, 4);
    EXPECT_EQ(finding.inf, 0);
  }
  EXPECT_TRUE(told);
  // For tests/cli/field_report_2.py, which has it explained by the product.
  if (const char* folder = std::getenv("LOCKSTEP_RECORD_DIR")) {
    const Result<std::string> path = write_record(rank.record(), folder);
    ASSERT_TRUE(path.ok()) << path.status().message();
  }
}

// The pad sequence ends at 30, and the vendor's kernel goes by where sequences end: it writes every row.
TEST(FieldReport2, ShowsNothingWhereThePlanIsRight) {
  Rank rank(true);

  const Probe& probe = rank.run(rank.right_plan());

  EXPECT_TRUE(probe.findings().empty());
}

TEST(FieldReport2, ShowsNothingWhereTheAttentionWritesEveryRow) {
  Rank rank(false);

  const Probe& probe = rank.run(rank.rank_0_of_the_report());

  EXPECT_FALSE(probe.first_bad_launch().has_value());
  EXPECT_TRUE(probe.findings().empty());
}

}  // namespace
}  // namespace lockstep
