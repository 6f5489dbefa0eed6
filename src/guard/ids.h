// Ids that kernels follow: tokens, experts.
#pragma once

#include "base/status.h"
#include "guard/step_view.h"

namespace lockstep {

// Entries of the table that ids of this launch lead into: experts of an [X][., .] weight, rows of a [V, .]
// one. Where it has a share of the table, its value `experts` or `vocab` says how many there are. 0: none.
int64_t table_entries(const LaunchRecord& launch);

// Holds the ids that a launch is about to follow to the table that they lead into: those of live rows name an
// entry, those of pad rows are -1 or name one too. Looks at integers per row which were computed on the
// device and are followed into a weight (experts, vocabulary).
// Errors: kInternal (P6, moment kLaunch), naming launch, argument, row and id.
Status check_ids(const StepView& step, const LaunchRecord& launch);

}  // namespace lockstep
