#include "faults/consumers.h"

#include <algorithm>
#include <cstring>

#include "base/fault.h"
#include "contract/difference.h"
#include "faults/late_queue.h"
#include "kernels/table.h"
#include "plan/step_plan.h"

namespace lockstep::faults {
namespace {

constexpr int64_t kArenaBytes = int64_t{2} << 20;
constexpr int64_t kStagingBytes = int64_t{1} << 17;

StepLimits workbench_limits() {
  StepLimits limits{.max_rows = 1024,
                    .max_seqs = kSeqs,
                    .max_logits_rows = 0,
                    .max_seq_len = kTokens,
                    .max_edits = 128,
                    .max_copies = 0,
                    .vocab_size = 1,
                    .num_groups = 1};
  limits.groups[0] = {.kind = GroupKind::kPaged,
                      .page_tokens = kPage,
                      .kernel_page_tokens = kPage,
                      .num_pages = 100,
                      .table_rows = kTables,
                      .max_pages_per_seq = kTokens / kPage};
  return limits;
}

// Distinct in every row, so that a neighbour's row is seen.
int32_t value_at(int64_t row, int64_t token) { return static_cast<int32_t>(10000 * row + token + 1); }

}  // namespace

void sum_values(const SumArgs& args, Worker worker) {
  const Worker::Range share = worker.share(args.out.elements());
  for (int64_t s = share.begin; s < share.end; ++s) {
    int64_t sum = 0;
    if (s < args.num_seqs->get()) {
      const int64_t seen = std::min({int64_t{args.lens.as<int32_t>()[s]}, args.longest, args.values.dim(1)});
      const int32_t* row = args.values.as<int32_t>() + args.rows.as<int32_t>()[s] * args.values.stride(0);
      for (int64_t t = 0; t < seen; ++t) sum += row[t];
    }
    args.out.as<int64_t>()[s] = sum;
  }
}

Workbench::Workbench(const Where& where, const WorkbenchOptions& options, const StepLimits& limits,
                     Parts parts)
    : limits_(limits),
      arena_(std::move(parts.arena)),
      host_(std::move(parts.host)),
      table_(kernel_table(where.device != nullptr ? Isa::kSm90 : Isa::kReference)),
      stream_(where.device, std::move(parts.queue), 1, options.pace),
      staging_(4, kStagingBytes, where.device.get()),
      planner_(limits) {
  map_.add(arena_);
}

Result<std::unique_ptr<Workbench>> Workbench::create(const Where& where, const WorkbenchOptions& options) {
  const StepLimits limits = workbench_limits();
  Arena arena = LS_TRY(Arena::create("bench", kArenaBytes, where.device));
  std::unique_ptr<DeviceQueue> queue;
  if (where.device != nullptr) {
    queue =
        LS_TRY(options.pace == Pace::kLate ? LateQueue::create(where.device) : where.device->make_queue());
  }
  auto host = LS_TRY(conformance::HostKernels::create(where.device, kArenaBytes));
  std::unique_ptr<Workbench> bench(
      new Workbench(where, options, limits, {std::move(arena), std::move(queue), std::move(host)}));
  bench->runner_ = LS_TRY(StepRunner::create({.limits = limits, .derived = options.derived}, bench->stream_,
                                             bench->map_, bench->arena_));
  bench->values_ = LS_TRY(bench->arena_.allocate("values", DType::kI32, {kTables, kTokens}));
  bench->sums_ = LS_TRY(bench->arena_.allocate("sums", DType::kI64, {kSeqs}));
  std::vector<int32_t> values;
  for (int64_t i = 0; i < kTables * kTokens; ++i) values.push_back(value_at(i / kTokens, i % kTokens));
  LS_TRY(bench->put(bench->values_, values.data()));
  return bench;
}

// A device's memory is given back once nothing stands in its queue: not at all while a gate is closed there.
Workbench::~Workbench() {
  if (device() != nullptr) stream_.synchronize();
}

Result<int32_t> Workbench::begin(int32_t tokens) {
  const int32_t sequence = planner_.begin();
  for (int32_t left = tokens; left > 0;) {
    const int32_t rows = std::min(left, limits_.max_rows);
    StepPlan plan;
    const Share share{sequence, rows};
    LS_TRY(planner_.plan({&share, 1}, {.rows = PaddedRows(rows), .seqs = PaddedSeqs(1)}, plan));
    left -= rows;
  }
  return sequence;
}

Result<StepPlan> Workbench::decode(std::span<const int32_t> sequences) {
  std::vector<Share> shares;
  for (const int32_t sequence : sequences) shares.push_back({sequence, 1});
  StepPlan plan;
  LS_TRY(planner_.plan(shares, {.rows = PaddedRows(kSeqs), .seqs = PaddedSeqs(kSeqs)}, plan));
  return plan;
}

Result<StepPlan> Workbench::step(std::initializer_list<Share> shares, int32_t padded_rows) {
  StepPlan plan;
  LS_TRY(planner_.plan({shares.begin(), shares.size()},
                       {.rows = PaddedRows(padded_rows), .seqs = PaddedSeqs(kSeqs)}, plan));
  return plan;
}

Status Workbench::capture(const StepPlan& plan, const StepProgram& program) {
  LS_TRY(runner_->capture(plan, program, launcher()));
  return spoil(LS_TRY(arena_.allocate("decoy", DType::kI32, {256})));
}

Status Workbench::run(const StepPlan& plan, const StepProgram& program) {
  LS_TRY(run_only(plan, program));
  return check_sums(plan);
}

Status Workbench::run_only(const StepPlan& plan, const StepProgram& program) {
  forget_sums();
  LS_TRY(runner_->run(plan, program, launcher()));
  return runner_->finish(plan);
}

void Workbench::forget_sums() {
  std::array<int64_t, kSeqs> unwritten;
  unwritten.fill(kUnwritten);
  const Status put_there = put(sums_, unwritten.data());
  LS_CHECK(put_there.ok(), put_there.message());
}

Status Workbench::check(std::span<const int64_t> want) {
  for (size_t s = 0; s < want.size(); ++s) {
    const auto got = look<int64_t>(sums_, static_cast<int64_t>(s));
    if (got != want[s])
      return error(Code::kInternal, "sum of sequence ", s, " is ", got, "; expected ", want[s]);
  }
  return {};
}

Status Workbench::check_sums(const StepPlan& plan) {
  std::array<int64_t, kSeqs> want{};
  for (size_t s = 0; s < static_cast<size_t>(plan.scalar(field::num_seqs).get()); ++s) {
    const int64_t row = plan.get(field::table_rows, kPages)[s].get();
    for (int64_t t = 0; t < plan.get(field::seq_lens)[s].get(); ++t) want[s] += value_at(row, t);
  }
  return check(want);
}

TensorView Workbench::numbers(std::string_view what, std::initializer_list<int32_t> values) {
  Result<TensorView> view = arena_.allocate(what, DType::kI32, {static_cast<int64_t>(values.size())});
  LS_CHECK(view.ok(), view.status().message());
  const Status put_there = put(*view, std::data(values));
  LS_CHECK(put_there.ok(), put_there.message());
  return *view;
}

// A copy to a device is from pinned memory: others wait for the gates of a late queue.
Status Workbench::put(const TensorView& target, const void* bytes) {
  if (device() == nullptr) {
    std::memcpy(target.data, bytes, static_cast<size_t>(target.bytes()));
    return {};
  }
  LS_TRY(upload(target, bytes));
  stream_.synchronize();
  return {};
}

Status Workbench::copy(const TensorView& source, const TensorView& target) {
  std::vector<std::byte> bytes;
  const TensorView here = HostView(stream_).look(source, bytes);
  return put(target, here.data);
}

Status Workbench::upload(const TensorView& target, const void* bytes) {
  StagingLease lease = LS_TRY(staging_.lease(stream_, target.bytes()));
  std::memcpy(lease.bytes().data(), bytes, lease.bytes().size());
  return stream_.copy(target, std::move(lease));
}

Status Workbench::poke(const TensorView& target, const void* bytes) {
  if (device() != nullptr) return device()->upload(target.data, bytes, target.bytes());
  std::memcpy(target.data, bytes, static_cast<size_t>(target.bytes()));
  return {};
}

Status Workbench::spoil(const TensorView& target) {
  const std::vector<int32_t> garbage(static_cast<size_t>(target.elements()), 700000000);
  return put(target, garbage.data());
}

Status Workbench::put_field(const TensorView& target, const StepPlan& plan, FieldId id) {
  return put(target, plan.image().data() + plan.layout().place(id, kPages).offset);
}

Status Sums::bind(const Binder& binder, SumArgs& args) const {
  args.values = bench_.values();
  args.lens = LS_TRY(binder.address(spec_, FieldId::seq_lens));
  args.rows = LS_TRY(binder.address(spec_, FieldId::table_rows, kPages));
  args.out = bench_.sums();
  args.num_seqs = LS_TRY(binder.scalar_address(spec_, field::num_seqs));
  args.longest = kTokens;
  return {};
}

Status Sums::run(const SumArgs& args, const Launcher& on) const {
  bench_.launch(on, {.spec = &kSum, .stage = "sum"}, sum_values, args);
  return {};
}

HandMade::HandMade(Workbench& bench, DeviceImage image, StepReport report)
    : bench_(bench), image_(image), report_(std::move(report)), staging_(4, kStagingBytes, bench.device()) {}

HandMade::~HandMade() {
  if (bench_.device() != nullptr) bench_.stream().synchronize();
}

Result<std::unique_ptr<HandMade>> HandMade::create(Workbench& bench) {
  DeviceImage image = LS_TRY(DeviceImage::create(bench.limits(), bench.arena()));
  StepReport report = LS_TRY(StepReport::create(bench.limits(), bench.arena(), {.device = bench.device()}));
  return std::unique_ptr<HandMade>(new HandMade(bench, image, std::move(report)));
}

Status HandMade::prepare(const StepPlan& plan, const StepProgram& program, const DeviceImage& image) {
  bindings_.begin();
  prepared_.clear();
  const Binder binder(plan, image, &bindings_);
  return program.prepare(binder, prepared_);
}

Status HandMade::record(const StepProgram& program, Graph& graph) {
  LS_TRY(bench_.stream().begin_capture(graph));
  const Status status = program.enqueue(prepared_, bench_.launcher());
  bench_.stream().end_capture();
  return status;
}

Status HandMade::capture(const StepPlan& plan, const StepProgram& program) {
  LS_TRY(prepare(plan, program, image_));
  LS_TRY(record(program, graph_));
  captured_ = CapturedStep(plan, prepared_, bindings_.all());
  LS_TRY(graph_.lease(bench_.map()));
  return bench_.stream().instantiate(graph_);
}

Status HandMade::hold_to_capture(const StepPlan& plan, const StepProgram& program) {
  LS_TRY(graph_.check_leases());
  const Status same = captured_.check(plan, prepared_, bindings_.all());
  if (same.ok()) return same;
  Graph again;
  LS_TRY(record(program, again));
  LS_TRY(launch_difference({.captured = graph_,
                            .again = again,
                            .map = bench_.map(),
                            .moment = Moment::kReplay,
                            .step = plan.scalar(field::epoch).get(),
                            .consumer = same.fault() != nullptr ? same.fault()->consumer : ""}));
  return same;
}

Status HandMade::replay(const StepPlan& plan) {
  LS_TRY(report_.head(plan, image_, staging_, bench_.launcher()));
  LS_TRY(bench_.stream().replay(graph_));
  LS_TRY(report_.tail(plan, false, bench_.launcher()));
  return report_.download(plan, bench_.stream());
}

Status HandMade::check(const StepPlan& plan) { return report_.check(plan, image_); }

}  // namespace lockstep::faults
