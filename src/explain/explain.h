// explain: from a record to answers. It reads what is there, holds the recorded plans to every rule once
// more, and says "not recorded" where the record cannot tell.
#pragma once

#include <optional>

#include "base/status.h"
#include "explain/explanation.h"
#include "guard/record.h"

namespace lockstep {

struct ExplainOptions {
  std::optional<uint64_t> step;  // to look at; none: where the fault was, else the newest
};

// Errors: kNotFound when no rank has recorded that step.
Result<Explanation> explain(const Record& record, const ExplainOptions& options);

}  // namespace lockstep
