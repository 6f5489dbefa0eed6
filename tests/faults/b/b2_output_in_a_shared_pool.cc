// The selection's output was created on each forward, in a pool that other parts share. Scratch buffers had
// been made persistent for that reason before; the output was forgotten. With large temporaries of others the
// pool's layout shifted. NVIDIA/TensorRT-LLM#16290, #14297.
#include "faults/consumers.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

constexpr ConsumerSpec kSpec = sums_named("sparse_indexer");

class Indexer final : public Sums {
 public:
  Indexer(Workbench& bench, const TensorView& persistent) : Sums(bench, kSpec), output_(persistent) {}

 protected:
  Status bind(const Binder& binder, SumArgs& args) const override {
    LS_TRY(Sums::bind(binder, args));
    args.out = output_ ? output_ : LS_TRY(bench_.arena().allocate("top-k output", DType::kI64, {kSeqs}));
    return {};
  }

 private:
  TensorView output_;
};

// A forward takes what it needs from the pool and gives all of it back; another part takes some before it.
Status forward(Workbench& bench, const StepPlan& plan, const Indexer& indexer, int64_t temporaries,
               bool capture) {
  const int64_t mark = bench.arena().mark();
  LS_TRY(bench.arena().allocate("temporaries of others", DType::kU8, {temporaries}));
  if (capture) LS_TRY(bench.capture(plan, indexer));
  const Status status = bench.run_only(plan, indexer);
  LS_TRY(bench.arena().reset_to(mark));
  return status;
}

Status serve(const Where& where, bool persistent) {
  const auto bench = LS_TRY(Workbench::create(where));
  const Indexer indexer(*bench, persistent ? bench->sums() : TensorView());
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(30));
  StepPlan plan = LS_TRY(bench->decode({first}));
  LS_TRY(forward(*bench, plan, indexer, 64, true));
  plan = LS_TRY(bench->decode({first, second}));
  LS_TRY(forward(*bench, plan, indexer, 4096, false));
  return persistent ? bench->check_sums(plan) : Status();
}

Status wrong(const Where& where) { return serve(where, false); }
Status twin(const Where& where) { return serve(where, true); }

}  // namespace

const Entry kB2 = {
    .id = "B2",
    .fault_class = 'b',
    .title = "an output of the graph lies in a pool that every forward gives back",
    .thread = "NVIDIA/TensorRT-LLM#16290",
    .expect = {.moment = Moment::kCapture,
               .check = "R1",
               .field = "top-k output",
               .expected = "while graphs hold its address"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
