#include "wrong_rank.h"

#include <array>

#include "comm/collectives.h"
#include "comm/launched.h"
#include "engine/engine.h"
#include "kernels/table.h"

namespace lockstep::testing {

// A rank at the moment at which it goes its own way.
struct WrongRank {
  Engine& engine;
  Mesh& mesh;
  Replica replica{mesh, engine.limits(), true};
  StepPlan plan;
  std::vector<uint64_t> ids;

  // The plan of the step, as the leader sent it.
  Status receive() {
    LS_TRY(replica.receive(plan, ids));
    mesh.ledger().begin_step(plan.scalar(field::epoch).get());
    return {};
  }
  Status agree() { return replica.agree(plan, engine.says_of(plan)); }
  Status receive_and_agree() {
    LS_TRY(receive());
    return agree();
  }
  Launcher launcher() { return {kernel_table(Isa::kReference), engine.executor().stream()}; }
  int64_t rows() const { return plan.bucket().rows.get(); }
  int64_t width() const { return engine.model().local.width; }
};

namespace {

constexpr int64_t kRightSteps = 5;  // a prompt and some of the story
constexpr int32_t kFollower = 1, kIdleLeader = 2, kIdleFollower = 3;

// G1f: an idle rank chooses its graph by the rows that it has itself.
Status own_row_count(WrongRank& self) {
  LS_TRY(self.replica.agree_on_shape({.rows = 0, .has_work = false, .decode = true}));
  PageTables tables(1, 1);
  PlanBuilder builder(self.engine.limits(), {&tables});
  const Epoch epoch(self.engine.last_plan().scalar(field::epoch).get() + 1);
  const Bucket own{.rows = PaddedRows(1), .seqs = PaddedSeqs(1), .logits_rows = PaddedRows(1)};
  const StepRequest idle{.epoch = epoch, .source_epoch = Epoch(), .sequences = {}, .bucket = own};
  LS_TRY(builder.build(idle, self.plan));
  builder.accepted();  // the pad row's page, which all ranks have long seen
  LS_TRY(builder.build(idle, self.plan));
  self.mesh.ledger().begin_step(epoch.get());
  LS_TRY(self.replica.send(std::span(&self.plan, 1), {}));
  return self.agree();
}

// G6f: what kind of step it is, is concluded from what there is: here, that a draft is being extended.
Status own_phase(WrongRank& self) {
  LS_TRY(self.receive());
  self.plan.edit(field::phase)[0] = static_cast<int32_t>(Phase::kMixed);
  self.plan.freeze();
  return self.agree();
}

// G2f: a rank without a valid graph runs eagerly, the others replay theirs.
Status eager_alone(WrongRank& self) {
  self.engine.executor().runner().set_eager("this rank has lost its graphs");
  for (bool more = true; more;) more = LS_TRY(self.engine.follow());
  return {};
}

// A path of its own that leaves out what the others do together before a forward pass.
Status missing_collective(WrongRank& self) {
  LS_TRY(self.receive());
  StepResult result;
  return self.engine.executor().run(self.plan, result);
}

// What this rank has enqueued of its own is all that it brings to the step.
Status settle(WrongRank& self) {
  LS_TRY(self.mesh.settle());
  return self.mesh.tp().status();
}

// Memory for what a wrong rank exchanges, where its engine computes.
Result<Arena> memory_of(WrongRank& self) {
  return Arena::create("drill", 64 * self.rows() * self.width(), self.engine.executor().options().device);
}

// A sum of whatever rows; `stage` and `layer` say which.
Status sum(WrongRank& self, int64_t rows, std::string_view stage, int32_t layer) {
  Arena arena = LS_TRY(memory_of(self));
  const TensorView x = LS_TRY(arena.allocate("x", DType::kF32, {rows, self.width()}));
  const TensorView scratch =
      LS_TRY(arena.allocate("scratch", DType::kU8, {all_reduce_scratch_bytes(rows, self.width(), 2)}));
  const Launcher on = self.launcher();
  on.stream.set_layer(layer);
  LS_TRY(all_reduce(on, {.x = x, .scratch = scratch, .group = &self.mesh.tp()}, stage));
  return settle(self);
}

// Op, type and size are those of the sum that the others are in.
Status other_order(WrongRank& self) {
  LS_TRY(self.receive_and_agree());
  return sum(self, self.rows(), "o_proj_sum", 0);
}

// G5f: padded to the rows of this rank, where a dense layer gathers over the whole group.
Status other_size(WrongRank& self) {
  LS_TRY(self.receive_and_agree());
  return sum(self, self.rows() - 1, "embedding_sum", -1);
}

Status other_dtype(WrongRank& self) {
  LS_TRY(self.receive_and_agree());
  Arena arena = LS_TRY(memory_of(self));
  const TensorView x = LS_TRY(arena.allocate("x", DType::kBF16, {self.rows(), self.width()}));
  const TensorView all = LS_TRY(arena.allocate("all", DType::kBF16, {2 * self.rows(), self.width()}));
  LS_TRY(
      gather_rows_of_ranks(self.launcher(), {.x = x, .out = all, .group = &self.mesh.tp()}, "embedding_sum"));
  return settle(self);
}

// FR2: a gather with a list of one output for a group of several.
void gather_into_one(const GatherRowsOfRanksArgs& args, Worker worker) {
  const auto bytes = static_cast<size_t>(args.x.bytes());
  const Launched launch(*args.group, worker, args.at);
  [[maybe_unused]] const Status told =
      launch.all_gather({static_cast<const std::byte*>(args.x.data), bytes},
                        {static_cast<std::byte*>(args.out.data), bytes}, args.x.dtype);
}

Status one_output(WrongRank& self) {
  LS_TRY(self.receive_and_agree());
  Arena arena = LS_TRY(memory_of(self));
  const TensorView x = LS_TRY(arena.allocate("x", DType::kF32, {self.rows(), self.width()}));
  const TensorView one = LS_TRY(arena.allocate("one", DType::kF32, {self.rows(), self.width()}));
  launch_collective(self.launcher(), kGatherRowsOfRanksSpec, "embedding_sum", gather_into_one,
                    GatherRowsOfRanksArgs{.x = x, .out = one, .group = &self.mesh.tp()});
  return settle(self);
}

// G3f: an idle rank returns early, and is at the next step's first word when the others are in this one.
Status idle_skips(WrongRank& self) {
  for (bool others = true; others;)
    others = LS_TRY(self.replica.agree_on_shape({.rows = 0, .has_work = false, .decode = true})).has_work;
  return {};
}

// G4f: every rank scores the drafts itself, and scores differ in the third decimal around the threshold.
Status own_budget(WrongRank& self) {
  constexpr float kThreshold = 0.4165F;
  constexpr std::array<float, 2> kScores = {0.417F, 0.416F};  // of the last draft, on each rank
  LS_TRY(self.receive());
  const int32_t dropped = kScores[static_cast<size_t>(self.mesh.tp().rank())] > kThreshold ? 0 : 1;
  LiveRows& rows = self.plan.edit(field::num_rows)[0];
  rows = LiveRows(rows.get() - dropped);
  self.plan.freeze();
  return self.agree();
}

// G11f: tokens are drawn from random numbers of this rank's own.
Status own_random_numbers(WrongRank& self) {
  LS_TRY(self.receive());
  Replica::Said said = self.engine.says_of(self.plan);
  const TokenId drawn(7);
  said.sampled = digest_span(std::span(&drawn, 1));
  return self.replica.agree(self.plan, said);
}

// N4t: the source of a broadcast, given as a global rank, is compared with a rank of the group.
Status own_source(WrongRank& self) {
  std::vector<std::byte> plan(16384);
  const int32_t source = self.mesh.tp().rank();
  return self.mesh.replica().broadcast(plan, source, DType::kU8, {.stage = "plan"});
}

// This rank takes the step for done, and waits for the next plan.
Status missing_step(WrongRank& self) {
  LS_TRY(self.receive_and_agree());
  return self.receive();
}

constexpr auto kDrills = std::to_array<RankDrill>({
    {.name = "nothing wrong", .fault = ""},
    {.name = "own row count", .fault = "G1f", .rank = kIdleLeader, .act = own_row_count},
    {.name = "own phase", .fault = "G6f", .rank = kFollower, .act = own_phase},
    {.name = "own graph", .fault = "G2f", .rank = kFollower, .act = eager_alone},
    {.name = "missing collective", .fault = "FR2", .rank = kFollower, .act = missing_collective},
    {.name = "other order", .fault = "", .rank = kFollower, .act = other_order},
    {.name = "other dtype", .fault = "", .rank = kFollower, .act = other_dtype},
    {.name = "other size", .fault = "G5f", .rank = kFollower, .act = other_size},
    {.name = "idle rank skips", .fault = "G3f", .rank = kIdleLeader, .act = idle_skips},
    {.name = "own float decision", .fault = "G4f", .rank = kFollower, .act = own_budget},
    {.name = "one output", .fault = "FR2", .rank = kFollower, .act = one_output},
    {.name = "own random numbers", .fault = "G11f", .rank = kFollower, .act = own_random_numbers},
    {.name = "own configuration", .fault = "F5", .rank = kFollower, .kv_layout = "interleaved/token"},
    {.name = "own source", .fault = "N4t", .rank = kIdleFollower, .act = own_source},
    {.name = "missing step", .fault = "", .rank = kFollower, .act = missing_step, .crosses_groups = true},
});

EngineConfig config_of(const RankStage& stage) {
  EngineConfig config;
  config.model.path = stage.model;
  config.model.dtype = ComputeDType::kFloat32;
  config.parallel = stage.mesh.shape();
  config.threads = 1;
  config.max_model_len = 128;
  config.max_num_seqs = 4;
  config.max_num_batched_tokens = 32;
  config.chunk_size = 16;
  config.page_size = 16;
  config.graph_sizes = {4};
  config.device = stage.device;
  config.mesh = &stage.mesh;
  config.pulse = stage.pulse;
  return config;
}

Status go_wrong(const RankStage& stage, Engine& engine) {
  stage.goes_wrong();
  WrongRank self{.engine = engine, .mesh = stage.mesh, .plan = {}, .ids = {}};
  return stage.drill.act(self);
}

// The engine's steps, until there are no more or it is time to go wrong.
Status lead(const RankStage& stage, Engine& engine, bool wrong) {
  if (stage.mesh.place().dp == 0) {
    for (const int32_t first : {5, 17, 29}) {
      LS_TRY(engine.add({.prompt_ids = {first, first + 1, first + 2},
                         .max_tokens = 24,
                         .temperature = 0,
                         .ignore_eos = true}));
    }
  }
  int64_t step = 0;
  do {
    if (wrong && step++ == kRightSteps) return go_wrong(stage, engine);
    for (const RequestOutput& output : engine.step()) LS_TRY(Status(output.failure));
  } while (engine.any_work());
  return stage.mesh.status();
}

Status follow(const RankStage& stage, Engine& engine, bool wrong) {
  for (int64_t step = 0; !wrong || step < kRightSteps; ++step) {
    if (!LS_TRY(engine.follow())) return {};
  }
  return go_wrong(stage, engine);
}

EngineConfig own_config_of(const RankStage& stage) {
  EngineConfig config = config_of(stage);
  if (stage.drill.rank != stage.mesh.rank() || stage.drill.kv_layout.empty()) return config;
  stage.goes_wrong();
  config.kv_layout = stage.drill.kv_layout;
  return config;
}

}  // namespace

std::span<const RankDrill> rank_drills() { return kDrills; }

Status play_rank(const RankStage& stage) {
  const Result<std::unique_ptr<Engine>> engine = Engine::create(own_config_of(stage));
  const bool wrong = stage.drill.rank == stage.mesh.rank() && stage.drill.act != nullptr;
  const Status status = !engine.ok()         ? engine.status()
                        : (*engine)->leads() ? lead(stage, **engine, wrong)
                                             : follow(stage, **engine, wrong);
  if (!status.ok()) stage.mesh.fail(status);  // before the engine says good-bye
  return status;
}

}  // namespace lockstep::testing
