// Ids that kernels follow: tokens, experts.
#pragma once

#include "base/status.h"
#include "guard/step_view.h"

namespace lockstep {

// Holds the ids that a launch is about to follow to the table that they lead into: those of live rows name an
// entry, those of pad rows are -1 or name one too. Looks at integers per row which were computed on the
// device and are followed into a weight (experts, vocabulary).
// Errors: kInternal (P6, moment kLaunch), naming launch, argument, row and id.
Status check_ids(const StepView& step, const LaunchRecord& launch);

}  // namespace lockstep
