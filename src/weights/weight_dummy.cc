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

// Elements of one row from `begin` on. A 64-bit word of the row's stream gives four values, each at the
// middle of one of 2^16 steps. A block of words first, then a block of values: so the compiler makes vectors
// of the second loop.
template <typename T>
void fill_row(uint64_t row_seed, Range range, int64_t begin, std::span<T> row) {
  const float step = (range.high - range.low) * 0x1p-16f;
  const float first = range.low + 0.5f * step;
  constexpr size_t kBlock = 64;
  std::array<uint64_t, kBlock / 4> words{};
  std::array<uint16_t, kBlock> steps{};
  auto counter = static_cast<uint64_t>(begin) / 4;
  size_t skip = static_cast<size_t>(begin) % 4;  // values of the first word that lie before `begin`
  for (size_t i = 0; i < row.size();) {
    for (uint64_t& word : words) word = mix64(row_seed, counter++);
    std::memcpy(steps.data(), words.data(), sizeof(steps));
    const std::span<T> block = row.subspan(i, std::min(kBlock - skip, row.size() - i));
    const uint16_t* of = steps.data() + skip;
    for (size_t j = 0; j < block.size(); ++j) block[j] = T(first + step * static_cast<float>(of[j]));
    i += block.size();
    skip = 0;
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
    const int64_t first = is_packed(part, target.stored_experts()) ? expert * part.rows : 0;
    const Range range = range_of(WeightFill::kMatrix, target.stored_k());
    const int64_t begin = target.inputs.begin;
    const auto width = static_cast<size_t>(target.k);
    for (int64_t i = 0; i < segment.count; ++i) {
      const uint64_t row_seed = mix64(seed, static_cast<uint64_t>(first + segment.source_row + i));
      const size_t at = static_cast<size_t>(i) * width;
      if (target.dtype == DType::kBF16) {
        fill_row<BFloat16>(row_seed, range, begin, {static_cast<BFloat16*>(destination) + at, width});
      } else {
        fill_row<float>(row_seed, range, begin, {static_cast<float*>(destination) + at, width});
      }
    }
    return {};
  }

  Status read_tensor(const TensorTarget& target, float* destination) const override {
    const Shape stored = stored_shape(target);
    const int64_t inputs = stored.rank > 0 ? stored[stored.rank - 1] : 1;
    const Range range = range_of(target.fill, inputs);
    const int64_t row = row_elements(target);
    for (const RowRun& run : runs_of(target)) {
      fill_row<float>(seed_of(target.name), range, run.begin * row,
                      {destination, static_cast<size_t>(run.count * row)});
      destination += run.count * row;
    }
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
