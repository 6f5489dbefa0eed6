// Which fabrics this build has.
#pragma once

#include <chrono>
#include <memory>

#include "comm/control_channel.h"
#include "comm/mesh.h"
#include "comm/rank_kernels.h"
#include "device/device.h"

namespace lockstep {

bool has_mpi();

// Joins the job in which an MPI launcher has started this process; once per process. In a collective a rank
// waits for the others for `deadline` at most.
// Errors: kUnimplemented where this was built without MPI; those of MpiFabric::create.
Result<std::unique_ptr<Fabric>> make_mpi_fabric(std::chrono::milliseconds deadline);

// The way of its control threads, made by all ranks together after the fabric, and ended before it.
// Errors: kUnimplemented where this was built without MPI; kDevice with MPI's reason.
Result<std::unique_ptr<ControlChannel>> make_mpi_control_channel();

// What connects a group whose members compute on devices, made by all of them together; ids travel through
// the group. `device` is this member's. Errors: kUnimplemented where this was built without NCCL; kNotFound
// where there is no such library; kDevice with its reason; those of the group.
Result<std::unique_ptr<DeviceLink>> make_device_link(Communicator& group, Device& device);

// Precondition: a device is there.
const RankKernels& device_rank_kernels();

}  // namespace lockstep
