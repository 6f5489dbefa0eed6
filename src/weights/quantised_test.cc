// Quantised checkpoints: every value bit for bit by the formula, whole and in shares.
#include <algorithm>

#include "weights/dequantise.h"
#include "weights/quantised_test_support.h"

namespace lockstep {
namespace {

float rounded(DType dtype, float value) {
  return with_float_type(dtype, [&]<typename T>() { return static_cast<float>(T(value)); });
}

// NaN codes of FP8 stay NaN; everything else is equal, and zeros keep their signs.
void expect_same(float found, float expected) {
  if (std::isnan(expected)) {
    ASSERT_TRUE(std::isnan(found));
  } else {
    ASSERT_EQ(std::bit_cast<uint32_t>(found), std::bit_cast<uint32_t>(expected)) << found << " " << expected;
  }
}

// Rows [row, + rows) and columns [column, + columns) of "name" [height, width] as a plan of one matrix.
struct OneMatrix {
  PackedWeight matrix;
  WeightPlan plan{.family = "toy"};

  OneMatrix(const Quantisation& by, const std::string& name, int64_t rows, int64_t k) {
    plan.quantisation = by;
    plan.matrices.push_back({.into = &matrix,
                             .name = "m",
                             .k = k,
                             .dtype = DType::kF32,
                             .parts = {{.name = name, .rows = rows}},
                             .part = "mlp"});
  }
  MatrixTarget& target() { return plan.matrices[0]; }
};

TEST(Quantised, EveryFormIsReadBitForBitIntoEveryTypeAndLayout) {
  const int64_t rows = 200, k = 328;  // edge blocks and edge groups
  for (const CodeForm& form : all_code_forms()) {
    SCOPED_TRACE(form.title);
    CodedCheckpoint source(31);
    source.add(form, "x.weight", rows, k);
    const Checkpoint checkpoint = source.checkpoint();
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      for (const WeightLayout layout : {WeightLayout::kRowMajor, WeightLayout::kPanel32}) {
        OneMatrix one(form.by, "x.weight", rows, k);
        one.target().dtype = dtype;
        one.target().layout = layout;
        const auto weights = load_weights(one.plan, checkpoint, {.threads = 2});
        ASSERT_TRUE(weights.ok()) << weights.status().message();
        EXPECT_EQ(weights->bytes_read, checkpoint.total_bytes());
        for (int64_t n = 0; n < rows; ++n) {
          for (int64_t c = 0; c < k; ++c) {
            expect_same(element(one.matrix, 0, n, c), rounded(dtype, source.at("x.weight", 0, n, c)));
            ASSERT_FALSE(HasFailure()) << dtype << " row " << n << " column " << c;
          }
        }
      }
    }
  }
}

TEST(Quantised, AnyShareOfRowsColumnsAndExpertsIsTheSameNumbers) {
  const int64_t rows = 144, k = 176, experts = 3;
  std::mt19937_64 random(7);
  const auto below = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  for (const CodeForm& form : all_code_forms()) {
    SCOPED_TRACE(form.title);
    CodedCheckpoint source(32);
    for (int64_t e = 0; e < experts; ++e) source.add(form, concat("x.", e, ".weight"), rows, k);
    source.add(form, "packed", rows, k, experts);
    const Checkpoint checkpoint = source.checkpoint();
    for (int round = 0; round < 12; ++round) {
      for (const std::string name : {"x.{}.weight", "packed"}) {
        const int64_t column = below(k), first = below(experts);
        const int64_t columns = 1 + below(k - column), held = 1 + below(experts - first);
        const int64_t row = below(rows), count = 1 + below(rows - row), more = 1 + below(9);
        OneMatrix one(form.by, name, rows, columns);
        MatrixTarget& target = one.target();
        target.experts = held;
        target.held = {first, experts};
        target.inputs = {column, k};
        target.parts[0].order = {{row, count}, {kZeroRows, 2}, {0, more}};
        one.plan.may_ignore = [](std::string_view) { return true; };

        const auto weights = load_weights(one.plan, checkpoint, {});

        ASSERT_TRUE(weights.ok()) << weights.status().message();
        for (int64_t e = 0; e < held; ++e) {
          const std::string of = name == "packed" ? name : concat("x.", first + e, ".weight");
          for (int64_t n = 0; n < count + 2 + more; ++n) {
            const int64_t from = n < count ? row + n : n - count - 2;
            for (int64_t c = 0; c < columns; ++c) {
              const bool zero = n >= count && n < count + 2;
              expect_same(element(one.matrix, e, n, c),
                          zero ? 0.0f : source.at(of, name == "packed" ? first + e : 0, from, column + c));
              ASSERT_FALSE(HasFailure())
                  << name << " round " << round << " expert " << e << " row " << n << " column " << c
                  << " of " << row << "+" << count << " x " << column << "+" << columns;
            }
          }
        }
      }
    }
  }
}

// A half of the rows or columns takes half of the codes and scales: of [256, 512].
TEST(Quantised, AShareReadsItsOwnBytesOnly) {
  const int64_t rows = 256, k = 512;
  for (const CodeForm& form : all_code_forms()) {
    if (form.by.block_rows != 128 || form.has_g_idx || form.by.group_size < 0) continue;
    SCOPED_TRACE(form.title);
    CodedCheckpoint source(33);
    source.add(form, "x.weight", rows, k);
    const Checkpoint checkpoint = source.checkpoint();
    OneMatrix upper(form.by, "x.weight", rows, k), right(form.by, "x.weight", rows, k / 2);
    upper.target().parts[0].order = {{128, 128}};
    right.target().inputs = {k / 2, k};
    EXPECT_EQ(load_weights(upper.plan, checkpoint, {})->bytes_read, checkpoint.total_bytes() / 2);
    EXPECT_EQ(load_weights(right.plan, checkpoint, {})->bytes_read, checkpoint.total_bytes() / 2);
  }
}

TEST(Quantised, PlainAndQuantisedPartsStandInOneMatrix) {
  const CodeForm form = all_code_forms()[3];
  CodedCheckpoint source(34);
  source.add(form, "q.weight", 16, 128);
  source.add(form, "v.weight", 8, 128);
  const std::vector<float> plain = source.scales("k.weight", DType::kBF16, {8, 128});
  OneMatrix one(form.by, "q.weight", 16, 128);
  one.target().parts = {
      {.name = "q.weight", .rows = 16}, {.name = "k.weight", .rows = 8}, {.name = "v.weight", .rows = 8}};
  const Checkpoint checkpoint = source.checkpoint();

  const auto weights = load_weights(one.plan, checkpoint, {});

  ASSERT_TRUE(weights.ok()) << weights.status().message();
  for (int64_t n = 0; n < 32; ++n) {
    for (int64_t c = 0; c < 128; ++c) {
      const float expected = n < 16   ? source.at("q.weight", 0, n, c)
                             : n < 24 ? plain[static_cast<size_t>((n - 16) * 128 + c)]
                                      : source.at("v.weight", 0, n - 24, c);
      ASSERT_EQ(element(one.matrix, 0, n, c), expected) << n << " " << c;
    }
  }
  EXPECT_EQ(exact_dtype_of(one.plan, checkpoint), DType::kF32);
  const std::vector<StoredPart> parts = stored_by_part(one.plan, checkpoint);
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(parts[0].form, "awq int4 in groups of 128");
  EXPECT_EQ(parts[0].tensors, 6);
  EXPECT_EQ(parts[0].bytes, 24 * 128 / 2 + 24 * 2 + 24 / 2);
  EXPECT_EQ(parts[0].memory, 24 * 128 * 4);
  EXPECT_EQ(parts[1].form, "bf16");
  EXPECT_EQ(parts[1].bytes, 8 * 128 * 2);
}

TEST(Quantised, RulesMayGiveAMatrixAnotherGroupSize) {
  CodeForm small = all_code_forms()[7];
  small.by.group_size = 32;
  CodedCheckpoint source(35);
  source.add(small, "x.weight", 16, 256);
  Quantisation by = small.by;
  by.group_size = 128;
  by.other_groups = true;
  OneMatrix one(by, "x.weight", 16, 256);

  const auto weights = load_weights(one.plan, source.checkpoint(), {});

  ASSERT_TRUE(weights.ok()) << weights.status().message();
  for (int64_t c = 0; c < 256; ++c)
    ASSERT_EQ(element(one.matrix, 0, 5, c), source.at("x.weight", 0, 5, c)) << c;
}

TEST(Fp8, CodesMeanWhatTheFormatSays) {
  const std::vector<float>& values = fp8_e4m3_values();

  EXPECT_EQ(values[0x00], 0.0f);
  EXPECT_TRUE(std::signbit(values[0x80]));
  EXPECT_EQ(values[0x01], 0x1p-9f);
  EXPECT_EQ(values[0x07], 7 * 0x1p-9f);
  EXPECT_EQ(values[0x08], 0x1p-6f);
  EXPECT_EQ(values[0x38], 1.0f);
  EXPECT_EQ(values[0xB9], -1.125f);
  EXPECT_EQ(values[0x7E], 448.0f);
  EXPECT_TRUE(std::isnan(values[0x7F]));
  EXPECT_TRUE(std::isnan(values[0xFF]));
}

}  // namespace
}  // namespace lockstep
