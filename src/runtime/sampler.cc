#include "runtime/sampler.h"

#include <algorithm>
#include <vector>

#include "base/math.h"
#include "comm/collectives.h"
#include "plan/step_plan.h"

namespace lockstep {
namespace {

constexpr const OpSpec* kOps[] = {&kCountTokensSpec, &kSampleSpec};
constexpr FieldUse kUses[] = {
    {.field = FieldId::positions, .argument = "count_tokens.positions"},
    {.field = FieldId::query_start_loc, .argument = "count_tokens.query_start_loc"},
    {.field = FieldId::penalty_slots, .argument = "count_tokens.penalty_slots"},
    {.field = FieldId::prompt_lens, .argument = "count_tokens.prompt_lens"},
    {.field = FieldId::num_seqs, .argument = "count_tokens.num_seqs"},
    {.field = FieldId::temperature, .argument = "sample.temperature"},
    {.field = FieldId::top_k, .argument = "sample.top_k"},
    {.field = FieldId::top_p, .argument = "sample.top_p"},
    {.field = FieldId::min_p, .argument = "sample.min_p"},
    {.field = FieldId::repetition_penalty, .argument = "sample.repetition_penalty"},
    {.field = FieldId::presence_penalty, .argument = "sample.presence_penalty"},
    {.field = FieldId::frequency_penalty, .argument = "sample.frequency_penalty"},
    {.field = FieldId::seed, .argument = "sample.seed"},
    {.field = FieldId::sample_positions, .argument = "sample.position"},
    {.field = FieldId::sample_penalty_slots, .argument = "sample.penalty_slot"},
    {.field = FieldId::logprobs, .argument = "sample.logprobs"},
    {.field = FieldId::num_logits_rows, .argument = "sample.num_logits_rows"},
    {.field = FieldId::num_seqs, .feed = Feed::kValue, .argument = {}},
    {.field = FieldId::cp_ranks, .feed = Feed::kValue, .argument = {}},
    {.field = FieldId::cp_rank, .feed = Feed::kValue, .argument = {}},
};
constexpr ConsumerSpec kConsumer{.name = "sampler", .ops = kOps, .fields = kUses};

}  // namespace

// What one step's sampling reads of the plan.
struct Sampler::Launch {
  TensorView tokens;  // [T] i32
  TensorView logits;  // [R, V] f32
  FieldView positions;
  FieldView query_start_loc;
  FieldView penalty_slots;
  FieldView prompt_lens;
  FieldView temperature;
  FieldView top_k;
  FieldView top_p;
  FieldView min_p;
  FieldView repetition_penalty;
  FieldView presence_penalty;
  FieldView frequency_penalty;
  FieldView seed;
  FieldView sample_positions;
  FieldView sample_penalty_slots;
  FieldView logprobs;
  const LiveSeqs* num_seqs = nullptr;
  const LiveRows* num_logits_rows = nullptr;
  ContextCut cut;
  int64_t whole = 0;  // sequences whose rows are shared: early chunks first, then as many late ones
};

namespace {

int64_t gathered_rows(const SamplerLimits& limits) { return limits.context.ranks * limits.context.max_rows; }
int64_t gathered_starts(const SamplerLimits& limits) { return limits.context.ranks * (limits.seqs + 1); }

}  // namespace

int64_t Sampler::footprint(const SamplerLimits& limits) {
  const int64_t rows = limits.logits_rows;
  return Arena::footprint(DType::kI32, {limits.penalty_slots, limits.vocab}) +
         2 * Arena::footprint(DType::kI32, {rows}) + Arena::footprint(DType::kF32, {rows}) +
         2 * Arena::footprint(DType::kI32, {rows, kMaxTopLogprobs}) +
         Arena::footprint(DType::kU8, {sample_workspace_bytes(limits.threads, limits.vocab)}) +
         (limits.context.ranks == 1 ? 0
                                    : 2 * Arena::footprint(DType::kI32, {gathered_rows(limits), 1}) +
                                          Arena::footprint(DType::kI32, {gathered_starts(limits), 1}));
}

Result<Sampler> Sampler::create(const SamplerLimits& limits, Arena& arena) {
  const int64_t rows = limits.logits_rows;
  Sampler s;
  s.limits_ = limits;
  s.tokens_ = LS_TRY(arena.allocate("sampled tokens", DType::kI32, {rows}));
  s.token_logprob_ = LS_TRY(arena.allocate("token logprobs", DType::kF32, {rows}));
  s.top_tokens_ = LS_TRY(arena.allocate("top tokens", DType::kI32, {rows, kMaxTopLogprobs}));
  s.top_logprobs_ = LS_TRY(arena.allocate("top logprobs", DType::kF32, {rows, kMaxTopLogprobs}));
  s.non_finite_ = LS_TRY(arena.allocate("non-finite counts", DType::kI32, {rows}));
  s.counts_ = LS_TRY(arena.allocate("token counts", DType::kI32, {limits.penalty_slots, limits.vocab}));
  s.workspace_ = LS_TRY(arena.allocate("sampler workspace", DType::kU8,
                                       {sample_workspace_bytes(limits.threads, limits.vocab)}));
  if (limits.context.ranks > 1) {
    s.all_tokens_ = LS_TRY(arena.allocate("all tokens", DType::kI32, {gathered_rows(limits), 1}));
    s.all_positions_ = LS_TRY(arena.allocate("all positions", DType::kI32, {gathered_rows(limits), 1}));
    s.all_starts_ = LS_TRY(arena.allocate("all starts", DType::kI32, {gathered_starts(limits), 1}));
  }
  // An arena hands out one thing behind the other.
  const auto* last = static_cast<const std::byte*>(s.non_finite_.data) + s.non_finite_.bytes();
  s.outcome_bytes_ = round_up(last - static_cast<const std::byte*>(s.tokens_.data), Arena::kAlignment);
  s.landing_ = LS_TRY(Landing::create(kArrivals * s.outcome_bytes_, nullptr));
  return s;
}

Status Sampler::prepare(const Binder& binder, const TensorView& tokens, const TensorView& logits,
                        PreparedStep& step) const {
  Launch& launch = step.add<Launch>(kConsumer);
  launch.tokens = tokens;
  launch.logits = logits;
  if (limits_.context.ranks > 1) launch.cut = LS_TRY(bind_cut(binder, kConsumer, limits_.context));
  if (launch.cut.shared()) {
    const LiveSeqs halves = LS_TRY(binder.value(kConsumer, field::num_seqs));
    launch.whole = halves.get() / 2;
  }
  return binder.bind(kConsumer, {{FieldId::positions, launch.positions},
                                 {FieldId::query_start_loc, launch.query_start_loc},
                                 {FieldId::penalty_slots, launch.penalty_slots},
                                 {FieldId::prompt_lens, launch.prompt_lens},
                                 {field::num_seqs, launch.num_seqs},
                                 {FieldId::temperature, launch.temperature},
                                 {FieldId::top_k, launch.top_k},
                                 {FieldId::top_p, launch.top_p},
                                 {FieldId::min_p, launch.min_p},
                                 {FieldId::repetition_penalty, launch.repetition_penalty},
                                 {FieldId::presence_penalty, launch.presence_penalty},
                                 {FieldId::frequency_penalty, launch.frequency_penalty},
                                 {FieldId::seed, launch.seed},
                                 {FieldId::sample_positions, launch.sample_positions},
                                 {FieldId::sample_penalty_slots, launch.sample_penalty_slots},
                                 {FieldId::logprobs, launch.logprobs},
                                 {field::num_logits_rows, launch.num_logits_rows}});
}

Status Sampler::count(const Launch& launch, const Launcher& on) const {
  return count_tokens(on,
                      {.token_ids = launch.tokens,
                       .positions = launch.positions,
                       .query_start_loc = launch.query_start_loc,
                       .penalty_slots = launch.penalty_slots,
                       .prompt_lens = launch.prompt_lens,
                       .counts = counts_,
                       .num_seqs = launch.num_seqs},
                      "count_tokens");
}

// Early chunks first, in order of ranks: a sequence's first row, which clears its counts, comes before the
// rest. The halves of a sequence share its counts, so they are counted one after the other.
Status Sampler::count_of_all_ranks(const Launch& launch, const Launcher& on) const {
  const int64_t ranks = launch.cut.ranks, rows = launch.tokens.dim(0);
  const int64_t starts = launch.query_start_loc.entries;
  const auto gather = [&](const TensorView& own, const TensorView& all) {
    const int64_t count = own.dim(0);
    return gather_rows_of_ranks(on,
                                {.x = dense_view(own.data, own.dtype, {count, 1}),
                                 .out = all.rows(0, ranks * count),
                                 .group = limits_.context.group},
                                "all_tokens");
  };
  LS_TRY(gather(launch.tokens, all_tokens_));
  LS_TRY(gather(launch.positions, all_positions_));
  LS_TRY(gather(launch.query_start_loc, all_starts_));
  const auto list = [](const TensorView& all, int64_t first, int64_t count) {
    return dense_view(all.as<int32_t>() + first, DType::kI32, {count});
  };
  for (const int64_t first : {int64_t{0}, launch.whole}) {
    for (int64_t rank = 0; rank < ranks; ++rank) {
      LS_TRY(count_tokens(on,
                          {.token_ids = list(all_tokens_, rank * rows, rows),
                           .positions = list(all_positions_, rank * rows, rows),
                           .query_start_loc = list(all_starts_, rank * starts + first, launch.whole + 1),
                           .penalty_slots = launch.penalty_slots.tensor().rows(first, launch.whole),
                           .prompt_lens = launch.prompt_lens.tensor().rows(first, launch.whole),
                           .counts = counts_,
                           .num_seqs = launch.num_seqs},
                          "count_tokens"));
    }
  }
  return {};
}

Status Sampler::run(const PreparedStep& step, const Launcher& on) const {
  const Launch& launch = *LS_TRY(step.get<Launch>(kConsumer));
  LS_TRY(launch.cut.shared() ? count_of_all_ranks(launch, on) : count(launch, on));
  const int64_t rows = launch.logits.dim(0);
  const SampleArgs draw{.logits = launch.logits,
                        .temperature = launch.temperature,
                        .top_k = launch.top_k,
                        .top_p = launch.top_p,
                        .min_p = launch.min_p,
                        .repetition_penalty = launch.repetition_penalty,
                        .presence_penalty = launch.presence_penalty,
                        .frequency_penalty = launch.frequency_penalty,
                        .seed = launch.seed,
                        .position = launch.sample_positions,
                        .penalty_slot = launch.sample_penalty_slots,
                        .logprobs = launch.logprobs,
                        .counts = counts_,
                        .tokens = tokens_.rows(0, rows),
                        .token_logprob = token_logprob_.rows(0, rows),
                        .top_tokens = top_tokens_.rows(0, rows),
                        .top_logprobs = top_logprobs_.rows(0, rows),
                        .non_finite = non_finite_.rows(0, rows),
                        .workspace = workspace_,
                        .num_logits_rows = launch.num_logits_rows,
                        .vocab_size = limits_.vocab_known};
  return sample(on, draw, "sample");
}

Status Sampler::download(int32_t rows, int arrival, Stream& stream) {
  for (const TensorView* part : {&tokens_, &token_logprob_, &top_tokens_, &top_logprobs_, &non_finite_}) {
    const TensorView source = part->rows(0, rows);
    auto* target = landing_.at<std::byte>(arrival * outcome_bytes_ + place_of(*part));
    LS_TRY(stream.download(source, dense_view(target, source.dtype, source.shape)));
  }
  return {};
}

void Sampler::collect(int32_t rows, const std::byte* outcome, StepResult& result) const {
  const auto count = static_cast<size_t>(rows), top = count * kMaxTopLogprobs;
  const auto take = [&]<typename T>(const TensorView& part, std::vector<T>& to, size_t entries) {
    const auto* from = reinterpret_cast<const T*>(outcome + place_of(part));
    to.assign(from, from + entries);
  };
  take(tokens_, result.tokens, count);
  take(token_logprob_, result.token_logprobs, count);
  take(top_tokens_, result.top_tokens, top);
  take(top_logprobs_, result.top_logprobs, top);
  take(non_finite_, result.non_finite, count);
}

}  // namespace lockstep
