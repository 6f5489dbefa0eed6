// Engine: requests in, tokens out. One thread owns it; a step is one forward pass for everybody who runs.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "engine/config.h"
#include "engine/fault_records.h"
#include "engine/replica.h"
#include "engine/request.h"
#include "engine/start_up.h"
#include "engine/stop_matcher.h"
#include "plan/plan_builder.h"
#include "plan/validate.h"
#include "runtime/executor.h"
#include "runtime/graph_proof.h"
#include "schedule/scheduler.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace lockstep {

// Figures of everything so far.
struct EngineStats {
  int64_t steps = 0;
  int64_t rows = 0;    // live rows of all steps
  int64_t tokens = 0;  // drawn
  int64_t preemptions = 0;
  int64_t non_finite_rows = 0;  // logits rows with NaN or Inf; each ended its sequence
  int64_t overlapped = 0;       // steps that began while the one before was under way
  int64_t dropped_rows = 0;     // of sequences that had ended when their step did
  // Steps that began when nothing was under way, by reason; of engines that compute on a device.
  std::map<std::string, int64_t, std::less<>> not_overlapped;
};

struct EngineSizes;

class Engine {
 public:
  // Loads model and tokenizer and takes all memory. A dummy model without tokenizer.json takes token ids
  // only. Errors: as load_model and Tokenizer::load; kInvalidArgument for numbers of the config that do not
  // fit together.
  static Result<std::unique_ptr<Engine>> create(const EngineConfig& config);
  ~Engine();

  // Queues a request and gives its id. Errors: kInvalidArgument for an empty prompt, one that leaves no room
  // in the context, unknown ids, numbers out of range, or a request the page pool can never hold.
  Result<uint64_t> add(const Request& request);

  // Runs one step for everybody and tells what it brought, in order of arrival. Nothing when idle.
  // On a device the step after it has begun when this returns (EngineConfig::overlap): requests that are
  // added take part from the one behind that on, and those that have ended leave it without a trace. When
  // plan and kernels disagree, or ranks do, the step's requests end with that error. Where several ranks
  // share the model, the leader of a replica calls this and the others follow(); where replicas meet, every
  // leader calls it as long as any_work().
  std::vector<RequestOutput> step();
  // On the ranks that do not lead: one step as the leader plans it. False: the leader has ended.
  // Errors: of the step; the mesh is closed then, so that nobody waits for this rank.
  Result<bool> follow();
  bool leads() const { return replica_ == nullptr || replica_->leads(); }
  // Whether somebody had requests when the last step began, or this engine has some now.
  bool any_work() const { return others_work_ || has_work(); }

  // Ends a request early. Unknown ids are ended already: nothing happens.
  void cancel(uint64_t id);

  bool has_work() const { return !live_.empty(); }
  // Every page, row and state is free. True whenever there is no work.
  bool idle() const { return scheduler_->idle(); }
  EngineStats stats() const;

  const EngineConfig& config() const { return config_; }  // with every "choose for me" chosen
  const Model& model() const { return *model_; }
  const Tokenizer* tokenizer() const { return tokenizer_ ? &*tokenizer_ : nullptr; }
  const StepLimits& limits() const { return limits_; }
  const StepPlan& last_plan() const { return plan(); }                 // of the step that has ended last
  const std::vector<GraphOutcome>& graphs() const { return graphs_; }  // one per graph size
  const std::vector<StartUpPhase>& start_up() const { return start_up_.phases(); }
  Executor& executor() { return *executor_; }
  const StepRunner& runner() const { return executor_->runner(); }  // how steps reached the device, and why
  // Always on; a record may be asked for from any thread.
  const FaultRecords& records() const { return *records_; }
  // What this rank brings to the agreement on a plan (Replica::agree), beside the plan itself.
  Replica::Said says_of(const StepPlan& plan) const;

 private:
  struct Live {
    Sequence sequence;
    int32_t max_tokens = 0;
    bool ignore_eos = false;
    std::optional<Detokenizer> detokenizer;
    StopMatcher stops{{}};
  };

  Engine() = default;
  const StepPlan& plan() const { return plans_.front(); }
  Status prove_graphs();
  Result<std::vector<int32_t>> prompt_ids(const Request& request) const;
  RequestOutput output_of(Live& live, int32_t length, int32_t logits_row);
  float score_of(int32_t logits_row, int32_t token);
  size_t vocab_columns() const { return static_cast<size_t>(model_->spec.vocab); }  // of the logits
  std::vector<RequestOutput> collect(const Batch& batch);
  std::vector<RequestOutput> fail(const Batch& batch, const Status& status);
  Status run_step(const Batch& batch, const Bucket& bucket);
  Status run_plan();
  Status validate_and_run();
  Status validate(const StepPlan& plan);
  std::vector<RequestOutput> step_overlapped();
  Status begin(const Batch& batch, Epoch epoch, StepPlan& plan);
  Status begin_ahead(const Batch& now);
  std::vector<RequestOutput> end_step(const Batch& batch);
  const Batch& advance();
  void drain();
  void count_not_overlapped(std::string_view reason);
  void enter(RankPhase phase);
  Result<Bucket> agree_on_bucket(const Batch& batch);
  Status set_up_ranks(EngineSizes& sizes, int32_t vocab_known);
  FaultRecords::Failure close_ranks(const Status& status);
  static std::vector<RerunSequence> rerun_sequences(const Batch& batch);
  std::string record_bad_logits(const Status& failure, const Batch& batch);
  void record_with_others();
  std::string put_on_record(const FaultRecords::Failure& failure,
                            const std::vector<RerunSequence>& sequences);
  void end(uint64_t id);

  StartUp start_up_;
  EngineConfig config_;
  StepLimits limits_;
  std::unique_ptr<Model> model_;
  std::optional<Tokenizer> tokenizer_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<PlanBuilder> builder_;
  std::unique_ptr<PlanValidator> validator_;
  // This rank's plan in front; of a step whose rows are shared, those of the other ranks behind it.
  std::vector<StepPlan> plans_;
  StepResult result_;
  std::map<uint64_t, Live> live_;  // by id; nodes do not move
  uint64_t next_id_ = 1;
  Epoch epoch_;
  std::vector<GraphOutcome> graphs_;
  std::unique_ptr<FaultRecords> records_;
  std::unique_ptr<Replica> replica_;  // null: alone
  Digest config_digest_ = 0;          // of what all ranks must have alike
  bool others_work_ = false;          // when the last step began
  uint64_t on_record_ = 0;            // step of the newest noted fault that is
  bool closed_ = false;               // the ranks can do no further step, and that is on record
  std::vector<uint64_t> step_ids_;    // of the sequences of the newest step
  // The step behind the one at hand, when that has begun too.
  struct Ahead {
    StepPlan plan;
    const Batch* batch = nullptr;  // null: it has not
  };
  Ahead ahead_;
  std::string against_overlap_;  // why steps do not overlap; empty: they do
  std::string_view not_ahead_;   // why the next step has not begun
  EngineStats stats_;
};

// The limits and memory of a config for a model whose spec is known: also what `inspect` prints.
struct EngineSizes {
  EngineConfig config;  // every choice made
  StepLimits limits;
  ExecutorOptions executor;
  ExecutorMemory memory;
};
// Why steps of an engine do not overlap; empty: they do.
std::string reason_against_overlap(const EngineConfig& config, const DecoderSpec& spec);
// Whether the layers of data-parallel replicas meet in collectives: their experts are shared.
bool replicas_meet(const EngineConfig& config, const DecoderSpec& spec);
Result<EngineSizes> size_engine(const EngineConfig& config, const DecoderSpec& spec, DType cache_dtype,
                                int32_t vocab_known);

}  // namespace lockstep
