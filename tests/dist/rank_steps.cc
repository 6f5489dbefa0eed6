// A program of ranks on GPUs that says what a decode step takes and, of several, what its collectives take
// when nothing is between them, and what a sum over two ranks takes.
//
//   rank_steps MODEL [--tp N] [--dp N] [--ep]      MODEL: a built-in shape, with made-up weights
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <random>

#include "comm/collectives.h"
#include "device/graph.h"
#include "device/registry.h"
#include "engine/engine.h"
#include "kernels/table.h"
#include "rank_program.h"

namespace lockstep::testing {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int32_t kPrompt = 1024, kSteps = 60, kLaunches = 50, kReplays = 9;
constexpr std::array<int32_t, 2> kBatches{1, 32};  // sequences of each replica

double microseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

Status meet(Mesh& mesh) {
  uint8_t word = 0;
  std::vector<std::byte> all(static_cast<size_t>(mesh.world().size()));
  return mesh.world().all_gather(std::as_bytes(std::span(&word, 1)), all, DType::kU8, {.stage = "meet"});
}

EngineConfig config_of(const std::string& model, RankSession& session) {
  Mesh& mesh = session.mesh();
  EngineConfig config;
  config.model.path = model;
  config.model.format = LoadFormat::kDummy;
  config.device = concat("cuda:", mesh.rank());
  config.parallel = mesh.shape();
  config.mesh = mesh.world().size() > 1 ? &mesh : nullptr;
  config.pulse = &session.pulse();
  config.threads = 12;
  config.max_num_seqs = kBatches.back();
  config.max_model_len = kPrompt + 128;
  config.num_pages = kBatches.back() * ((kPrompt + 128) / 64);
  config.graph_sizes.assign(kBatches.begin(), kBatches.end());
  return config;
}

// The median of the replayed steps while `batch` sequences decode.
Result<double> lead(Engine& engine, int32_t rank, int32_t batch) {
  std::mt19937_64 random(static_cast<uint64_t>(rank));
  for (int32_t i = 0; i < batch; ++i) {
    Request request{.max_tokens = kSteps, .temperature = 0, .ignore_eos = true};
    for (int32_t t = 0; t < kPrompt; ++t)
      request.prompt_ids.push_back(static_cast<int32_t>(random() % 30000));
    LS_TRY(engine.add(request));
  }
  std::vector<double> steps;
  do {
    const int64_t replays = engine.runner().replays();
    const Clock::time_point start = Clock::now();
    for (const RequestOutput& output : engine.step()) LS_TRY(Status(output.failure));
    if (engine.runner().replays() > replays) steps.push_back(microseconds_since(start));
  } while (engine.any_work());
  return median(std::move(steps));
}

// The launches that `enqueue` makes, recorded as one graph and replayed: the median of a replay.
Result<double> replays_of(const DevicePtr& device, Mesh& mesh,
                          const std::function<Status(const Launcher&)>& enqueue) {
  Stream stream(device, LS_TRY(device->make_queue()));
  Graph graph;
  LS_TRY(stream.begin_capture(graph));
  LS_TRY(enqueue({kernel_table(Isa::kSm90), stream}));
  stream.end_capture();
  LS_TRY(stream.instantiate(graph));
  std::vector<double> times;
  for (int32_t i = 0; i < kReplays; ++i) {
    LS_TRY(meet(mesh));
    const Clock::time_point start = Clock::now();
    LS_TRY(stream.replay(graph));
    LS_TRY(mesh.settle());
    stream.synchronize();
    mesh.ledger().leave_all();
    times.push_back(microseconds_since(start));
  }
  LS_TRY(stream.check_copies());
  return median(std::move(times));
}

// What the newest step exchanged on its device: the same list in the ledger of every rank of a group. What
// hosts exchange is bytes.
std::vector<CollectiveEntry> exchanges_of_last_step(const Ledger& ledger) {
  std::vector<CollectiveEntry> exchanges = ledger.last(Ledger::kEntries);
  std::erase_if(exchanges, [](const CollectiveEntry& each) { return each.dtype == DType::kU8; });
  const uint64_t step = exchanges.empty() ? 0 : exchanges.back().epoch;
  std::erase_if(exchanges, [&](const CollectiveEntry& each) { return each.epoch != step; });
  return exchanges;
}

// All exchanges of a step of `batch` sequences one after the other; `exchanges` are those of the largest
// batch.
Result<double> collectives_alone(const DevicePtr& device, Mesh& mesh,
                                 const std::vector<CollectiveEntry>& exchanges, int32_t batch) {
  int64_t most = 0;  // bytes
  for (const CollectiveEntry& each : exchanges) most = std::max(most, each.count * size_of(each.dtype));
  Arena arena = LS_TRY(Arena::create("exchanges", 8 * most + 4096, device));
  const TensorView x = LS_TRY(arena.allocate("x", DType::kU8, {most}));
  const TensorView out = LS_TRY(arena.allocate("out", DType::kU8, {2 * most}));
  const TensorView scratch = LS_TRY(arena.allocate("scratch", DType::kU8, {4 * most}));
  return replays_of(device, mesh, [&](const Launcher& on) -> Status {
    for (const CollectiveEntry& each : exchanges) {
      Communicator* group = each.group == "tp" ? &mesh.tp() : &mesh.dp();
      const int64_t count = each.count / kBatches.back() * batch;
      const auto rows = [&](void* data, int64_t n, int64_t width) {
        return dense_view(data, each.dtype, {n, width});
      };
      if (each.op == "all_to_all") {  // of the rows of both ranks
        LS_TRY(scatter_sum(on,
                           {.x = rows(x.data, 2, count / 2),
                            .out = rows(out.data, 1, count / 2),
                            .scratch = scratch,
                            .group = group},
                           each.at.stage));
      } else if (each.at.stage.ends_with("_sum")) {
        LS_TRY(
            all_reduce(on, {.x = rows(x.data, 1, count), .scratch = scratch, .group = group}, each.at.stage));
      } else {
        LS_TRY(gather_rows_of_ranks(
            on, {.x = rows(x.data, 1, count), .out = rows(out.data, 2, count), .group = group},
            each.at.stage));
      }
    }
    return {};
  });
}

// Of one sum of [rows, width] over two ranks, among as many in one graph.
Result<double> sum_of(const DevicePtr& device, Mesh& mesh, int64_t rows, int64_t width) {
  Arena arena = LS_TRY(Arena::create("sums", 64 + 16 * rows * width, device));
  const TensorView x = LS_TRY(arena.allocate("x", DType::kF32, {rows, width}));
  const TensorView scratch =
      LS_TRY(arena.allocate("scratch", DType::kU8, {all_reduce_scratch_bytes(rows, width, 2)}));
  const auto sums = [&](const Launcher& on) -> Status {
    for (int32_t i = 0; i < kLaunches; ++i)
      LS_TRY(all_reduce(on, {.x = x, .scratch = scratch, .group = &mesh.tp()}, "sum"));
    return {};
  };
  return LS_TRY(replays_of(device, mesh, sums)) / kLaunches;
}

Status measure_sums(Mesh& mesh) {
  if (mesh.tp().size() != 2) return {};
  const DevicePtr device = LS_TRY(open_device(concat("cuda:", mesh.rank())));
  LS_TRY(mesh.connect(*device));
  for (const int64_t width : {2048, 4096}) {
    for (const int64_t rows : {1, 8, 32, 128, 512, 2048}) {
      const double us = LS_TRY(sum_of(device, mesh, rows, width));
      if (mesh.rank() == 0)
        std::cout << "sum of [" << rows << ", " << width << "] f32 over 2 GPUs: " << us << " us" << std::endl;
    }
  }
  return {};
}

// Prints what a step takes, and how much of it its collectives would take alone.
Status measure_steps(const std::string& model, RankSession& session) {
  Mesh& mesh = session.mesh();
  const Clock::time_point start = Clock::now();
  const EngineConfig config = config_of(model, session);
  std::unique_ptr<Engine> engine = LS_TRY(Engine::create(config));
  const double ready = microseconds_since(start) / 1e6;
  std::array<double, kBatches.size()> steps{};
  if (engine->leads()) {
    for (size_t i = 0; i < kBatches.size(); ++i) steps[i] = LS_TRY(lead(*engine, mesh.rank(), kBatches[i]));
    engine.reset();
  } else {
    for (bool more = true; more;) more = LS_TRY(engine->follow());
  }
  const std::vector<CollectiveEntry> exchanges = exchanges_of_last_step(mesh.ledger());
  const DevicePtr device = LS_TRY(open_device(config.device));
  for (size_t i = 0; i < kBatches.size(); ++i) {
    double alone = 0;
    if (!exchanges.empty()) alone = LS_TRY(collectives_alone(device, mesh, exchanges, kBatches[i]));
    if (mesh.rank() == 0)
      std::cout << model << ", " << describe(mesh.shape()) << ", " << kBatches[i] << " sequences of "
                << kPrompt << " tokens each: " << steps[i] << " us a step, " << exchanges.size()
                << " exchanges of " << alone << " us alone, " << 100 * alone / steps[i] << "% (ready after "
                << ready << " s)" << std::endl;
  }
  return {};
}

int run(const std::vector<std::string>& words) {
  MeshShape shape;
  for (size_t i = 1; i < words.size(); ++i) {
    if (words[i] == "--ep") shape.expert_parallel = true;
    if (i + 1 == words.size()) break;
    if (words[i] == "--tp") shape.tp = std::atoi(words[i + 1].c_str());
    if (words[i] == "--dp") shape.dp = std::atoi(words[i + 1].c_str());
  }
  return run_rank_program(words, shape, [&](RankSession& session) {
    LS_TRY(measure_sums(session.mesh()));
    return measure_steps(words.at(0), session);
  });
}

}  // namespace
}  // namespace lockstep::testing

int main(int argc, char** argv) { return lockstep::testing::run({argv + 1, argv + argc}); }
