// Field report 2: data-parallel ranks that disagree, rows that nobody owns, and a week of prints. One rank
// had 26 rows, the other 30. Its count was raised to 30 and its offsets were not; before that, each rank went
// into the expert exchange with a count of its own and the group hung; and rows padded behind the back of the
// metadata went into the kernels. hongbolv/vllm#21.
#include <thread>

#include "comm/thread_fabric.h"
#include "contract/agreement.h"
#include "faults/kernels.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kWidest = 30;
constexpr std::initializer_list<Share> kShort = {{0, 5}, {1, 5}, {2, 8}, {3, 8}};  // 26 rows
constexpr std::initializer_list<Share> kLong = {{0, 7}, {1, 5}, {2, 11}, {3, 7}};  // 30 rows

// The padder sets the count and fills the tails; sequences and offsets stay as they are.
Status pad_the_count() {
  Plans plans;
  StepPlan plan = with_tails(plans.next(kShort), plans.limits(), bucket(kWidest, 4, 4));
  plan.edit(field::num_rows)[0] = LiveRows(kWidest);
  return plans.run(plan);
}

Status exchange(Communicator& group, const RankFacts& own) {
  std::vector<RankFacts> facts(static_cast<size_t>(group.size()));
  LS_TRY(group.all_gather(std::as_bytes(std::span(&own, 1)), std::as_writable_bytes(std::span(facts)),
                          DType::kU8));
  return agree(facts, RankGroup::kData);
}

// Two ranks, each in a thread of its own, say what they are about to do and hear what the other says.
Status meet(bool pad) {
  const auto group = make_thread_group("dp", 2, std::chrono::seconds(10));
  std::vector<Status> said(2);
  {
    std::vector<std::jthread> threads;
    for (int32_t rank = 0; rank < 2; ++rank) {
      threads.emplace_back([&, rank] {
        Plans plans;
        StepPlan plan =
            plans.next(rank == 0 ? kShort : kLong, {.bucket = bucket(pad || rank == 1 ? kWidest : 26, 5, 4)});
        Status& status = said[static_cast<size_t>(rank)] = plans.run(plan);
        if (!status.ok()) return;
        status = exchange(*group[static_cast<size_t>(rank)], facts_of(plan, rank));
      });
    }
  }
  // Both come to the same words, whoever is right.
  if (said[0].message() != said[1].message())
    return error(Code::kInternal, "rank 0: ", said[0].message(), "; rank 1: ", said[1].message());
  return said[0];
}

struct MixArgs {
  TensorView x;    // [T, E] f32
  TensorView out;  // [T, E] f32
  const LiveRows* num_rows = nullptr;
};
constexpr OpArg kMixArgs[] = {{LS_ARG(MixArgs, x), .dims = "TE", .rows = RowsTouched::kLive},
                              {LS_ARG(MixArgs, out), .access = Access::kWrite, .dims = "TE"},
                              {LS_ARG(MixArgs, num_rows), .rows = RowsTouched::kNone}};
constexpr OpSpec kMix{.name = "mix", .args = kMixArgs, .args_bytes = sizeof(MixArgs)};
constexpr const OpSpec* kMixOps[] = {&kMix};
constexpr FieldUse kMixUses[] = {{.field = FieldId::num_rows, .argument = "mix.num_rows"}};
constexpr ConsumerSpec kMixer{.name = "mixer", .ops = kMixOps, .fields = kMixUses};

// Rows for the kernels of a step whose plan was built for `planned`.
Status launch_rows(const Where& where, int32_t planned) {
  KernelRig rig(where);
  rig.step(kShort, bucket(planned, 5, 4));
  const Kernel<MixArgs> mix = [](const MixArgs&, Worker) {};
  return rig.record(kMixer, mix,
                    MixArgs{.x = rig.numbers("x", {kWidest, 4}),
                            .out = rig.memory("out", DType::kF32, {kWidest, 4}),
                            .num_rows = rig.scalar(field::num_rows)});
}

Status wrong(const Where& where) {
  const Status apart = meet(false);
  LS_TRY(must_say({.moment = Moment::kGroup, .check = "G1", .field = "dp_row_counts"}, apart));
  if (apart.message().find("num_rows_padded") == std::string::npos)
    return error(Code::kInternal, "no table of who said what: ", apart.message());
  LS_TRY(must_say({.moment = Moment::kCapture,
                   .check = "L1",
                   .field = "x",
                   .consumer = "mix (stage, layer -1)",
                   .expected = "26 rows, as the bucket has",
                   .found = "30 rows"},
                  launch_rows(where, 26)));
  return pad_the_count();
}

// Missing rows are a sequence of their own, made before any field; all ranks have 30 rows then.
Status twin(const Where& where) {
  LS_TRY(meet(true));
  return launch_rows(where, kWidest);
}

}  // namespace

const Entry kReport2 = {
    .id = "report/2",
    .fault_class = 'r',
    .title = "ranks that disagree about rows, and rows that nobody owns",
    .thread = "hongbolv/vllm#21",
    .expect = {.moment = Moment::kPlan,
               .check = "P1",
               .field = "query_start_loc",
               .row = 4,
               .expected = "num_rows = 30",
               .found = "26, so rows 26..29 belong to no sequence"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
