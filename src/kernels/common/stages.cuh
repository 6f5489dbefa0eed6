// Stages: a ring of S places in shared memory, each of which one side fills and the other one reads, in turn.
// What lies there has a number, from 0 on, and the place behind that of the one before.
#pragma once

#include "kernels/common/block_barrier.cuh"
#include "kernels/common/device_math.cuh"

namespace lockstep::cuda {

template <int S>
class Stages {
 public:
  // By one thread, before a barrier of the whole block: how many threads say that something has come, and how
  // many warps that it has been read.
  __device__ void begin(int bringers, int readers) {
    for (int stage = 0; stage < S; ++stage) {
      came_[stage].begin(bringers);
      read_[stage].begin(readers);
    }
  }
  __device__ static int of(int number) { return number % S; }
  // For who brings: until the stage is free; and what is told that everything has come.
  __device__ void await_free(int number) const { read_[of(number)].await(number / S - 1); }
  __device__ BlockBarrier& came(int number) { return came_[of(number)]; }
  // For who reads: until it is there; and it has been read by this warp.
  __device__ void await(int number) const { came_[of(number)].await(number / S); }
  __device__ void leave(int number) {
    __syncwarp();
    if (threadIdx.x % kWarp == 0) read_[of(number)].arrive();
  }

 private:
  BlockBarrier came_[S], read_[S];
};

}  // namespace lockstep::cuda
