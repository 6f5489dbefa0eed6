#include "faults/reports/models/entries.h"

#include <utility>

#include "faults/twins.h"

namespace lockstep::faults {

Part twin_in_full(const Entry& entry) {
  constexpr std::pair<const Entry*, Part> kInFull[] = {{&kReport1Model, report1_in_full},
                                                       {&kReport3Model, report3_in_full},
                                                       {&kReport4Model, report4_in_full},
                                                       {&kReport5Model, report5_in_full}};
  for (const auto& [known, twin] : kInFull) {
    if (known == &entry) return twin;
  }
  return {};
}

}  // namespace lockstep::faults
