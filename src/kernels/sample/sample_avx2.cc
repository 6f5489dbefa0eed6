#include "kernels/sample/sample_body.h"
#include "kernels/sample/sample_lanes_avx2.h"

namespace lockstep::avx2 {

void sample(const SampleArgs& args, Worker worker) { sample_body<SampleLanes>(args, worker); }

}  // namespace lockstep::avx2
