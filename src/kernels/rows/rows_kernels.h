// The kernels of resolve_tokens and gather_rows. They move bytes and compute nothing, so one set serves all.
#pragma once

#include "kernels/rows/rows.h"

namespace lockstep::reference {
void resolve_tokens(const ResolveTokensArgs& args, Worker worker);
void gather_rows(const GatherRowsArgs& args, Worker worker);
}  // namespace lockstep::reference
