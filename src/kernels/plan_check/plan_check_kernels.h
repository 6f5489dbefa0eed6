// The kernels of plan_digest and plan_structure. Every table has the same ones: they wait for memory and for
// one chain of products.
#pragma once

#include "kernels/plan_check/plan_check.h"

namespace lockstep::reference {
void plan_digest(const PlanDigestArgs& args, Worker worker);
void plan_structure(const PlanStructureArgs& args, Worker worker);
}  // namespace lockstep::reference
