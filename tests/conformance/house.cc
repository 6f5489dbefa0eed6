#include "conformance/conformance.h"

namespace lockstep::conformance {

std::vector<Case> house_cases(const DevicePtr& device) {
  std::vector<Case> cases = attention_cases(paged_candidate(device));
  for (std::vector<Case> more :
       {recurrent_cases(delta_candidate(device)), recurrent_cases(lightning_candidate(device)),
        sparse_cases(device), block_cases(device)}) {
    for (Case& each : more) cases.push_back(std::move(each));
  }
  return cases;
}

}  // namespace lockstep::conformance
