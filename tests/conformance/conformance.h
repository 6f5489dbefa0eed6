// Conformance: what every backend has to do, as cases that anybody can run: the test binary for the house's
// own backends, the doctor for those and for other makers'. Each case goes through the whole contract (build,
// validate, bind, capture, replay, report) and compares with an oracle that shares no code with any kernel.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "attention/attention_backend.h"

namespace lockstep::conformance {

struct Case {
  std::string id;  // "conformance/paged/capture_then_others"
  // ok; kUnimplemented: the backend says that it does not do this, and why; else what is wrong, one sentence.
  std::function<Status()> run;
};

struct CaseResult {
  std::string id;
  Status status;
  double seconds = 0;
};
CaseResult run_case(const Case& each);

// A backend to be held up to the suite. The storage outlives what `make` returns.
// Errors of `make`: kUnimplemented for a cache that the backend does not serve.
struct AttentionCandidate {
  std::string name;  // "paged"
  std::function<Result<std::unique_ptr<AttentionBackend>>(const CacheStorage& storage)> make;
  DevicePtr device{};  // that it runs on; null: the CPU
};
enum class RecurrentKind : uint8_t { kDelta, kLightning };
struct RecurrentCandidate {
  std::string name;
  RecurrentKind kind = RecurrentKind::kDelta;
  std::function<Result<std::unique_ptr<RecurrentBackend>>(const CacheStorage& storage)> make;
  DevicePtr device{};
};

// Cost: some ten seconds on two cores to run them all.
std::vector<Case> attention_cases(const AttentionCandidate& candidate);
std::vector<Case> recurrent_cases(const RecurrentCandidate& candidate);

// The house's own.
AttentionCandidate paged_candidate(DevicePtr device = nullptr);
RecurrentCandidate delta_candidate(DevicePtr device = nullptr);
RecurrentCandidate lightning_candidate(DevicePtr device = nullptr);
// Page selection inside the graph, which derives fields on the device. Its kernels are functions of the host.
std::vector<Case> sparse_cases(DevicePtr device = nullptr);
// Block-sparse attention, which chooses from compressed keys in a cache group of their own.
std::vector<Case> block_cases(DevicePtr device = nullptr);
// All of the above.
std::vector<Case> house_cases(const DevicePtr& device = nullptr);

// Runs the attention suite for a backend that comes as a shared module (include/lockstep/backend.h).
// Errors: as load_plugin(); what a case finds is in its result.
Result<std::vector<CaseResult>> run_plugin_conformance(const std::string& path);

}  // namespace lockstep::conformance
