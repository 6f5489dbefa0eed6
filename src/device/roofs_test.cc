#include "device/roofs.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

TEST(Roofs, AreMeasuredForEveryInstructionSetOfThisProcessor) {
  Stream stream(2);
  const Isa best = detect_cpu().best;
  for (int isa = 0; isa <= static_cast<int>(best); ++isa) {
    const Result<Roofs> roofs = measure_roofs(stream, static_cast<Isa>(isa), 0.01);
    ASSERT_TRUE(roofs.ok()) << roofs.status().message();
    // A machine that runs this at all reads a byte in a nanosecond and multiplies in ten.
    EXPECT_GT(roofs->read_gb_per_s, 1) << name_of(static_cast<Isa>(isa));
    EXPECT_GT(roofs->copy_gb_per_s, 1) << name_of(static_cast<Isa>(isa));
    EXPECT_GT(roofs->f32_gflop_per_s, 0.1) << name_of(static_cast<Isa>(isa));
    EXPECT_GE(roofs->bf16_gflop_per_s, roofs->f32_gflop_per_s * 0.5) << name_of(static_cast<Isa>(isa));
  }
}

TEST(Roofs, SayHowBf16WasMultiplied) {
  Stream stream(1);

  const Result<Roofs> roofs = measure_roofs(stream, Isa::kReference, 0.01);

  ASSERT_TRUE(roofs.ok()) << roofs.status().message();
  EXPECT_EQ(roofs->bf16_by, "f32 multiply-adds");
  EXPECT_EQ(roofs->bf16_gflop_per_s, roofs->f32_gflop_per_s);
}

}  // namespace
}  // namespace lockstep
