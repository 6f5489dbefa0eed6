#include "faults/reports/models/runs.h"

#include <map>
#include <mutex>
#include <thread>

#include "comm/thread_fabric.h"

namespace lockstep::faults {
namespace {

constexpr std::chrono::seconds kPatience(60);

Status keep(const RequestOutput& output, size_t place, const float* logits, int64_t vocab,
            ModelOutcome& outcome) {
  if (output.finish == FinishReason::kError) return output.failure.with_message(output.error);
  if (output.tokens.empty()) return {};
  outcome.tokens[place].push_back(output.tokens.front());
  outcome.logits[place].push_back(digest_bytes(logits, static_cast<size_t>(vocab) * sizeof(float)));
  return {};
}

Status lead(Engine& engine, std::span<const Request> requests, ModelOutcome& outcome) {
  std::map<uint64_t, size_t> places;
  const int64_t vocab = engine.model().spec.vocab;
  size_t drawn = 0;
  while (places.size() < requests.size() || engine.has_work()) {
    while (places.size() < requests.size() && (places.size() <= drawn || !engine.has_work())) {
      const size_t place = places.size();
      places[LS_TRY(engine.add(requests[place]))] = place;
    }
    const std::vector<RequestOutput> outputs = engine.step();
    ++outcome.steps;
    outcome.cut_steps += engine.last_plan().scalar(field::cp_ranks) > 1 ? 1 : 0;
    std::vector<std::byte> copy;
    const TensorView there = engine.executor().logits(static_cast<int64_t>(outputs.size()));
    const float* row = HostView(engine.executor().stream()).look(there, copy).as<const float>();
    for (const RequestOutput& output : outputs) {
      LS_TRY(keep(output, places.at(output.id), row, vocab, outcome));
      drawn += output.tokens.size();
      row += vocab;
    }
  }
  return {};
}

Status run_rank(EngineConfig config, Mesh* mesh, std::span<const Request> requests, ModelOutcome& outcome) {
  config.mesh = mesh;
  Result<std::unique_ptr<Engine>> made = Engine::create(config);
  if (!made.ok()) {
    if (mesh != nullptr) mesh->fail(made.status());
    return made.status();
  }
  Engine& engine = **made;
  if (engine.leads()) {
    const Status done = lead(engine, requests, outcome);
    outcome.replays = engine.runner().replays();
    if (!done.ok() && mesh != nullptr) mesh->fail(done);
    return done;
  }
  while (LS_TRY(engine.follow())) continue;
  return {};
}

}  // namespace

EngineConfig model_config(std::string_view model, int32_t max_len) {
  EngineConfig config;
  config.model = {
      .path = std::string(model), .format = LoadFormat::kDummy, .dtype = ComputeDType::kFloat32, .seed = 7};
  config.threads = 1;
  config.max_model_len = max_len;
  config.max_num_seqs = 8;
  config.max_num_batched_tokens = 512;
  config.chunk_size = 64;
  config.page_size = 16;
  config.graph_sizes = {1, 8};
  return config;
}

Request model_request(uint64_t key, int32_t length, int32_t draw, int32_t vocab) {
  Request request;
  for (int32_t t = 0; t < length; ++t) {
    const uint64_t number = mix64(key, static_cast<uint64_t>(t));
    request.prompt_ids.push_back(static_cast<int32_t>(number % static_cast<uint64_t>(vocab)));
  }
  request.max_tokens = draw;
  request.temperature = 0;
  request.ignore_eos = true;
  return request;
}

Result<ModelOutcome> run_model(const EngineConfig& config, const MeshShape& shape,
                               std::span<const Request> requests) {
  ModelOutcome outcome{.tokens = std::vector<std::vector<int32_t>>(requests.size()),
                       .logits = std::vector<std::vector<Digest>>(requests.size())};
  EngineConfig own = config;
  own.parallel = shape;
  if (shape.world() == 1) {
    LS_TRY(run_rank(own, nullptr, requests, outcome));
    return outcome;
  }
  const auto world = std::make_shared<ThreadWorld>(shape.world(), kPatience);
  std::mutex mutex;
  Status first;
  {
    std::vector<std::jthread> threads;
    for (int32_t rank = 0; rank < shape.world(); ++rank) {
      threads.emplace_back([&, rank] {
        const auto mesh = Mesh::create(shape, std::make_unique<ThreadFabric>(world, rank));
        const Status done = mesh.ok() ? run_rank(own, mesh->get(), requests, outcome) : mesh.status();
        const std::lock_guard lock(mutex);
        if (first.ok()) first = done;
      });
    }
  }
  LS_TRY(first);
  return outcome;
}

Status expect_same(const ModelOutcome& a, const ModelOutcome& b, bool bits) {
  for (size_t i = 0; i < a.tokens.size(); ++i) {
    if (a.tokens[i].size() != b.tokens[i].size()) {
      return error(Code::kInternal, "request ", i, " drew ", b.tokens[i].size(), " tokens; expected ",
                   a.tokens[i].size());
    }
    for (size_t t = 0; t < a.tokens[i].size(); ++t) {
      if (a.tokens[i][t] != b.tokens[i][t]) {
        return error(Code::kInternal, "request ", i, ", token ", t, " is ", b.tokens[i][t], "; expected ",
                     a.tokens[i][t]);
      }
      if (bits && a.logits[i][t] != b.logits[i][t])
        return error(Code::kInternal, "request ", i, ", token ", t, ": other logits; expected the same bits");
    }
  }
  return {};
}

}  // namespace lockstep::faults
