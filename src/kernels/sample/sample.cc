#include "kernels/sample/sample.h"

#include "kernels/common/checks.h"
#include "kernels/sample/sample_kernels.h"
#include "kernels/sample/sample_math.h"
#include "kernels/table.h"

namespace lockstep {
namespace {

Status check_types(const SampleArgs& args) {
  return check_tensors("sample", {{"logits", args.logits},
                                  {"temperature", args.temperature},
                                  {"top_k", args.top_k, DType::kI32},
                                  {"top_p", args.top_p},
                                  {"min_p", args.min_p},
                                  {"repetition_penalty", args.repetition_penalty},
                                  {"presence_penalty", args.presence_penalty},
                                  {"frequency_penalty", args.frequency_penalty},
                                  {"seed", args.seed, DType::kU64},
                                  {"position", args.position, DType::kI32},
                                  {"penalty_slot", args.penalty_slot, DType::kI32},
                                  {"logprobs", args.logprobs, DType::kI32},
                                  {"counts", args.counts, DType::kI32},
                                  {"tokens", args.tokens, DType::kI32},
                                  {"token_logprob", args.token_logprob},
                                  {"top_tokens", args.top_tokens, DType::kI32},
                                  {"top_logprobs", args.top_logprobs},
                                  {"non_finite", args.non_finite, DType::kI32}});
}

Status check_shapes(const SampleArgs& args) {
  return bind_dims("sample", {{"logits", args.logits, "RV"},
                              {"temperature", args.temperature, "R"},
                              {"top_k", args.top_k, "R"},
                              {"top_p", args.top_p, "R"},
                              {"min_p", args.min_p, "R"},
                              {"repetition_penalty", args.repetition_penalty, "R"},
                              {"presence_penalty", args.presence_penalty, "R"},
                              {"frequency_penalty", args.frequency_penalty, "R"},
                              {"seed", args.seed, "R"},
                              {"position", args.position, "R"},
                              {"penalty_slot", args.penalty_slot, "R"},
                              {"logprobs", args.logprobs, "R"},
                              {"counts", args.counts, "NV"},
                              {"tokens", args.tokens, "R"},
                              {"token_logprob", args.token_logprob, "R"},
                              {"top_tokens", args.top_tokens, "RM"},
                              {"top_logprobs", args.top_logprobs, "RM"},
                              {"non_finite", args.non_finite, "R"}});
}

Status check_vocab(const SampleArgs& args) {
  const int64_t columns = args.logits.dim(1);
  if (args.vocab_size < 1 || args.vocab_size > columns) {
    return error(Code::kInvalidArgument, "sample: vocab_size is ", args.vocab_size, "; expected 1 to ",
                 columns, " as in logits ", args.logits.shape);
  }
  if (args.vocab_size > sampling::kMaxVocab) {
    return error(Code::kInvalidArgument, "sample: vocab_size is ", args.vocab_size, "; expected at most ",
                 sampling::kMaxVocab, ", the most that sums of probabilities have room for");
  }
  return {};
}

}  // namespace

int64_t sample_workspace_bytes(int threads, int64_t vocab) { return threads * sample_scratch(vocab).bytes; }

Status count_tokens(const Launcher& on, const CountTokensArgs& args, std::string_view stage) {
  LS_TRY(check_tensors("count_tokens", {{"token_ids", args.token_ids, DType::kI32},
                                        {"positions", args.positions, DType::kI32},
                                        {"query_start_loc", args.query_start_loc, DType::kI32},
                                        {"penalty_slots", args.penalty_slots, DType::kI32},
                                        {"prompt_lens", args.prompt_lens, DType::kI32},
                                        {"counts", args.counts, DType::kI32}}));
  LS_TRY(bind_dims("count_tokens", {{"token_ids", args.token_ids, "T"},
                                    {"positions", args.positions, "T"},
                                    {"query_start_loc", args.query_start_loc, "Q"},
                                    {"penalty_slots", args.penalty_slots, "S"},
                                    {"prompt_lens", args.prompt_lens, "S"},
                                    {"counts", args.counts, "NV"}}));
  const int64_t sequences = args.penalty_slots.dim(0);
  if (args.query_start_loc.dim(0) != sequences + 1) {
    return error(Code::kInvalidArgument, "count_tokens: query_start_loc has shape ",
                 args.query_start_loc.shape, "; expected [", sequences + 1, "], one more than penalty_slots ",
                 args.penalty_slots.shape);
  }
  LS_TRY(check_count("count_tokens", "num_seqs", args.num_seqs));
  if (sequences == 0) return {};
  if (on.table.count_tokens == nullptr) return missing_kernel("count_tokens", on.table);
  launch(on.stream, kCountTokensSpec, stage, on.table.count_tokens, args);
  return {};
}

Status sample(const Launcher& on, const SampleArgs& args, std::string_view stage) {
  LS_TRY(check_types(args));
  LS_TRY(check_shapes(args));
  LS_TRY(check_count("sample", "num_logits_rows", args.num_logits_rows));
  if (args.logits.dim(0) == 0) return {};
  LS_TRY(check_vocab(args));
  LS_TRY(check_workspace("sample", args.workspace,
                         sample_workspace_bytes(on.stream.threads(), args.logits.dim(1))));
  if (on.table.sample == nullptr) return missing_kernel("sample", on.table);
  launch(on.stream, kSampleSpec, stage, on.table.sample, args);
  return {};
}

}  // namespace lockstep
