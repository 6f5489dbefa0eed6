// Right twins at the lengths of the field reports, which take seconds: what the doctor runs.
#pragma once

#include "faults/entry.h"

namespace lockstep::faults {

// None: the entry's twin is all there is.
Part twin_in_full(const Entry& entry);

}  // namespace lockstep::faults
