// BlockBarrier: a word of shared memory on which threads of a block wait for others, phase by phase: a phase
// ends when as many have arrived as the barrier counts. Phases are numbered from 0.
#pragma once

#include <cstdint>

namespace lockstep::cuda {

class BlockBarrier {
 public:
  // By one thread, before a barrier of the whole block.
  __device__ void begin(int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address()), "r"(arrivals) : "memory");
  }
  __device__ void arrive() {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address()) : "memory");
  }
  // The phase also waits for so many bytes that copies will bring.
  __device__ void arrive_expecting(int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address()), "r"(bytes)
                 : "memory");
  }
  // As soon as what this thread has fetched so far has come.
  __device__ void arrive_when_fetched() {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(address()) : "memory");
  }
  // Until the phase has ended; it is the newest that has, or the one after. Phase -1 has ended.
  __device__ void await(int phase) const {
    asm volatile(
        "{\n.reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n}\n" ::"r"(address()),
        "r"(phase & 1)
        : "memory");
  }

  __device__ uint32_t address() const { return static_cast<uint32_t>(__cvta_generic_to_shared(&word_)); }

 private:
  uint64_t word_;
};

}  // namespace lockstep::cuda
