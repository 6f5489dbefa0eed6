#include "device/cpu_info.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <thread>

namespace lockstep {
namespace {

TEST(CpuInfo, NamesTheProcessorAndCountsItsCpus) {
  const CpuInfo cpu = detect_cpu();

  EXPECT_NE(cpu.model, "");
  EXPECT_GE(cpu.cpus, 1);
  EXPECT_LE(cpu.cpus, static_cast<int>(std::thread::hardware_concurrency()));
}

TEST(CpuInfo, CountsOnlyTheCpusThatItMayUse) {
  int cpus = 0;
  std::thread([&cpus] {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    ASSERT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    int first = 0;
    while (!CPU_ISSET(first, &allowed)) ++first;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
    cpus = detect_cpu().cpus;
  }).join();

  EXPECT_EQ(cpus, 1);
}

TEST(CpuInfo, ClaimsNoInstructionsThatTheProcessorLacks) {
  const Isa best = detect_cpu().best;
  __builtin_cpu_init();

  EXPECT_EQ(best >= Isa::kAvx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
  EXPECT_TRUE(best < Isa::kAvx512 || __builtin_cpu_supports("avx512f"));
  EXPECT_TRUE(best < Isa::kAvx512Bf16 || __builtin_cpu_supports("avx512bf16"));
}

TEST(CpuInfo, NamesInstructionSetsAsFlagsSpellThem) {
  EXPECT_EQ(name_of(Isa::kReference), "reference");
  EXPECT_EQ(name_of(Isa::kAvx2), "avx2");
  EXPECT_EQ(name_of(Isa::kAvx512), "avx512");
  EXPECT_EQ(name_of(Isa::kAvx512Bf16), "avx512bf16");
}

}  // namespace
}  // namespace lockstep
