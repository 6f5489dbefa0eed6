#include "conformance/attention_rig.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/math.h"

namespace lockstep::conformance {
namespace {

constexpr GroupId kPages{0};
constexpr int64_t kGap = 8;  // floats behind the values of an input row
constexpr float kCanary = -12345.0f;

CacheGeometry geometry_of(const AttentionOptions& options) {
  return {.layout = options.layout,
          .kv = {.dtype = options.dtype,
                 .num_pages = options.num_pages,
                 .page_tokens = options.page_tokens,
                 .heads = options.kv_heads,
                 .head_dim = options.head_dim},
          .softmax_layers = options.layers,
          .state = options.behind_pages,
          .recurrent_layers = options.behind_pages.slots > 0 ? options.layers : 0,
          .compressed_pages = options.blocks ? options.num_pages : 0,
          .table_rows = options.max_seqs + 1,
          .max_pages_per_seq = ceil_div(options.max_seq_len, options.page_tokens)};
}

// Rows of the bucket, for enqueue(): the program must not look at the plan then.
struct Rows {
  int64_t count = 0;
};
constexpr ConsumerSpec kRig{.name = "rig", .ops = {}, .fields = {}};

float rounded(DType dtype, float value) {
  return with_float_type(dtype, [&]<typename T>() { return static_cast<float>(T(value)); });
}

}  // namespace

// The step as the runner sees it: edits, then each layer's attention.
class AttentionRig::Program final : public StepProgram {
 public:
  Program(const AttentionRig& rig, const AttentionBackend& backend) : rig_(rig), backend_(backend) {}

  Status prepare(const Binder& binder, PreparedStep& step) const override {
    LS_TRY(prepare_tables(binder, step));
    step.add<Rows>(kRig).count = binder.plan().bucket().rows.get();
    return backend_.prepare(binder, kPages, step);
  }

  Status enqueue(const PreparedStep& step, const Launcher& on) const override {
    LS_TRY(update_tables(step, rig_.rig_->storage(), on));
    const int64_t rows = LS_TRY(step.get<Rows>(kRig))->count;
    const AttentionOptions& options = rig_.options_;
    for (int32_t layer = 0; layer < options.layers; ++layer) {
      on.stream.set_layer(layer);
      const int64_t heads = options.heads, kv_heads = options.kv_heads, size = options.head_dim;
      const int64_t width = rig_.width(), most = options.max_rows;
      const TensorView input = rig_.input_.reshaped({options.layers * most, width}).rows(layer * most, rows);
      const TensorView output = rig_.output_.reshaped({options.layers * (most + 1), heads, size});
      LS_TRY(backend_.run(step, kPages,
                          {.q = input.heads(0, heads, size, size),
                           .k = input.heads(heads * size, kv_heads, size, size),
                           .v = input.heads((heads + kv_heads) * size, kv_heads, size, size),
                           .out = output.rows(layer * (most + 1), rows),
                           .workspace = rig_.workspace_,
                           .scale = 1.0f / std::sqrt(static_cast<float>(size))},
                          layer, on));
    }
    on.stream.set_layer(-1);
    return {};
  }

 private:
  const AttentionRig& rig_;
  const AttentionBackend& backend_;
};

AttentionRig::AttentionRig(const AttentionOptions& options, std::unique_ptr<Rig> rig)
    : options_(options), rig_(std::move(rig)) {}

// What a backend brings along for its kernels on a device is in use until they are done.
AttentionRig::~AttentionRig() {
  if (rig_->stream().device() != nullptr) rig_->stream().synchronize();
}

int64_t AttentionRig::width() const {
  return int64_t{options_.heads + 2 * options_.kv_heads} * options_.head_dim + kGap;
}

Result<std::unique_ptr<AttentionRig>> AttentionRig::create(const AttentionCandidate& candidate,
                                                           const AttentionOptions& options) {
  const CacheGeometry cache = geometry_of(options);
  const int64_t input = int64_t{options.layers} * options.max_rows *
                        (int64_t{options.heads + 2 * options.kv_heads} * options.head_dim + kGap) *
                        int64_t{sizeof(float)};
  RigOptions rig{.cache = cache,
                 .limits = limits_for(cache, options.max_rows, options.max_seqs, options.max_seq_len),
                 .threads = options.threads,
                 .device = candidate.device,
                 .pace = options.pace,
                 .level = options.level,
                 .work_bytes = 3 * input + (int64_t{64} << 20),
                 .staging_bytes = 2 * input,
                 .derived = options.derived};
  rig.limits.num_groups = options.blocks ? 2 : 1;  // states between the pages are there for their size alone
  if (options.blocks) {
    rig.limits.selection = {.kv_heads = options.kv_heads,
                            .block_tokens = 64,
                            .most_blocks = options.blocks->most,
                            .dense_len = options.blocks->dense_len,
                            .group = kCompressedPages};
  }
  std::unique_ptr<AttentionRig> made(new AttentionRig(options, LS_TRY(Rig::create(rig))));
  made->backend_ = LS_TRY(candidate.make(made->rig_->storage()));
  LS_TRY(made->allocate(*made->backend_));
  made->program_ = std::make_unique<Program>(*made, *made->backend_);
  return made;
}

Status AttentionRig::allocate(const AttentionBackend& backend) {
  Arena& work = rig_->work();
  input_ = LS_TRY(work.allocate("inputs", DType::kF32, {options_.layers, options_.max_rows, width()}));
  output_ = LS_TRY(work.allocate(
      "outputs", DType::kF32, {options_.layers, options_.max_rows + 1, options_.heads, options_.head_dim}));
  const int64_t bytes =
      backend.workspace_bytes(options_.threads, options_.heads, options_.kv_heads, options_.head_dim);
  workspace_ = LS_TRY(work.allocate("workspace", DType::kU8, {bytes}));
  return {};
}

int32_t AttentionRig::begin() {
  kept_.emplace_back(static_cast<size_t>(options_.layers));
  return planner().begin();
}

void AttentionRig::end(int32_t sequence) {
  planner().end(sequence);
  kept_[static_cast<size_t>(sequence)].assign(static_cast<size_t>(options_.layers), {});
}

void AttentionRig::keep(int32_t sequence, int32_t layer, std::span<const float> row) {
  KeptKv& kept = kept_[static_cast<size_t>(sequence)][static_cast<size_t>(layer)];
  const auto size = static_cast<size_t>(options_.kv_heads * options_.head_dim);
  const size_t begin = static_cast<size_t>(options_.heads * options_.head_dim);
  for (size_t i = 0; i < size; ++i) {
    kept.keys.push_back(rounded(options_.dtype, row[begin + i]));
    kept.values.push_back(rounded(options_.dtype, row[begin + size + i]));
  }
}

// Live rows follow from sequence, position and layer; everything else of the input is poison, and all of the
// output, so that a row which nobody writes is seen.
Status AttentionRig::fill(const RigStep& step) {
  const int64_t most = options_.max_rows;
  in_.resize(static_cast<size_t>(input_.elements()));
  fill_poison(step.poison, in_);
  for (int32_t layer = 0; layer < options_.layers; ++layer) {
    int64_t row = layer * most;
    for (const Share& share : step.shares) {
      const int32_t before = planner().length(share.sequence) - share.rows;
      for (int32_t i = 0; i < share.rows; ++i, ++row) {
        const std::span<float> values(in_.data() + row * width(), static_cast<size_t>(width() - kGap));
        fill_numbers(mix64(static_cast<uint64_t>(share.sequence) << 32 | static_cast<uint32_t>(before + i),
                           static_cast<uint64_t>(layer)),
                     values);
        keep(share.sequence, layer, values);
      }
    }
  }
  LS_TRY(rig_->upload(input_, in_.data()));
  out_.assign(static_cast<size_t>(output_.elements()), std::numeric_limits<float>::quiet_NaN());
  const auto row = static_cast<size_t>(options_.heads * options_.head_dim);
  for (int32_t layer = 0; layer < options_.layers; ++layer) {
    const size_t canary = (static_cast<size_t>(layer) + 1) * static_cast<size_t>(most + 1) * row - row;
    std::fill_n(out_.begin() + static_cast<int64_t>(canary), row, kCanary);
  }
  return rig_->upload(output_, out_.data());
}

Status AttentionRig::step(const RigStep& step) {
  LS_TRY(planner().plan(step.shares, step.bucket, plan_));
  LS_TRY(fill(step));
  LS_TRY(rig_->run(plan_, *program_, step.mode));
  LS_TRY(rig_->check_image(plan_));
  LS_TRY(rig_->download(output_, out_.data()));
  return collect(step);
}

std::span<const float> AttentionRig::row_of(int32_t layer, int64_t row) const {
  const int64_t size = options_.heads * options_.head_dim;
  return {out_.data() + (layer * (options_.max_rows + 1) + row) * size, static_cast<size_t>(size)};
}

Status AttentionRig::collect(const RigStep& step) {
  int64_t row = 0;
  for (const Share& share : step.shares) {
    const int32_t before = planner().length(share.sequence) - share.rows;
    for (int32_t i = 0; i < share.rows; ++i, ++row) {
      for (int32_t layer = 0; layer < options_.layers; ++layer) {
        digest_ = digest_span(row_of(layer, row), digest_);
        if (step.compare) LS_TRY(compare_row(share.sequence, before + i, layer, row));
      }
    }
  }
  return check_pads(row);
}

void AttentionRig::expect_row(const KeptKv& kept, std::span<const float> q, int32_t position,
                              std::span<double> want, std::span<double> bound) const {
  const AttentionShape shape{options_.heads, options_.kv_heads, options_.head_dim,
                             1.0f / std::sqrt(static_cast<float>(options_.head_dim))};
  const auto size = static_cast<size_t>(options_.head_dim), kv_heads = static_cast<size_t>(options_.kv_heads);
  if (options_.top_pages > 0) {
    const KeptKv best = best_pages(shape, q, kept, options_.page_tokens, options_.top_pages);
    const auto tokens = static_cast<int32_t>(best.keys.size() / (kv_heads * size));
    return attend(shape, q, best, tokens, want, bound);
  }
  if (!options_.blocks || position + 1 < options_.blocks->dense_len)
    return attend(shape, q, kept, position + 1, want, bound);
  const size_t group = static_cast<size_t>(options_.heads) / kv_heads;
  const AttentionShape one{static_cast<int32_t>(group), 1, options_.head_dim, shape.scale};
  for (size_t head = 0; head < kv_heads; ++head) {
    KeptKv own;
    for (size_t t = 0; t <= static_cast<size_t>(position); ++t) {
      const auto at = static_cast<int64_t>((t * kv_heads + head) * size);
      own.keys.insert(own.keys.end(), kept.keys.begin() + at, kept.keys.begin() + at + one.head_dim);
      own.values.insert(own.values.end(), kept.values.begin() + at, kept.values.begin() + at + one.head_dim);
    }
    const std::span<const float> queries = q.subspan(head * group * size, group * size);
    const KeptKv chosen = chosen_blocks(one, queries, own, options_.dtype, *options_.blocks);
    attend(one, queries, chosen, static_cast<int32_t>(chosen.keys.size() / size),
           want.subspan(head * group * size, group * size), bound.subspan(head * group, group));
  }
}

Status AttentionRig::compare_row(int32_t sequence, int32_t position, int32_t layer, int64_t row) const {
  const auto heads = static_cast<size_t>(options_.heads), size = static_cast<size_t>(options_.head_dim);
  std::vector<double> want(heads * size), bound(heads);
  const float* data = in_.data() + (int64_t{layer} * options_.max_rows + row) * width();
  const std::span<const float> q(data, heads * size);
  expect_row(kept_[static_cast<size_t>(sequence)][static_cast<size_t>(layer)], q, position, want, bound);
  const std::span<const float> got = row_of(layer, row);
  for (size_t i = 0; i < want.size(); ++i) {
    if (std::abs(got[i] - want[i]) <= bound[i / size]) continue;
    return error(Code::kInternal, "layer ", layer, ", row ", row, " (sequence ", sequence, ", position ",
                 position, "), head ", i / size, ", element ", i % size, " is ", got[i], "; expected ",
                 want[i], " to within ", bound[i / size]);
  }
  return {};
}

Status AttentionRig::check_pads(int64_t live) const {
  const int64_t padded = plan_.bucket().rows.get();
  for (int32_t layer = 0; layer < options_.layers; ++layer) {
    for (int64_t row = live; row < padded; ++row) {
      for (const float value : row_of(layer, row)) {
        if (value == 0.0f && !std::signbit(value)) continue;
        return error(Code::kInternal, "layer ", layer, ", pad row ", row, " holds ", value,
                     "; expected zero");
      }
    }
    for (const float value : row_of(layer, options_.max_rows)) {
      if (value == kCanary) continue;
      return error(Code::kInternal, "layer ", layer, ": memory behind the last row holds ", value,
                   "; expected nobody to write there");
    }
  }
  return {};
}

}  // namespace lockstep::conformance
