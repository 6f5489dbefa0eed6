#include "attention/recurrent/recurrent_launch.h"

#include <gtest/gtest.h>

#include "attention/delta/delta_backend.h"
#include "attention/lightning/lightning_backend.h"
#include "kernels/table.h"

namespace lockstep {
namespace {

TEST(RecurrentBackends, RefuseALayerOfAnotherKind) {
  const CacheStorage none;
  const DeltaBackend delta(none);
  const LightningBackend lightning(none);
  PreparedStep step;
  step.clear();
  Stream stream(1);
  const Launcher on{kernel_table(Isa::kReference), stream};

  EXPECT_EQ(delta.run(step, LightningTensors{}, 0, on).message(),
            "gated_delta: a recurrent layer of another kind; expected one of gated_delta, the backend that "
            "this model was given");
  EXPECT_EQ(lightning.run(step, DeltaTensors{}, 0, on).message(),
            "lightning: a recurrent layer of another kind; expected one of lightning, the backend that this "
            "model was given");
}

TEST(RecurrentBackends, RefuseAStepThatNobodyPreparedForThem) {
  const CacheStorage none;
  const LightningBackend lightning(none);
  PreparedStep step;
  step.clear();
  Stream stream(1);

  const Status status = lightning.run(step, LightningTensors{}, 0, {kernel_table(Isa::kReference), stream});

  EXPECT_EQ(status.code(), Code::kInternal);
}

}  // namespace
}  // namespace lockstep
