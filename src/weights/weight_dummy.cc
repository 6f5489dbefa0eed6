// Weights without a checkpoint.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <span>

#include "base/digest.h"
#include "weights/weight_fill.h"
#include "weights/weight_loader.h"

namespace lockstep {
namespace {

struct Range {
  float low = 0;
  float high = 0;
};

// Why each range: see WeightFill.
Range range_of(WeightFill fill, int64_t inputs) {
  const float spread = std::sqrt(3.0f / static_cast<float>(inputs));
  switch (fill) {
    case WeightFill::kMatrix: return {-spread, spread};
    case WeightFill::kNormPlain: return {0.9f, 1.1f};
    case WeightFill::kNormZeroCentred: return {-0.1f, 0.1f};
    case WeightFill::kDecayLog: return {0.0f, 2.7725887f};
    case WeightFill::kTimeStepBias: return {-6.9f, -2.25f};
  }
  return {};
}

// One row. A 64-bit word of the row's stream gives four values, each at the middle of one of 2^16 steps. A
// block of words first, then a block of values: so the compiler makes vectors of the second loop.
template <typename T>
void fill_row(uint64_t row_seed, Range range, std::span<T> row) {
  const float step = (range.high - range.low) * 0x1p-16f;
  const float first = range.low + 0.5f * step;
  constexpr size_t kBlock = 64;
  std::array<uint64_t, kBlock / 4> words{};
  std::array<uint16_t, kBlock> steps{};
  uint64_t counter = 0;
  for (size_t i = 0; i < row.size(); i += kBlock) {
    for (uint64_t& word : words) word = mix64(row_seed, counter++);
    std::memcpy(steps.data(), words.data(), sizeof(steps));
    const std::span<T> block = row.subspan(i, std::min(kBlock, row.size() - i));
    for (size_t j = 0; j < block.size(); ++j) block[j] = T(first + step * static_cast<float>(steps[j]));
  }
}

class DummyRows : public RowSource {
 public:
  explicit DummyRows(uint64_t seed) : seed_(seed) {}

  const std::vector<WeightPart>& form_of(const MatrixTarget& target) const override { return target.parts; }

  // Rounding from f32 to bf16 gives the same here as in packing, and half the bytes.
  DType dtype_of(const MatrixTarget& target, const WeightPart&, int64_t) const override {
    return target.dtype == DType::kBF16 ? DType::kBF16 : DType::kF32;
  }

  Status read_rows(const MatrixTarget& target, const RowSegment& segment, int64_t expert,
                   void* destination) const override {
    const WeightPart& part = *segment.part;
    const uint64_t seed = seed_of(name_for_expert(part, expert));
    const int64_t first = is_packed(part, target.experts) ? expert * part.rows : 0;
    const Range range = range_of(WeightFill::kMatrix, target.k);
    const auto width = static_cast<size_t>(target.k);
    for (int64_t i = 0; i < segment.count; ++i) {
      const uint64_t row_seed = mix64(seed, static_cast<uint64_t>(first + segment.source_row + i));
      const size_t at = static_cast<size_t>(i) * width;
      if (target.dtype == DType::kBF16) {
        fill_row<BFloat16>(row_seed, range, {static_cast<BFloat16*>(destination) + at, width});
      } else {
        fill_row<float>(row_seed, range, {static_cast<float*>(destination) + at, width});
      }
    }
    return {};
  }

  Status read_tensor(const TensorTarget& target, float* destination) const override {
    const int64_t inputs = target.shape.rank > 0 ? target.shape[target.shape.rank - 1] : 1;
    fill_row<float>(seed_of(target.name), range_of(target.fill, inputs),
                    {destination, static_cast<size_t>(target.shape.elements())});
    return {};
  }

 private:
  uint64_t seed_of(std::string_view name) const { return digest_bytes(name.data(), name.size(), seed_); }

  const uint64_t seed_;
};

}  // namespace

Result<LoadedWeights> make_dummy_weights(const WeightPlan& plan, uint64_t seed, const LoadOptions& options) {
  return place_and_fill(plan, DummyRows(seed), "making weights", options);
}

}  // namespace lockstep
