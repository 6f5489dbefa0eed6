#include "conformance/recurrent_rig.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/math.h"

namespace lockstep::conformance {
namespace {

constexpr int64_t kGap = 4;  // floats behind the values of an input row

struct Rows {
  int64_t count = 0;
};
constexpr ConsumerSpec kRig{.name = "rig", .ops = {}, .fields = {}};

// With a gap, pages of a softmax layer that nobody uses keep the states apart.
CacheGeometry geometry_of(const RecurrentOptions& options) {
  CacheGeometry cache{.state = {.slots = options.slots,
                                .conv_channels = options.lightning() ? 0 : options.channels(),
                                .conv_width = options.lightning() ? 1 : options.conv_width,
                                .value_heads = options.value_heads,
                                .key_dim = options.key_dim,
                                .value_dim = options.value_dim},
                      .recurrent_layers = options.layers};
  if (options.slot_gap == 0) return cache;
  cache.layout.pool = KvPool::kShared;
  cache.layout.planes = KvPlanes::kInterleaved;
  cache.kv = {.num_pages = options.slots,
              .page_tokens = 1024,
              .heads = 8,
              .head_dim = static_cast<int32_t>(ceil_div(options.slot_gap, int64_t{2 * 1024 * 8 * 4}))};
  cache.softmax_layers = options.layers;
  cache.table_rows = 2;
  cache.max_pages_per_seq = 1;
  return cache;
}

// The plan knows states alone.
StepLimits limits_of(const RecurrentOptions& options, CacheGeometry cache) {
  cache.softmax_layers = 0;
  return limits_for(cache, options.max_rows, options.max_seqs, options.max_seq_len);
}

}  // namespace

class RecurrentRig::Program final : public StepProgram {
 public:
  Program(const RecurrentRig& rig, const RecurrentBackend& backend) : rig_(rig), backend_(backend) {}

  Status prepare(const Binder& binder, PreparedStep& step) const override {
    step.add<Rows>(kRig).count = binder.plan().bucket().rows.get();
    return backend_.prepare(binder, step);
  }

  Status enqueue(const PreparedStep& step, const Launcher& on) const override {
    const int64_t rows = LS_TRY(step.get<Rows>(kRig))->count;
    for (int32_t layer = 0; layer < rig_.options_.layers; ++layer) {
      on.stream.set_layer(layer);
      LS_TRY(backend_.run(step, rig_.tensors(layer, rows), layer, on));
    }
    on.stream.set_layer(-1);
    return {};
  }

 private:
  const RecurrentRig& rig_;
  const RecurrentBackend& backend_;
};

RecurrentRig::RecurrentRig(const RecurrentOptions& options, std::unique_ptr<Rig> rig)
    : options_(options), rig_(std::move(rig)) {}
RecurrentRig::~RecurrentRig() = default;

RecurrentTensors RecurrentRig::tensors(int32_t layer, int64_t rows) const {
  const RecurrentOptions& o = options_;
  const int64_t most = o.max_rows, channels = o.channels(), heads = o.value_heads;
  const TensorView input = input_.reshaped({o.layers * most, width()}).rows(layer * most, rows);
  const TensorView output = output_.reshaped({o.layers * most, heads, o.value_dim}).rows(layer * most, rows);
  const TensorView a_log = a_log_.reshaped({o.layers * heads}).rows(layer * heads, heads);
  if (o.lightning()) {
    return LightningTensors{.q = input.heads(0, heads, o.key_dim, o.key_dim),
                            .k = input.heads(o.keys(), o.key_heads, o.key_dim, o.key_dim),
                            .v = input.heads(o.values(), o.key_heads, o.value_dim, o.value_dim),
                            .decay = a_log,
                            .out = output,
                            .workspace = workspace_,
                            .scale = 1.0f / std::sqrt(static_cast<float>(o.key_dim))};
  }
  return DeltaTensors{
      .qkv = input.columns(0, channels),
      .b = input.columns(channels, heads),
      .a = input.columns(channels + heads, heads),
      .conv = conv_.reshaped({o.layers * channels, o.conv_width}).rows(layer * channels, channels),
      .a_log = a_log,
      .dt_bias = dt_bias_.reshaped({o.layers * heads}).rows(layer * heads, heads),
      .mixed = mixed_.rows(0, rows),
      .out = output,
      .workspace = workspace_};
}

int64_t RecurrentRig::width() const { return int64_t{options_.channels()} + 2 * options_.value_heads + kGap; }

Result<std::unique_ptr<RecurrentRig>> RecurrentRig::create(const RecurrentCandidate& candidate,
                                                           const RecurrentOptions& given) {
  RecurrentOptions options = given;
  options.kind = candidate.kind;
  const CacheGeometry cache = geometry_of(options);
  const int64_t input =
      int64_t{options.layers} * options.max_rows * (options.channels() + 2 * options.value_heads + kGap) * 4;
  const int64_t output =
      int64_t{options.layers} * options.max_rows * options.value_heads * options.value_dim * 4;
  const RigOptions rig{.cache = cache,
                       .limits = limits_of(options, cache),
                       .threads = options.threads,
                       .device = candidate.device,
                       .pace = options.pace,
                       .level = options.level,
                       .work_bytes = 4 * std::max(input, output) + (int64_t{64} << 20),
                       .staging_bytes = std::max(input, output) + 65536,
                       .derived = {}};
  std::unique_ptr<RecurrentRig> made(new RecurrentRig(options, LS_TRY(Rig::create(rig))));
  made->backend_ = LS_TRY(candidate.make(made->rig_->storage()));
  LS_TRY(made->allocate(*made->backend_));
  made->program_ = std::make_unique<Program>(*made, *made->backend_);
  return made;
}

// Weights in the ranges that trained models have: decays between about 0.5 and 0.99 per row. Lightning
// attention has them as they are: 1 - 2^-1 to 1 - 2^-5.
Status RecurrentRig::allocate(const RecurrentBackend& backend) {
  Arena& work = rig_->work();
  const int64_t layers = options_.layers, heads = options_.value_heads, channels = options_.channels();
  input_ = LS_TRY(work.allocate("inputs", DType::kF32, {layers, options_.max_rows, width()}));
  output_ =
      LS_TRY(work.allocate("outputs", DType::kF32, {layers, options_.max_rows, heads, options_.value_dim}));
  mixed_ = LS_TRY(work.allocate("mixed", DType::kF32, {options_.max_rows, channels}));
  conv_ = LS_TRY(work.allocate("conv", DType::kF32, {layers, channels, options_.conv_width}));
  a_log_ = LS_TRY(work.allocate("a_log", DType::kF32, {layers, heads}));
  dt_bias_ = LS_TRY(work.allocate("dt_bias", DType::kF32, {layers, heads}));
  const int64_t bytes = backend.workspace_bytes({.threads = options_.threads,
                                                 .key_heads = options_.key_heads,
                                                 .heads = options_.value_heads,
                                                 .key_dim = options_.key_dim,
                                                 .value_dim = options_.value_dim});
  workspace_ = LS_TRY(work.allocate("workspace", DType::kU8, {bytes}));
  for (int64_t layer = 0; layer < layers; ++layer) {
    DeltaWeights weights;
    weights.conv.resize(static_cast<size_t>(channels * options_.conv_width));
    weights.a_log.resize(static_cast<size_t>(heads));
    weights.dt_bias.resize(static_cast<size_t>(heads));
    fill_numbers(static_cast<uint64_t>(100 + layer), weights.conv);
    fill_numbers(static_cast<uint64_t>(200 + layer), weights.a_log);
    fill_numbers(static_cast<uint64_t>(300 + layer), weights.dt_bias);
    for (size_t h = 0; h < weights.a_log.size(); ++h) {
      float& value = weights.a_log[h];
      value = options_.lightning() ? 1 - std::exp2(-1.0f - static_cast<float>(h % 5)) : value - 1.5f;
    }
    LS_TRY(rig_->upload(conv_.rows(layer, 1), weights.conv.data()));
    LS_TRY(rig_->upload(a_log_.rows(layer, 1), weights.a_log.data()));
    LS_TRY(rig_->upload(dt_bias_.rows(layer, 1), weights.dt_bias.data()));
    weights_.push_back(std::move(weights));
  }
  return {};
}

int32_t RecurrentRig::begin() {
  states_.emplace_back(static_cast<size_t>(options_.layers));
  return planner().begin();
}

void RecurrentRig::end(int32_t sequence) {
  planner().end(sequence);
  states_[static_cast<size_t>(sequence)].assign(static_cast<size_t>(options_.layers), {});
}

Status RecurrentRig::fill(const RigStep& step) {
  in_.resize(static_cast<size_t>(input_.elements()));
  fill_poison(step.poison, in_);
  for (int32_t layer = 0; layer < options_.layers; ++layer) {
    int64_t row = int64_t{layer} * options_.max_rows;
    for (const Share& share : step.shares) {
      const int32_t before = planner().length(share.sequence) - share.rows;
      for (int32_t i = 0; i < share.rows; ++i, ++row) {
        fill_numbers(mix64(static_cast<uint64_t>(share.sequence) << 32 | static_cast<uint32_t>(before + i),
                           static_cast<uint64_t>(layer) + 77),
                     {in_.data() + row * width(), static_cast<size_t>(width() - kGap)});
      }
    }
  }
  LS_TRY(rig_->upload(input_, in_.data()));
  out_.assign(static_cast<size_t>(output_.elements()), std::numeric_limits<float>::quiet_NaN());
  return rig_->upload(output_, out_.data());
}

Status RecurrentRig::step(const RigStep& step) {
  LS_TRY(planner().plan(step.shares, step.bucket, plan_));
  LS_TRY(fill(step));
  LS_TRY(rig_->run(plan_, *program_, step.mode));
  LS_TRY(rig_->check_image(plan_));
  LS_TRY(rig_->download(output_, out_.data()));
  return collect(step);
}

Status RecurrentRig::collect(const RigStep& step) {
  const auto size = static_cast<size_t>(options_.value_heads * options_.value_dim);
  std::vector<double> want(size);
  for (int32_t layer = 0; layer < options_.layers; ++layer) {
    int64_t row = 0;
    const auto channels = static_cast<size_t>(options_.channels());
    const auto heads = static_cast<size_t>(options_.value_heads);
    for (const Share& share : step.shares) {
      for (int32_t i = 0; i < share.rows; ++i, ++row) {
        const float* x = in_.data() + (int64_t{layer} * options_.max_rows + row) * width();
        advance(options_, weights_[static_cast<size_t>(layer)],
                {.x = {x, channels}, .b = {x + channels, heads}, .a = {x + channels + heads, heads}},
                states_[static_cast<size_t>(share.sequence)][static_cast<size_t>(layer)], want);
        if (step.compare) LS_TRY(compare_row(want, layer, row));
      }
    }
    const float* out = out_.data() + int64_t{layer} * options_.max_rows * static_cast<int64_t>(size);
    digest_ = digest_bytes(out, static_cast<size_t>(row) * size * sizeof(float), digest_);
    for (int64_t i = row * static_cast<int64_t>(size);
         i < plan_.bucket().rows.get() * static_cast<int64_t>(size); ++i) {
      if (out[i] == 0.0f && !std::signbit(out[i])) continue;
      return error(Code::kInternal, "layer ", layer, ", pad row ", i / static_cast<int64_t>(size), " holds ",
                   out[i], "; expected zero");
    }
  }
  return {};
}

// Unit keys, or short memories, and decays keep a state's entries near 1, and an error in it fades as it
// does: what stays is that of some tens of rows, each a few roundings of Dk terms.
Status RecurrentRig::compare_row(std::span<const double> want, int32_t layer, int64_t row) const {
  const double bound = 64 * 0x1p-24 * (std::sqrt(static_cast<double>(options_.key_dim)) + 8);
  const float* got =
      out_.data() + (int64_t{layer} * options_.max_rows + row) * static_cast<int64_t>(want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    if (std::abs(got[i] - want[i]) <= bound) continue;
    return error(Code::kInternal, "step ", plan_.scalar(field::epoch), ", layer ", layer, ", row ", row,
                 ", element ", i, " is ", got[i], "; expected ", want[i], " to within ", bound);
  }
  return {};
}

}  // namespace lockstep::conformance
