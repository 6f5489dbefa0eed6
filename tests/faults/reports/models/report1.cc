// Field report 1 on the shape that it was met on: MiniMax-M2's 48 query and 8 key heads of 128, of which 64
// dimensions rotate, behind a norm over all heads; pages of 128 tokens, a prompt of 95. Right: a whole engine
// draws the same from graphs as without, bit for bit, until far more than 8 times the pages at capture.
// xLLM-AI/xllm#1466.
#include "faults/reports/models/entries.h"
#include "faults/reports/models/runs.h"
#include "faults/reports/vendor.h"

namespace lockstep::faults {
namespace {

constexpr std::string_view kModel = "tiny-minimax-m2";
constexpr int32_t kPrompt = 95;

Status wrong(const Where& where) {
  return decode_by_vendor(where, {.honest = false, .mode = conformance::Mode::kGraph, .length = 900},
                          {.page_tokens = 128,
                           .heads = 48,
                           .kv_heads = 8,
                           .head_dim = 128,
                           .layers = 1,
                           .num_pages = 16,
                           .max_rows = 96,
                           .max_seq_len = 1536,
                           .threads = 1});
}

Status decode(const Where& where, int32_t steps) {
  EngineConfig graphs = model_config(kModel, 1536);
  graphs.device = where.name;
  EngineConfig eager = graphs;
  graphs.page_size = eager.page_size = 128;
  graphs.threads = eager.threads = 2;
  graphs.chunk_size = eager.chunk_size = kPrompt;
  graphs.graph_sizes = {1};
  eager.enforce_eager = true;
  const Request request = model_request(1466, kPrompt, steps, 1024);
  const ModelOutcome replayed = LS_TRY(run_model(graphs, {}, {&request, 1}));
  const ModelOutcome computed = LS_TRY(run_model(eager, {}, {&request, 1}));
  LS_TRY(expect_same(computed, replayed, true));
  if (replayed.replays >= steps - 1) return {};
  return error(Code::kInternal, replayed.replays, " of ", steps,
               " steps replayed a graph; expected all but the first");
}

Status twin(const Where& where) { return decode(where, 100); }

}  // namespace

Status report1_in_full(const Where& where) { return decode(where, 1400); }

const Entry kReport1Model = {
    .id = "report/1/minimax_m2",
    .fault_class = 'r',
    .title = "the same on MiniMax-M2's shape: 48 and 8 heads, pages of 128, 1,400 steps",
    .thread = "xLLM-AI/xllm#1466",
    .expect = {.moment = Moment::kReplay,
               .check = "R2",
               .field = "seq_lens",
               .consumer = "vendor_attention",
               .row = 0,
               .expected = "95",
               .found = "96"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
