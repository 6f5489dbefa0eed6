#include "comm/registry.h"

#ifdef LOCKSTEP_MPI
#include "comm/fabric_mpi.h"
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

}  // namespace lockstep
