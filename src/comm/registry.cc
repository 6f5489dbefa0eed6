#include "comm/registry.h"

#ifdef LOCKSTEP_MPI
#include "comm/fabric_mpi.h"
#endif
#ifdef LOCKSTEP_NCCL
#include "comm/nccl_link.h"
#endif

namespace lockstep {

#ifdef LOCKSTEP_MPI

bool has_mpi() { return true; }

Result<std::unique_ptr<Fabric>> make_mpi_fabric(std::chrono::milliseconds deadline) {
  return std::unique_ptr<Fabric>(LS_TRY(MpiFabric::create(deadline)));
}

#else

bool has_mpi() { return false; }

Result<std::unique_ptr<Fabric>> make_mpi_fabric(std::chrono::milliseconds) {
  return error(Code::kUnimplemented,
               "mpi: this build has no MPI; install libopenmpi-dev and configure again to run several ranks");
}

Result<std::unique_ptr<ControlChannel>> make_mpi_control_channel() {
  return error(Code::kUnimplemented,
               "mpi: this build has no MPI; install libopenmpi-dev and configure again");
}

#endif

Result<std::unique_ptr<DeviceLink>> make_device_link(Communicator& group, Device& device) {
#ifdef LOCKSTEP_NCCL
  return NcclLink::create(group, device);
#else
  return error(Code::kUnimplemented, "nccl: ", group.name(), " has ", group.size(), " ranks on ",
               device.description(),
               " and this program was built without NCCL; install its header nccl.h and configure the preset "
               "cuda again, or use --device cpu");
#endif
}

const RankKernels& device_rank_kernels() {
#ifdef LOCKSTEP_CUDA
  return cuda_rank_kernels();
#else
  return host_rank_kernels();
#endif
}

}  // namespace lockstep
