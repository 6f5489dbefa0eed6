#include "conformance/conformance.h"

namespace lockstep::conformance {

namespace {

// Kernels that a suite brings along are functions of the host.
void refuse(std::vector<Case>& cases, std::string_view reason) {
  for (Case& each : cases) each.run = [reason] { return error(Code::kUnimplemented, reason); };
}

}  // namespace

std::vector<Case> house_cases(const DevicePtr& device) {
  std::vector<Case> cases = attention_cases(paged_candidate(device));
  std::vector<Case> sparse = sparse_cases(), blocks = block_cases();
  if (device != nullptr) {
    refuse(sparse, "the suite's own selection of pages is a function of the CPU");
    refuse(blocks, "the suite holds what it selects in the CPU's memory");
  }
  for (std::vector<Case> more :
       {recurrent_cases(delta_candidate(device)), recurrent_cases(lightning_candidate(device)),
        std::move(sparse), std::move(blocks)}) {
    for (Case& each : more) cases.push_back(std::move(each));
  }
  return cases;
}

}  // namespace lockstep::conformance
