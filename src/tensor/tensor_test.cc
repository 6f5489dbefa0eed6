#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace lockstep {
namespace {

std::vector<float> counting(size_t size) {
  std::vector<float> values(size);
  std::iota(values.begin(), values.end(), 0.0f);
  return values;
}

// Element of a view by its strides, as a kernel finds it.
float at(const TensorView& view, std::initializer_list<int64_t> index) {
  int64_t offset = 0;
  int i = 0;
  for (const int64_t place : index) offset += place * view.stride(i++);
  return view.as<const float>()[offset];
}

TEST(Shape, CountsItsElementsAndPrints) {
  EXPECT_EQ(Shape({2, 3, 4}).elements(), 24);
  EXPECT_EQ(Shape().elements(), 1);
  EXPECT_EQ(Shape({5, 0}).elements(), 0);
  EXPECT_EQ(Shape({int64_t{1} << 20, int64_t{1} << 20}).elements(), int64_t{1} << 40);
  EXPECT_EQ(concat(Shape({7, 4}), Shape()), "[7, 4][]");
  EXPECT_NE(Shape({1, 2}), Shape({1, 2, 1}));
}

TEST(TensorView, OfDenseMemoryIsRowMajor) {
  std::vector<float> values = counting(24);
  const TensorView dense = view(values, {2, 3, 4});

  EXPECT_EQ(dense.strides[0], 12);
  EXPECT_EQ(dense.strides[1], 4);
  EXPECT_EQ(dense.strides[2], 1);
  EXPECT_EQ(at(dense, {1, 2, 3}), 23);
  EXPECT_EQ(dense.bytes(), 96);
  EXPECT_TRUE(dense.is_contiguous());
}

TEST(TensorView, PicksRowsAndColumnsOfTheSameMemory) {
  std::vector<float> values = counting(24);
  const TensorView dense = view(values, {4, 6});

  const TensorView rows = dense.rows(1, 2);
  const TensorView columns = dense.columns(4, 2);
  const TensorView both = dense.rows(2, 2).columns(1, 3);

  EXPECT_EQ(rows.shape, Shape({2, 6}));
  EXPECT_EQ(at(rows, {0, 0}), 6);
  EXPECT_TRUE(rows.is_contiguous());
  EXPECT_EQ(columns.shape, Shape({4, 2}));
  EXPECT_EQ(at(columns, {3, 1}), 23);
  EXPECT_FALSE(columns.is_contiguous());
  EXPECT_EQ(at(both, {0, 0}), 13);
  EXPECT_EQ(at(both, {1, 2}), 21);
  EXPECT_EQ(dense.rows(4, 0).elements(), 0);
}

// [query | gate] per head: the queries of all heads, then the gates of all heads, without a copy.
TEST(TensorView, SeesHeadsInColumns) {
  constexpr int64_t kRows = 3, kHeads = 2, kDim = 4;
  std::vector<float> values = counting(kRows * 20);
  const TensorView all = view(values, {kRows, 20});

  const TensorView queries = all.heads(0, kHeads, kDim, 2 * kDim);
  const TensorView gates = all.heads(kDim, kHeads, kDim, 2 * kDim);
  const TensorView keys = all.heads(2 * kHeads * kDim, 1, kDim, kDim);

  EXPECT_EQ(queries.shape, Shape({kRows, kHeads, kDim}));
  for (int64_t t = 0; t < kRows; ++t) {
    for (int64_t h = 0; h < kHeads; ++h) {
      for (int64_t d = 0; d < kDim; ++d) {
        EXPECT_EQ(at(queries, {t, h, d}), static_cast<float>(t * 20 + h * 8 + d));
        EXPECT_EQ(at(gates, {t, h, d}), static_cast<float>(t * 20 + h * 8 + 4 + d));
      }
    }
    EXPECT_EQ(at(keys, {t, 0, 3}), static_cast<float>(t * 20 + 19));
  }
}

TEST(TensorView, ReshapesWhatIsContiguous) {
  std::vector<float> values = counting(24);
  const TensorView dense = view(values, {4, 6});

  EXPECT_EQ(at(dense.reshaped({2, 2, 6}), {1, 1, 5}), 23);
  EXPECT_EQ(at(dense.rows(1, 2).reshaped({12}), {11}), 17);
}

TEST(TensorView, IgnoresTheStrideOfADimensionOfOne) {
  std::vector<float> values = counting(6);
  TensorView one = view(values, {1, 6});
  one.strides[0] = 1000;

  EXPECT_TRUE(one.is_contiguous());
  EXPECT_FALSE(view(values, {3, 2}).columns(0, 1).is_contiguous());
}

TEST(TensorViewDeathTest, RefusesToLeaveItsMemory) {
  std::vector<float> values = counting(24);
  const TensorView dense = view(values, {4, 6});

  EXPECT_DEATH((void)dense.rows(3, 2), "rows 3\\+2 of \\[4, 6\\]");
  EXPECT_DEATH((void)dense.rows(-1, 2), "rows -1\\+2 of \\[4, 6\\]");
  EXPECT_DEATH((void)dense.columns(5, 2), "columns 5\\+2 of \\[4, 6\\]");
  EXPECT_DEATH((void)dense.heads(0, 2, 4, 4), "2 heads of 4 in \\[4, 6\\]");
  EXPECT_DEATH((void)dense.heads(-1, 1, 4, 4), "1 heads of 4 in \\[4, 6\\]");
  EXPECT_DEATH((void)dense.columns(0, 3).reshaped({12}), "\\[4, 3\\] as \\[12\\]");
  EXPECT_DEATH((void)dense.reshaped({5, 5}), "\\[4, 6\\] as \\[5, 5\\]");
  EXPECT_DEATH((void)view(values, {5, 5}), "container of 24");
}

class BindDims : public ::testing::Test {
 protected:
  std::vector<float> values_ = counting(64);
  TensorView x_ = view(values_, {7, 4});
  TensorView weight_ = view(values_, {4});
};

TEST_F(BindDims, AcceptsEqualLettersOfEqualExtent) {
  const TensorView square = view(values_, {4, 4});
  const Status status =
      bind_dims("op", {{"x", x_, "TE"}, {"weight", weight_, "E"}, {"square", square, "EE"}});
  EXPECT_TRUE(status.ok()) << status.message();
}

TEST_F(BindDims, NamesTheLetterAndTheTensorThatSetIt) {
  const TensorView narrow = view(values_, {3});
  const Status status = bind_dims("rms_norm", {{"x", x_, "TE"}, {"weight", narrow, "E"}});

  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_EQ(status.message(), "rms_norm: weight has shape [3]; expected E = 4 as in x [7, 4]");
}

TEST_F(BindDims, HoldsOneTensorToItself) {
  const Status status = bind_dims("op", {{"x", x_, "EE"}});
  EXPECT_EQ(status.message(), "op: x has shape [7, 4]; expected E = 7 as in x [7, 4]");
}

TEST_F(BindDims, NamesTheRankThatIsWrong) {
  const Status status = bind_dims("op", {{"x", x_, "TKD"}});
  EXPECT_EQ(status.message(), "op: x has shape [7, 4]; expected 3 dimensions TKD");
}

TEST_F(BindDims, SkipsWhatIsAbsent) {
  const TensorView absent;
  const Status status = bind_dims("op", {{"absent", absent, "TE"}, {"x", x_, "TE"}});
  EXPECT_TRUE(status.ok()) << status.message();
}

}  // namespace
}  // namespace lockstep
