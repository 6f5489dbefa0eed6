// The vendor of the first report: an attention op that keeps the lengths of its set-up.
#pragma once

#include "conformance/attention_rig.h"

namespace lockstep::faults {

struct VendorRun {
  bool honest = false;  // says that it reads lengths on the host
  conformance::Mode mode = conformance::Mode::kEager;
  int32_t length = 0;  // of the sequence at the end
};

// A prompt of 94 tokens, then decoding to the run's length, through the vendor's op. Errors: as
// AttentionRig::step.
Status decode_by_vendor(const Where& where, const VendorRun& run, const conformance::AttentionOptions& shape);

}  // namespace lockstep::faults
