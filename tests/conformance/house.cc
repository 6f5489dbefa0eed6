#include "conformance/conformance.h"

namespace lockstep::conformance {

std::vector<Case> house_cases() {
  std::vector<Case> cases = attention_cases(paged_candidate());
  for (Case& each : recurrent_cases(delta_candidate())) cases.push_back(std::move(each));
  for (Case& each : recurrent_cases(lightning_candidate())) cases.push_back(std::move(each));
  for (Case& each : sparse_cases()) cases.push_back(std::move(each));
  for (Case& each : block_cases()) cases.push_back(std::move(each));
  return cases;
}

}  // namespace lockstep::conformance
