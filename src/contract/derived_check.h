// What graphs and steps do to derived fields: kernels write those that they make, and no others.
#pragma once

#include <span>

#include "contract/binder.h"
#include "contract/derived.h"
#include "device/graph.h"
#include "device/host_view.h"

namespace lockstep {

// Holds recorded launches to it that one writes to a derived field only where its consumer makes that field
// on the device. Errors: kInternal (L4), with a fault of moment kCapture.
Status check_derived_writes(const Graph& graph, const StepPlan& plan, DerivedFields& derived,
                            std::span<const Binding> bindings);

// Holds what the host has made for `plan` to what the device has of it behind the step's last launch; the
// stream has passed it. Errors: kInternal (R4), with a fault of moment kCommit.
Status check_host_made_on_device(const StepPlan& plan, DerivedFields& derived, const HostView& memory = {});

}  // namespace lockstep
