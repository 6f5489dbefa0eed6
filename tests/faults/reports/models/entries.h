// The field reports on the models' own shapes, each in a file of its own.
#pragma once

#include "faults/entry.h"

namespace lockstep::faults {

extern const Entry kReport1Model, kReport3Model, kReport4Model, kReport5Model;

// Their twins at the reports' own lengths (faults/twins.h).
Status report1_in_full(const Where& where);
Status report3_in_full();
Status report4_in_full(const Where& where);
Status report5_in_full(const Where& where);

}  // namespace lockstep::faults
