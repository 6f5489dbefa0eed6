#include "engine/engine.h"

#include <algorithm>
#include <filesystem>
#include <iostream>

#include "base/fault.h"
#include "device/registry.h"
#include "diag/progress.h"
#include "engine/perplexity.h"
#include "plan/cp_shares.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

Result<std::optional<Tokenizer>> load_tokenizer(const ModelOptions& model) {
  const fs::path path = fs::path(model.path) / "tokenizer.json";
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return std::optional<Tokenizer>();
  return std::optional<Tokenizer>(LS_TRY(Tokenizer::load(path.string())));
}

// Connected to those of the other ranks, where there are any.
Result<DevicePtr> device_of(const EngineConfig& config) {
  Result<DevicePtr> device = open_device(config.device);
  if (config.mesh == nullptr || config.mesh->world().size() == 1) return device;
  if (!device.ok()) {
    return device.status().with_message(
        concat(device.status().message(),
               "; each rank of a host computes on a GPU of its own: start as many "
               "as there are, name them with --device cuda:N,M, or use --device cpu"));
  }
  if (*device != nullptr) LS_TRY(config.mesh->connect(**device));
  return device;
}

SamplingFacts sampling_facts(const Request& request) {
  return {.temperature = request.temperature,
          .top_k = request.top_k,
          .top_p = request.top_p,
          .min_p = request.min_p,
          .repetition_penalty = request.repetition_penalty,
          .presence_penalty = request.presence_penalty,
          .frequency_penalty = request.frequency_penalty,
          .seed = request.seed,
          .logprobs = request.logprobs};
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::create(const EngineConfig& config) {
  std::unique_ptr<Engine> engine(new Engine());
  ModelOptions model = config.model;
  if (config.mesh != nullptr) model.shard = shard_of(config.mesh->shape(), config.mesh->place());
  model.device = LS_TRY(device_of(config));
  StartUp& start_up = engine->start_up_;
  start_up.end("device");
  model.threads = config.threads > 0 ? config.threads : detect_cpu().cpus;
  engine->tokenizer_ = LS_TRY(load_tokenizer(model));
  start_up.end("tokenizer");
  engine->model_ = LS_TRY(load_model(model));
  start_up.end("weights");
  const DecoderSpec& spec = engine->model_->local;
  const int32_t vocab_known = engine->tokenizer_ ? engine->tokenizer_->vocab_size() : spec.vocab;
  EngineConfig placed = config;
  placed.model.device = model.device;
  EngineSizes sizes = LS_TRY(size_engine(placed, spec, engine->model_->cache_dtype, vocab_known));
  LS_TRY(engine->set_up_ranks(sizes, vocab_known));
  engine->config_ = sizes.config;
  engine->limits_ = sizes.limits;
  engine->against_overlap_ = reason_against_overlap(sizes.config, spec);
  engine->executor_ = LS_TRY(Executor::create(*engine->model_, sizes.executor));
  start_up.end("memory");
  engine->scheduler_ =
      std::make_unique<Scheduler>(SchedulerOptions{.limits = sizes.limits,
                                                   .kv_group = kKvGroup,
                                                   .state_group = kStateGroup,
                                                   .max_running = sizes.config.max_num_seqs,
                                                   .max_rows = sizes.config.max_num_batched_tokens,
                                                   .chunk_size = sizes.config.chunk_size,
                                                   .decode_buckets = sizes.config.graph_sizes});
  std::vector<PageTables*> tables(static_cast<size_t>(sizes.limits.num_groups), nullptr);
  for (int32_t g = 0; g < sizes.limits.num_groups; ++g)
    tables[static_cast<size_t>(g)] = engine->scheduler_->page_tables(GroupId(g));
  engine->plans_.resize(static_cast<size_t>(sizes.limits.cp_ranks));
  engine->builder_ = std::make_unique<PlanBuilder>(sizes.limits, std::move(tables));
  engine->validator_ = std::make_unique<PlanValidator>(sizes.limits);
  if (config.pulse != nullptr) engine->executor_->stream().set_pulse(&config.pulse->work);
  LS_TRY(engine->prove_graphs());
  start_up.end("graphs");
  engine->records_ =
      std::make_unique<FaultRecords>(*engine->model_, *engine->executor_, model, sizes.config.record_dir);
  engine->executor_->watch(sizes.config.guard == GuardLevel::kFull);
  return engine;
}

Status Engine::prove_graphs() {
  Progress progress("proving graphs", static_cast<int64_t>(config_.graph_sizes.size()), ProgressUnit::kItems);
  GraphProof proof(*executor_, epoch_, config_.model.seed);
  const bool idle_too = replica_ != nullptr && replica_->meets();
  for (const int32_t size : config_.graph_sizes) {
    graphs_.push_back(proof.prove(size));
    if (idle_too && graphs_.back().status.ok()) graphs_.back() = proof.prove_idle(size);
    if (const Status& status = graphs_.back().status; !status.ok())
      std::cerr << "lockstep: decode steps of " << size << " run without a graph: " << status.message()
                << "\n";
    progress.advance(1);
  }
  epoch_ = proof.epoch();
  return {};
}

Result<std::vector<int32_t>> Engine::prompt_ids(const Request& request) const {
  for (const std::vector<int32_t>* ids : {&request.prompt_ids, &request.forced}) {
    for (const int32_t id : *ids) {
      if (id < 0 || id >= model_->spec.vocab) {
        return error(Code::kInvalidArgument, "request: token id ", id, "; expected 0..",
                     model_->spec.vocab - 1);
      }
    }
  }
  if (!request.prompt_ids.empty()) return request.prompt_ids;
  if (!tokenizer_) {
    return error(Code::kInvalidArgument, "request: a text prompt for ", model_->name,
                 ", which has no tokenizer.json; give token ids");
  }
  return tokenizer_->encode(request.prompt, {.add_special_tokens = request.add_special_tokens});
}

Result<uint64_t> Engine::add(const Request& request) {
  LS_TRY(check_request(request));
  const std::vector<int32_t> ids = LS_TRY(prompt_ids(request));
  if (ids.empty())
    return error(Code::kInvalidArgument, "request: the prompt is empty; expected at least one token");
  const auto prompt_len = static_cast<int64_t>(ids.size());
  if (prompt_len >= config_.max_model_len) {
    return error(Code::kInvalidArgument, "request: the prompt has ", prompt_len, " tokens; expected at most ",
                 config_.max_model_len - 1, ", which leaves room for one more in a context of ",
                 config_.max_model_len, "; shorten it or raise --max-model-len");
  }
  const auto room = static_cast<int32_t>(config_.max_model_len - prompt_len);
  const auto forced = static_cast<int64_t>(request.forced.size());
  if (forced > room) {
    return error(Code::kInvalidArgument, "request: ", forced, " tokens are to follow a prompt of ",
                 prompt_len, "; expected at most ", room, " in a context of ", config_.max_model_len,
                 "; shorten them or raise --max-model-len");
  }
  const uint64_t id = next_id_++;
  Live& live = live_[id];
  live.max_tokens = forced > 0 ? static_cast<int32_t>(forced) : std::min(request.max_tokens, room);
  live.ignore_eos = request.ignore_eos || forced > 0;
  if (tokenizer_ && forced == 0) live.detokenizer.emplace(*tokenizer_, true, Detokenizer::Text::kGoesOn);
  live.stops = StopMatcher(request.stop);
  Sequence& sequence = live.sequence;
  sequence.id = id;
  for (const int32_t token : ids) sequence.tokens.emplace_back(token);
  for (const int32_t token : request.forced) sequence.forced.emplace_back(token);
  sequence.prompt_len = static_cast<int32_t>(prompt_len);
  sequence.longest = sequence.prompt_len + live.max_tokens;
  sequence.sampling = sampling_facts(request);
  sequence.has_penalties = request.repetition_penalty != 1.0f || request.presence_penalty != 0.0f ||
                           request.frequency_penalty != 0.0f;
  // The last token drawn is never cached.
  if (Status status = scheduler_->add(sequence, sequence.prompt_len + live.max_tokens - 1); !status.ok()) {
    live_.erase(id);
    return status;
  }
  return id;
}

std::vector<RequestOutput> Engine::step() {
  if (against_overlap_.empty()) return step_overlapped();
  const Batch& batch = scheduler_->next(epoch_ = Epoch(epoch_.get() + 1));
  const Result<Bucket> bucket = agree_on_bucket(batch);
  if (!bucket.ok()) return fail(batch, bucket.status());
  if (batch.empty() && !others_work_) return {};
  if (executor_->options().device != nullptr) count_not_overlapped(against_overlap_);
  if (const Status status = run_step(batch, *bucket); !status.ok()) return fail(batch, status);
  scheduler_->commit(batch, result_);
  return collect(batch);
}

Status Engine::run_step(const Batch& batch, const Bucket& bucket) {
  const int32_t ranks = limits_.cp_ranks;
  const int32_t plans = cp_cuts(batch.steps, ranks) ? ranks : 1;
  const auto built = std::span(plans_).first(static_cast<size_t>(plans));
  for (int32_t rank = 0; rank < plans; ++rank) {
    LS_TRY(builder_->build({.epoch = epoch_,
                            .source_epoch = batch.source_epoch,
                            .sequences = batch.steps,
                            .bucket = bucket,
                            .cut = {plans, rank}},
                           plans_[static_cast<size_t>(rank)]));
  }
  if (plans > 1) LS_TRY(check_cp_plans(built));
  step_ids_.clear();
  for (const Sequence* sequence : batch.sequences) step_ids_.push_back(sequence->id);
  if (replica_ != nullptr && !replica_->alone()) LS_TRY(replica_->send(built, step_ids_));
  return run_plan();
}

// Validate, agree, run; each is on record before the next begins.
Status Engine::run_plan() {
  const Status done = validate_and_run();
  enter(RankPhase::kIdle);
  return done;
}

// For whoever watches over ranks. Between steps there is nothing that others could wait for in vain: a leader
// may have no requests, or a reader who takes his time.
void Engine::enter(RankPhase phase) {
  if (config_.pulse != nullptr) config_.pulse->phase.store(phase, std::memory_order_relaxed);
}

Status Engine::validate_and_run() {
  // No rule of one needs the other's word.
  const StepRunner::Beside beside = executor_->hold_beside(plan());
  LS_TRY(validate(plan()));
  const auto phase = static_cast<Phase>(plan().scalar(field::phase));
  enter(executor_->runner().replays(plan())                ? RankPhase::kReplay
        : phase == Phase::kDecode || phase == Phase::kIdle ? RankPhase::kDecode
                                                           : RankPhase::kPrefill);
  if (leads()) builder_->accepted();
  if (replica_ != nullptr) {  // before the first collective
    config_.mesh->ledger().begin_step(plan().scalar(field::epoch).get());
    LS_TRY(replica_->agree(plan(), says_of(plan())));
  }
  executor_->name_sequences(step_ids_);
  LS_TRY(executor_->run(plan(), result_));
  records_->end(result_);
  return {};
}

Status Engine::validate(const StepPlan& plan) {
  Status status = validator_->validate(plan);
  records_->recorder().begin({.plan = plan, .sequence_ids = step_ids_, .refused = !status.ok()});
  return status;
}

std::vector<RequestOutput> Engine::collect(const Batch& batch) {
  ++stats_.steps;
  for (const SequenceStep& step : batch.steps) stats_.rows += rows_of(step);
  std::vector<RequestOutput> outputs;
  int32_t logits_row = 0;
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    const SequenceStep& step = batch.steps[i];
    if (batch.sequences[i] == nullptr) stats_.dropped_rows += rows_of(step);
    if (!step.wants_logits) continue;
    const int32_t row = logits_row++;
    if (batch.sequences[i] == nullptr) continue;
    const int32_t length = step.computed.get() + rows_of(step) + 1;
    outputs.push_back(output_of(live_.at(batch.sequences[i]->id), length, row));
  }
  if (const auto bad = std::find_if(outputs.begin(), outputs.end(),
                                    [](const RequestOutput& o) { return o.failure.fault() != nullptr; });
      bad != outputs.end())
    bad->error += record_bad_logits(bad->failure, batch);
  for (const RequestOutput& output : outputs) {
    if (output.finish != FinishReason::kNone) end(output.id);
  }
  return outputs;
}

// A forced token's, from logits that are where the step has left them.
float Engine::score_of(int32_t logits_row, int32_t token) {
  std::vector<std::byte> copy;
  const TensorView there = executor_->logits(logits_row + 1).rows(logits_row, 1);
  const TensorView logits = HostView(executor_->stream()).look(there, copy);
  return logprob_of({logits.as<float>(), vocab_columns()}, token);
}

// `length`: tokens of the sequence with the one that was drawn; a step that is under way may add another.
RequestOutput Engine::output_of(Live& live, int32_t length, int32_t logits_row) {
  const auto row = static_cast<size_t>(logits_row);
  const StepResult& result = result_;
  RequestOutput output{.id = live.sequence.id};
  if (result.non_finite[row] > 0) {
    ++stats_.non_finite_rows;
    output.finish = FinishReason::kError;
    output.error = concat("request ", output.id, ": ", result.non_finite[row],
                          " logits are NaN or infinite at position ", length - 1, " in step ", result.epoch,
                          "; expected finite numbers");
    output.failure = broken({.check = "N0",
                             .moment = Moment::kCommit,
                             .consumer = "sampler",
                             .field = "logits",
                             .row = logits_row,
                             .rank = config_.mesh != nullptr ? config_.mesh->rank() : 0,
                             .step = result.epoch.get(),
                             .expected = "finite numbers",
                             .found = concat(result.non_finite[row], " NaN or infinite numbers")});
    return output;
  }
  ++stats_.tokens;
  const int32_t token = live.sequence.tokens[static_cast<size_t>(length) - 1].get();
  const int32_t generated = length - live.sequence.prompt_len;
  const bool stop = !live.ignore_eos && std::find(model_->stop_ids.begin(), model_->stop_ids.end(), token) !=
                                            model_->stop_ids.end();
  output.tokens.push_back(token);
  if (!live.sequence.forced.empty()) {
    output.logprobs.push_back({.token = token, .logprob = score_of(logits_row, token), .top = {}});
  } else if (live.sequence.sampling.logprobs >= 0) {
    TokenLogprobs& logprobs = output.logprobs.emplace_back(
        TokenLogprobs{.token = token, .logprob = result.token_logprobs[row], .top = {}});
    for (int32_t i = 0; i < live.sequence.sampling.logprobs; ++i) {
      const size_t at = row * kMaxTopLogprobs + static_cast<size_t>(i);
      if (result.top_tokens[at].get() < 0) break;  // the vocabulary has no more
      logprobs.top.emplace_back(result.top_tokens[at].get(), result.top_logprobs[at]);
    }
  }
  if (live.detokenizer && !stop) {
    Result<std::string> text = live.detokenizer->push(token);
    if (text.ok()) {
      const StopMatcher::Piece piece = live.stops.push(*text);
      output.text = piece.text;
      if (piece.stopped) output.finish = FinishReason::kStop;
    } else {
      output.finish = FinishReason::kError;
      output.error = text.status().message();
    }
  }
  if (output.finish != FinishReason::kNone) return output;
  if (stop) output.finish = FinishReason::kStop;
  if (!stop && generated >= live.max_tokens) output.finish = FinishReason::kLength;
  // What was held back is text after all.
  if (output.finish != FinishReason::kNone && live.detokenizer) {
    output.text += live.stops.push(live.detokenizer->flush()).text + live.stops.flush();
  }
  return output;
}

std::vector<RequestOutput> Engine::fail(const Batch& batch, const Status& status) {
  const FaultRecords::Failure failure = close_ranks(status);
  scheduler_->step_ended(epoch_);
  const std::string where = put_on_record(failure, rerun_sequences(batch));
  std::vector<RequestOutput> outputs;
  for (const Sequence* sequence : batch.sequences) {
    if (sequence == nullptr) continue;
    outputs.push_back({.id = sequence->id,
                       .finish = FinishReason::kError,
                       .error = failure.status.message() + where,
                       .failure = failure.status});
  }
  for (const RequestOutput& output : outputs) end(output.id);
  return outputs;
}

void Engine::end(uint64_t id) {
  const auto live = live_.find(id);
  if (live == live_.end()) return;
  scheduler_->remove(live->second.sequence);
  live_.erase(live);
}

void Engine::cancel(uint64_t id) {
  end(id);
  drain();
}

EngineStats Engine::stats() const {
  EngineStats stats = stats_;
  stats.preemptions = scheduler_->preemptions();
  return stats;
}

}  // namespace lockstep
