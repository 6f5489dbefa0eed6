// The engine's part with other ranks: what they have alike, who plans, who follows.
#include "base/fault.h"
#include "engine/engine.h"

namespace lockstep {
namespace {

// Of what has to be the same on all ranks, whatever machine they are on.
Digest config_digest(const EngineSizes& sizes, const Model& model) {
  const StepLimits& limits = sizes.limits;
  std::string text = concat(model.name, " ", name_of(model.weight_dtype), " ", name_of(model.cache_dtype),
                            " ", name_of(sizes.config.guard), " ", describe(sizes.config.mesh->shape()), " ",
                            limits.max_rows, " ", limits.max_seqs, " ", limits.max_logits_rows, " ",
                            limits.max_seq_len, " ", limits.max_edits, " ", limits.max_copies, " ",
                            limits.vocab_size, " ", limits.penalty_slots, " ", limits.dp_ranks);
  for (int32_t g = 0; g < limits.num_groups; ++g) {
    const CacheGroup& group = limits.group(GroupId(g));
    text += concat(" ", group.page_tokens, " ", group.num_pages, " ", group.table_rows, " ", group.layout);
  }
  for (const int32_t size : sizes.config.graph_sizes) text += concat(" graph ", size);
  return digest_bytes(text.data(), text.size());
}

}  // namespace

Engine::~Engine() {
  if (ahead_.batch != nullptr) executor_->stream().synchronize();
  if (replica_ == nullptr || !replica_->leads() || replica_->alone()) return;
  if (!config_.mesh->status().ok()) return;
  [[maybe_unused]] const Status told = replica_->send_end();  // whoever it does not reach is gone
}

// What each rank chose from what it found on its machine has to be the same for all: the least is.
Status Engine::set_up_ranks(EngineSizes& sizes, int32_t vocab_known) {
  if (sizes.config.mesh == nullptr) return {};
  Mesh& mesh = *sizes.config.mesh;
  const int64_t pages = LS_TRY(least_of_ranks(mesh.world(), sizes.config.num_pages));
  if (pages != sizes.config.num_pages) {
    sizes.config.num_pages = static_cast<int32_t>(pages);
    sizes = LS_TRY(size_engine(sizes.config, model_->local, model_->cache_dtype, vocab_known));
  }
  config_digest_ = config_digest(sizes, *model_);
  replica_ = std::make_unique<Replica>(mesh, sizes.limits, replicas_meet(sizes.config, model_->local));
  return {};
}

// Replicas that meet have as many rows as the one that has most, and decode only if all of them do.
Result<Bucket> Engine::agree_on_bucket(const Batch& batch) {
  if (replica_ == nullptr || !replica_->meets()) return batch.bucket;
  const AgreedShape agreed =
      LS_TRY(replica_->agree_on_shape({.rows = batch.rows, .has_work = has_work(), .decode = batch.decode}));
  others_work_ = agreed.has_work;
  record_with_others();
  return scheduler_->bucket_for(batch, agreed.rows, agreed.decode);
}

Result<bool> Engine::follow() {
  const Result<bool> more = replica_->receive(plans_.front(), step_ids_);
  if (more.ok()) record_with_others();
  if (more.ok() && !*more) return false;
  Status status = more.ok() ? Status() : more.status();
  if (status.ok()) {
    epoch_ = plan().scalar(field::epoch);
    status = run_plan();
  }
  if (status.ok()) return true;
  const FaultRecords::Failure failure = close_ranks(status);
  return failure.status.with_message(failure.status.message() + put_on_record(failure, {}));
}

Replica::Said Engine::says_of(const StepPlan& plan) const {
  Replica::Said said{.config = config_digest_,
                     .sampled = digest_span(std::span<const TokenId>(result_.tokens))};
  if (executor_->runner().replays(plan)) {
    said.graph_key = digest_of(graph_key(plan));
    said.graph_shape = digest_of(graph_key(plan).without_phase());
  }
  return said;
}

}  // namespace lockstep
