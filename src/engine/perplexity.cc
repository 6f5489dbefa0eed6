#include "engine/perplexity.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace lockstep {
namespace {

Status check(const Engine& engine, std::span<const int32_t> text, const PerplexityOptions& options) {
  if (text.size() < 2) {
    return error(Code::kInvalidArgument, "perplexity: the text has ", text.size(),
                 " tokens; expected at least 2, one of which foretells the other");
  }
  if (options.window < 2 || options.window > engine.config().max_model_len) {
    return error(Code::kInvalidArgument, "perplexity: --window is ", options.window, "; expected 2..",
                 engine.config().max_model_len, ", the tokens of a sequence (--max-model-len)");
  }
  if (options.stride >= 1 && options.stride < options.window) return {};
  return error(Code::kInvalidArgument, "perplexity: --stride is ", options.stride, "; expected 1..",
               options.window - 1, ", less than --window = ", options.window);
}

// Log probabilities of this replica's windows, summed by window.
Status score(Engine& engine, std::map<uint64_t, size_t>& by_id, std::vector<double>& sums,
             Progress& progress) {
  do {
    for (const RequestOutput& output : engine.step()) {
      if (output.finish == FinishReason::kError)
        return output.failure.ok() ? error(Code::kInternal, output.error)
                                   : output.failure.with_message(output.error);
      double& sum = sums[by_id.at(output.id)];
      for (const TokenLogprobs& each : output.logprobs) sum += static_cast<double>(each.logprob);
      progress.advance(static_cast<int64_t>(output.tokens.size()));
    }
  } while (engine.any_work());
  return {};
}

// Each rank has summed up its own windows; of the others it has zeros.
Status add_up_ranks(Communicator& replicas, std::vector<double>& sums) {
  if (replicas.size() == 1) return {};
  std::vector<double> all(sums.size() * static_cast<size_t>(replicas.size()));
  LS_TRY(replicas.all_gather(std::as_bytes(std::span(sums)), std::as_writable_bytes(std::span(all)),
                             DType::kF64, {.stage = "perplexity"}));
  for (size_t i = 0; i < sums.size(); ++i)
    sums[i] = all[i % static_cast<size_t>(replicas.size()) * sums.size() + i];
  return {};
}

}  // namespace

float logprob_of(std::span<const float> logits, int32_t token) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - largest));
  const double own = static_cast<double>(logits[static_cast<size_t>(token)] - largest);
  return static_cast<float>(own - std::log(sum));
}

std::vector<TextWindow> text_windows(int64_t tokens, int64_t window, int64_t stride) {
  std::vector<TextWindow> windows;
  int64_t scored = 1;  // nothing stands before the first token
  for (int64_t begin = 0; scored < tokens; begin += stride) {
    const int64_t end = std::min(begin + window, tokens);
    windows.push_back({.begin = begin, .scored_from = scored, .end = end});
    scored = end;
  }
  return windows;
}

Result<Perplexity> perplexity(Engine& engine, Communicator& replicas, std::span<const int32_t> text,
                              const PerplexityOptions& options) {
  LS_TRY(check(engine, text, options));
  const std::vector<TextWindow> windows =
      text_windows(static_cast<int64_t>(text.size()), options.window, options.stride);
  Perplexity found{.tokens = static_cast<int64_t>(text.size()),
                   .scored = static_cast<int64_t>(text.size()) - 1,
                   .windows = static_cast<int64_t>(windows.size())};
  Progress progress("reading the text", found.scored / replicas.size(), ProgressUnit::kItems,
                    options.progress);
  std::map<uint64_t, size_t> by_id;
  for (auto i = static_cast<size_t>(replicas.rank()); i < windows.size();
       i += static_cast<size_t>(replicas.size())) {
    const TextWindow& w = windows[i];
    Request request;
    request.prompt_ids.assign(text.begin() + w.begin, text.begin() + w.scored_from);
    request.forced.assign(text.begin() + w.scored_from, text.begin() + w.end);
    request.temperature = 0;
    by_id[LS_TRY(engine.add(request))] = i;
  }
  std::vector<double> sums(windows.size());
  LS_TRY(score(engine, by_id, sums, progress));
  LS_TRY(add_up_ranks(replicas, sums));
  for (const double sum : sums) found.nats -= sum;
  return found;
}

}  // namespace lockstep
