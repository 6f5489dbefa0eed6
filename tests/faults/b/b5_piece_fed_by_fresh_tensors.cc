// Of a graph in pieces, an op between two pieces gives back freshly allocated outputs; the next piece reads
// the address of its capture. The check of addresses ran at debug log level only. vllm-project/vllm#53915,
// #37363.
#include <algorithm>

#include "faults/consumers.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

constexpr ConsumerSpec kSpec = sums_named("second_piece");

// Reads what the op before it has written.
class SecondPiece final : public Sums {
 public:
  explicit SecondPiece(Workbench& bench) : Sums(bench, kSpec) {}
  TensorView input;

 protected:
  Status bind(const Binder& binder, SumArgs& args) const override {
    LS_TRY(Sums::bind(binder, args));
    args.values = input;
    return {};
  }
};

// The op between the pieces: its output is a copy of the values.
Status split_out_op(Workbench& bench, bool fresh, TensorView& output) {
  if (fresh || !output)
    output = LS_TRY(bench.arena().allocate("attention_out", DType::kI32, {kTables, kTokens}));
  return bench.copy(bench.values(), output);
}

Status serve(const Where& where, bool fresh) {
  const auto bench = LS_TRY(Workbench::create(where));
  SecondPiece piece(*bench);
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(30));
  LS_TRY(split_out_op(*bench, fresh, piece.input));
  StepPlan plan = LS_TRY(bench->decode({first}));
  LS_TRY(bench->capture(plan, piece));
  LS_TRY(bench->run(plan, piece));
  plan = LS_TRY(bench->decode({first, second}));
  LS_TRY(split_out_op(*bench, fresh, piece.input));
  return bench->run(plan, piece);
}

Status wrong(const Where& where) { return serve(where, true); }
Status twin(const Where& where) { return serve(where, false); }

}  // namespace

const Entry kB5 = {
    .id = "B5",
    .fault_class = 'b',
    .title = "a piece of a graph is fed by an op that gives back fresh tensors",
    .thread = "vllm-project/vllm#53915",
    .expect = {.moment = Moment::kReplay,
               .check = "R1",
               .field = "values",
               .consumer = "second_piece",
               .expected = "bench/attention_out",
               .found = "bench/attention_out"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
