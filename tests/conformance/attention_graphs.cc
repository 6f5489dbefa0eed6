#include "conformance/attention_cases.h"
#include "conformance/graph_cases.h"

namespace lockstep::conformance {
namespace {

constexpr AttentionOptions kTiny{.page_tokens = 16,
                                 .heads = 2,
                                 .kv_heads = 1,
                                 .head_dim = 16,
                                 .layers = 2,
                                 .num_pages = 64,
                                 .max_seqs = 4,
                                 .max_rows = 40,
                                 .max_seq_len = 160,
                                 .threads = 1};

// FR1: a prompt shorter than a page, then decode in one graph to 15 times its length.
Status length_frozen_by_capture(const AttentionCandidate& candidate) {
  AttentionOptions options = kTiny;
  options.page_tokens = 128;
  options.max_rows = 96;
  options.max_seq_len = 1536;
  Pair<AttentionRig> pair = LS_TRY(Pair<AttentionRig>::create(candidate, options, options));
  const int32_t one[] = {pair.begin()};
  LS_TRY(pair.prefill(one[0], 95));
  for (int32_t step = 0; step < 1400; ++step)
    LS_TRY(pair.decode(one, 1, {Mode::kGraph, Mode::kEager}, step % 100 == 0 || step > 1390));
  return {};
}

}  // namespace

std::vector<Case> attention_graph_cases(const AttentionCandidate& candidate) {
  std::vector<Case> cases = graph_cases<AttentionRig>(candidate, kTiny);
  cases.push_back({"length_frozen_by_capture", [=] { return length_frozen_by_capture(candidate); }});
  return cases;
}

}  // namespace lockstep::conformance
