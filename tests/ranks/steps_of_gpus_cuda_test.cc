// What a decode step takes on one GPU and on two, and how much of it exchanges take: with LOCKSTEP_LONG set.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <random>
#include <thread>

#include "../support/engines.h"
#include "comm/collectives.h"
#include "comm/thread_fabric.h"
#include "device/graph.h"
#include "device/registry.h"
#include "kernels/table.h"

namespace lockstep::testing {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kPatient{300};
constexpr int32_t kPrompt = 1024, kSteps = 60, kLaunches = 50;
constexpr std::array<int32_t, 2> kBatches{1, 32};  // sequences of each replica

double microseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

struct Shape {
  std::string model;
  MeshShape mesh;
};

Status meet(Mesh& mesh) {
  uint8_t word = 0;
  std::vector<std::byte> all(static_cast<size_t>(mesh.world().size()));
  return mesh.world().all_gather(std::as_bytes(std::span(&word, 1)), all, DType::kU8, {.stage = "meet"});
}

// What one rank does with its mesh and its GPU; the first rank's answer counts.
template <typename Part>
double on_ranks(const MeshShape& shape, Part part) {
  const auto world = std::make_shared<ThreadWorld>(shape.world(), kPatient);
  double answer = 0;
  std::vector<std::jthread> threads;
  for (int32_t rank = 0; rank < shape.world(); ++rank) {
    threads.emplace_back([&, rank] {
      auto mesh = std::move(Mesh::create(shape, std::make_unique<ThreadFabric>(world, rank))).value();
      const Result<double> got = part(*mesh);
      EXPECT_EQ(got.status().message(), "") << "rank " << rank;
      if (!got.ok()) mesh->fail(got.status());
      if (got.ok() && rank == 0) answer = *got;
    });
  }
  threads.clear();
  return answer;
}

EngineConfig config_of(const Shape& shape, Mesh& mesh) {
  EngineConfig config;
  config.model.path = shape.model;
  config.model.format = LoadFormat::kDummy;
  config.device = concat("cuda:", mesh.rank());
  config.parallel = shape.mesh;
  config.mesh = shape.mesh.world() > 1 ? &mesh : nullptr;
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

Result<double> run_shape(const Shape& shape, Mesh& mesh) {
  const Clock::time_point start = Clock::now();
  const std::unique_ptr<Engine> engine = LS_TRY(Engine::create(config_of(shape, mesh)));
  if (!engine->leads()) {
    for (bool more = true; more;) more = LS_TRY(engine->follow());
    return 0.0;
  }
  const double ready = microseconds_since(start) / 1e6;
  for (const int32_t batch : kBatches) {
    const double us = LS_TRY(lead(*engine, mesh.rank(), batch));
    if (mesh.rank() == 0)
      std::cout << shape.model << ", " << describe(shape.mesh) << ", " << batch << " sequences of " << kPrompt
                << " tokens each: " << us << " us a step (ready after " << ready << " s)" << std::endl;
  }
  return 0.0;
}

// Of one sum of [rows, width] over two ranks, among as many in one graph.
Result<double> sum_of(Mesh& mesh, int64_t rows, int64_t width) {
  const DevicePtr device = LS_TRY(open_device(concat("cuda:", mesh.rank())));
  LS_TRY(mesh.connect(*device));
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
    times.push_back(microseconds_since(start) / kLaunches);
  }
  LS_TRY(stream.check_copies());
  return median(std::move(times));
}

class StepsOfGpus : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::getenv("LOCKSTEP_LONG") == nullptr) GTEST_SKIP() << "LOCKSTEP_LONG is not set";
    const Result<DevicePtr> second = open_device("cuda:1");
    if (!second.ok()) GTEST_SKIP() << second.status().message();
  }
};

TEST_F(StepsOfGpus, TakeSoLongForASum) {
  for (const int64_t rows : {1, 8, 32, 128, 512, 2048}) {
    for (const int64_t width : {2048, 4096}) {
      const double us =
          on_ranks({.tp = 2}, [&](Mesh& mesh) -> Result<double> { return sum_of(mesh, rows, width); });
      std::cout << "sum of [" << rows << ", " << width << "] f32 over 2 GPUs: " << us << " us" << std::endl;
    }
  }
}

TEST_F(StepsOfGpus, TakeSoLongForADecodeStep) {
  for (const std::string model : {"qwen3-8b", "qwen3-30b-a3b"}) {
    std::vector<MeshShape> shapes{{}, {.tp = 2}};
    if (model == "qwen3-30b-a3b") shapes.push_back({.dp = 2, .expert_parallel = true});
    for (const MeshShape& mesh : shapes)
      on_ranks(mesh, [&](Mesh& own) { return run_shape({.model = model, .mesh = mesh}, own); });
  }
}

}  // namespace
}  // namespace lockstep::testing
