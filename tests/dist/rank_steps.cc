// A program of ranks on GPUs that says what a decode step takes and, of several, what a sum over them takes.
//
//   rank_steps MODEL [--tp N] [--dp N] [--ep]      MODEL: a built-in shape, with made-up weights
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
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
constexpr int32_t kPrompt = 1024, kSteps = 60, kLaunches = 50;
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

Status measure_steps(const std::string& model, RankSession& session) {
  const Mesh& mesh = session.mesh();
  const Clock::time_point start = Clock::now();
  const std::unique_ptr<Engine> engine = LS_TRY(Engine::create(config_of(model, session)));
  if (!engine->leads()) {
    for (bool more = true; more;) more = LS_TRY(engine->follow());
    return {};
  }
  const double ready = microseconds_since(start) / 1e6;
  for (const int32_t batch : kBatches) {
    const double us = LS_TRY(lead(*engine, mesh.rank(), batch));
    if (mesh.rank() == 0)
      std::cout << model << ", " << describe(mesh.shape()) << ", " << batch << " sequences of " << kPrompt
                << " tokens each: " << us << " us a step (ready after " << ready << " s)" << std::endl;
  }
  return {};
}

// Of one sum of [rows, width] over two ranks, among as many in one graph.
Result<double> sum_of(const DevicePtr& device, Mesh& mesh, int64_t rows, int64_t width) {
  Arena arena = LS_TRY(Arena::create("sums", 64 + 16 * rows * width, device));
  const TensorView x = LS_TRY(arena.allocate("x", DType::kF32, {rows, width}));
  const TensorView scratch =
      LS_TRY(arena.allocate("scratch", DType::kU8, {all_reduce_scratch_bytes(rows, width, 2)}));
  Stream stream(device, LS_TRY(device->make_queue()));
  Graph graph;
  LS_TRY(stream.begin_capture(graph));
  for (int32_t i = 0; i < kLaunches; ++i)
    LS_TRY(all_reduce({kernel_table(Isa::kSm90), stream}, {.x = x, .scratch = scratch, .group = &mesh.tp()},
                      "sum"));
  stream.end_capture();
  LS_TRY(stream.instantiate(graph));
  std::vector<double> times;
  for (int32_t i = 0; i < 9; ++i) {
    LS_TRY(meet(mesh));
    const Clock::time_point start = Clock::now();
    LS_TRY(stream.replay(graph));
    LS_TRY(mesh.settle());
    stream.synchronize();
    mesh.ledger().leave_all();
    times.push_back(microseconds_since(start) / kLaunches);
  }
  LS_TRY(stream.check_copies());
  return median(std::move(times));
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
