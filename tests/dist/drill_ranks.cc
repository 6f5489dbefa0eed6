// A program of ranks that do nothing but steps of launches and collectives, for drills: it can be made to
// stay in a phase, to hang, to disagree, to fail.
//
//   drill_ranks --tp N [--dp N] [--hold PHASE] [--seconds S] [--rank R --does WHAT]
//
// Each rank says "drill: rank R pid P phase PHASE" on stderr when it enters a phase (prefill, decode,
// replay), and runs steps in it; in the one to hold, for S seconds. WHAT rank R does there: "spin" (a launch
// that never ends), "sleep" (nothing, for ever, outside of launches), "compute" (launches without a
// collective for S seconds), "disagree" (another number of rows), "fail" (ends with an error), "fault" (a
// broken rule).
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "base/clock.h"
#include "base/fault.h"
#include "comm/collectives.h"
#include "device/graph.h"
#include "kernels/table.h"
#include "rank_program.h"

namespace lockstep {
namespace {

constexpr int64_t kRows = 4, kWidth = 256;
constexpr int kStepsOfAPhase = 20;

struct Drill {
  MeshShape shape;
  std::string hold = "replay";
  double seconds = 1;
  int32_t rank = -1;
  std::string does;
};

struct BusyArgs {
  float* x = nullptr;
  int64_t count = 0;
  int64_t rounds = 0;  // below 0: without end
};
constexpr OpArg kBusyArgs[] = {{LS_ARG(BusyArgs, x), .access = Access::kReadWrite},
                               {LS_ARG(BusyArgs, count)},
                               {LS_ARG(BusyArgs, rounds)}};
constexpr OpSpec kBusySpec{.name = "busy", .args = kBusyArgs, .args_bytes = sizeof(BusyArgs)};

void busy(const BusyArgs& args, Worker) {
  volatile float* x = args.x;
  for (int64_t round = 0; args.rounds < 0 || round < args.rounds; ++round) {
    for (int64_t i = 0; i < args.count; ++i) x[i] = x[i] * 0.5F + 1.0F;
  }
}

// A rank's steps.
class Steps {
 public:
  Steps(RankSession& session, const Drill& drill)
      : session_(session),
        drill_(drill),
        x_(kRows * kWidth),
        scratch_(
            static_cast<size_t>(all_reduce_scratch_bytes(kRows, kWidth, session.mesh().world().size()) / 4)) {
    stream_.set_pulse(&session_.pulse().work);
  }

  Status run() {
    LS_TRY(phase(RankPhase::kPrefill));
    LS_TRY(phase(RankPhase::kDecode));
    LS_TRY(stream_.begin_capture(graph_));
    LS_TRY(enqueue(kRows));
    stream_.end_capture();
    LS_TRY(phase(RankPhase::kReplay));
    session_.pulse().phase = RankPhase::kIdle;
    if (session_.mesh().rank() == 0) std::printf("%d steps\n", static_cast<int>(epoch_));
    return {};
  }

 private:
  Launcher launcher() { return {kernel_table(Isa::kReference), stream_}; }

  Status enqueue(int64_t rows) {
    launch(stream_, kBusySpec, "drill", busy, BusyArgs{x_.data(), kRows * kWidth, 4}, Parts::kOne);
    const auto room = static_cast<int64_t>(scratch_.size());
    for (Communicator* group : {&session_.mesh().tp(), &session_.mesh().world()}) {
      LS_TRY(all_reduce(launcher(),
                        {.x = dense_view(x_.data(), DType::kF32, {rows, kWidth}),
                         .scratch = view(scratch_, {room}),
                         .group = group},
                        "drill"));
    }
    return {};
  }

  Status step(RankPhase phase, int64_t rows) {
    session_.mesh().ledger().begin_step(++epoch_);
    if (phase == RankPhase::kReplay) {
      LS_TRY(stream_.replay(graph_));
    } else {
      for (int chunk = phase == RankPhase::kPrefill ? 3 : 1; chunk > 0; --chunk) LS_TRY(enqueue(rows));
    }
    stream_.synchronize();
    return session_.mesh().status();
  }

  Status phase(RankPhase phase) {
    session_.pulse().phase = phase;
    const std::string name(name_of(phase));
    testing::say_phase(session_.mesh().rank(), name);
    for (int i = 0; i < kStepsOfAPhase; ++i) LS_TRY(step(phase, kRows));
    if (drill_.hold != name) return {};
    if (drill_.rank == session_.mesh().rank()) LS_TRY(misbehave(phase));
    const int64_t end = now_ns() + static_cast<int64_t>(drill_.seconds * 1e9);
    for (uint8_t more = 1; more != 0;) {
      more = now_ns() < end ? 1 : 0;  // rank 0's word counts, as a leader's plan does
      LS_TRY(session_.mesh().world().broadcast(std::as_writable_bytes(std::span(&more, 1)), 0, DType::kU8));
      LS_TRY(step(phase, kRows));
    }
    return {};
  }

  Status misbehave(RankPhase phase) {
    const BusyArgs args{x_.data(), kRows * kWidth, drill_.does == "spin" ? -1 : 1000};
    if (drill_.does == "spin") launch(stream_, kBusySpec, "drill", busy, args, Parts::kOne);
    while (drill_.does == "sleep") std::this_thread::sleep_for(std::chrono::seconds(1));
    const int64_t end = now_ns() + static_cast<int64_t>(drill_.seconds * 1e9);
    while (drill_.does == "compute" && now_ns() < end)
      launch(stream_, kBusySpec, "drill", busy, args, Parts::kOne);
    if (drill_.does == "disagree") LS_TRY(step(phase, kRows - 1));
    if (drill_.does == "fail") return error(Code::kNotFound, "drill: this rank fails; expected so");
    if (drill_.does == "fault")
      return broken(
          {.check = "R2", .moment = Moment::kReplay, .field = "drill", .expected = "x", .found = "y"});
    return {};
  }

  RankSession& session_;
  const Drill& drill_;
  Stream stream_{1};
  Graph graph_;
  std::vector<float> x_;
  std::vector<float> scratch_;
  uint64_t epoch_ = 0;
};

Drill drill_of(const std::vector<std::string>& words) {
  Drill drill;
  for (size_t i = 0; i + 1 < words.size(); i += 2) {
    const std::string& value = words[i + 1];
    if (words[i] == "--tp") drill.shape.tp = std::atoi(value.c_str());
    if (words[i] == "--dp") drill.shape.dp = std::atoi(value.c_str());
    if (words[i] == "--hold") drill.hold = value;
    if (words[i] == "--seconds") drill.seconds = std::atof(value.c_str());
    if (words[i] == "--rank") drill.rank = std::atoi(value.c_str());
    if (words[i] == "--does") drill.does = value;
  }
  return drill;
}

int run(const std::vector<std::string>& words) {
  const Drill drill = drill_of(words);
  return testing::run_rank_program(words, drill.shape, [&](RankSession& session) {
    session.set_last_words([](const Status&) { std::fprintf(stderr, "drill: last words\n"); });
    return Steps(session, drill).run();
  });
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) { return lockstep::run({argv + 1, argv + argc}); }
