// Which fabrics this build has.
#pragma once

#include <chrono>
#include <memory>

#include "comm/control_channel.h"
#include "comm/mesh.h"

namespace lockstep {

bool has_mpi();

// Joins the job in which an MPI launcher has started this process; once per process. In a collective a rank
// waits for the others for `deadline` at most.
// Errors: kUnimplemented where this was built without MPI; those of MpiFabric::create.
Result<std::unique_ptr<Fabric>> make_mpi_fabric(std::chrono::milliseconds deadline);

// The way of its control threads, made by all ranks together after the fabric, and ended before it.
// Errors: kUnimplemented where this was built without MPI; kDevice with MPI's reason.
Result<std::unique_ptr<ControlChannel>> make_mpi_control_channel();

}  // namespace lockstep
