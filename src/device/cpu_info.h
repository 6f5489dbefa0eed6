// What this processor can do, read once from cpuid.
#pragma once

#include <string>
#include <string_view>

namespace lockstep {

// Instruction sets of kernels: of the CPU in ascending order, then of devices.
enum class Isa { kReference, kAvx2, kAvx512, kAvx512Bf16, kSm90 };

std::string_view name_of(Isa isa);

struct CpuInfo {
  std::string model;  // "AMD EPYC 9554"
  Isa best = Isa::kReference;
  int cpus = 1;  // that this process may use
};

// Cost: cpuid and one read of /proc/cpuinfo.
CpuInfo detect_cpu();

}  // namespace lockstep
