#include "kernels/kv_cache/kv_cache.h"

#include <gtest/gtest.h>

#include "kernels/common/elements.h"
#include "kernels/common/test_support.h"
#include "kernels/kv_cache/kv_layout.h"

namespace lockstep {
namespace {

using namespace testing;  // NOLINT

// Seven rows for a cache of 6 pages: two sequences, a SKIP among them, and two pad rows of NaN whose slots,
// if they were read, would hit a page that nobody owns.
struct StoreProblem {
  static constexpr int64_t kRows = 7, kLive = 5, kHeads = 3;
  int64_t size;
  KvGeometry geometry;
  std::vector<unsigned char> memory;
  KvView cache;
  std::vector<float> k, v;
  std::vector<int64_t> slots;
  LiveRows num_rows{kLive};

  StoreProblem(const KvLayout& layout, DType dtype, int32_t page_tokens, int32_t head_dim) : size(head_dim) {
    geometry = {.dtype = dtype,
                .num_pages = 6,
                .page_tokens = page_tokens,
                .heads = static_cast<int32_t>(kHeads),
                .head_dim = head_dim};
    if (layout.pool == KvPool::kShared) geometry.shared_page_bytes = kv_page_bytes(layout, geometry) + 12;
    memory.assign(static_cast<size_t>(kv_cache_bytes(layout, geometry)), 0xFF);
    cache = make_kv_view(memory.data(), layout, geometry);
    std::mt19937 random(4);
    k = random_floats(static_cast<size_t>(kRows * row_stride()), random, 100.0f);
    v = random_floats(static_cast<size_t>(kRows * row_stride()), random, 1e-3f);
    k[3] = std::numeric_limits<float>::infinity();
    v[2] = kNan;
    std::fill(k.begin() + kLive * row_stride(), k.end(), kNan);
    std::fill(v.begin() + kLive * row_stride(), v.end(), kNan);
    const int64_t last = page_tokens - 1;
    slots = {3 * page_tokens + last, page_tokens, -1, 2 * page_tokens + last, 5 * page_tokens, -1,
             4 * page_tokens};
  }

  int64_t row_stride() const { return kHeads * (size + 1) + 4; }
  TensorView of(std::vector<float>& values) const {
    return strided(values, {kRows, kHeads, size}, {row_stride(), size + 1, 1});
  }
  StoreKvArgs args() {
    return {
        .k = of(k), .v = of(v), .slot_mapping = view(slots, {kRows}), .cache = cache, .num_rows = &num_rows};
  }
  // The bytes of the whole pool after a plain store.
  std::vector<unsigned char> expected() const {
    std::vector<unsigned char> bytes(memory.size(), 0xFF);
    const auto put = [&](const KvPlane& plane, int64_t offset, float value) {
      const int64_t plane_at = static_cast<const unsigned char*>(plane.data) - memory.data();
      store_element(bytes.data() + plane_at, geometry.dtype, offset, value);
    };
    for (int64_t t = 0; t < kLive; ++t) {
      const int64_t slot = slots[static_cast<size_t>(t)];
      for (int64_t i = 0; slot >= 0 && i < kHeads * size; ++i) {
        const int64_t head = i / size, d = i % size;
        const auto from = static_cast<size_t>(t * row_stride() + head * (size + 1) + d);
        const int64_t page = slot / cache.page_tokens, token = slot % cache.page_tokens;
        put(cache.k, cache.k.offset(page, head, token, d), k[from]);
        put(cache.v, cache.v.offset(page, head, token, d), v[from]);
      }
    }
    return bytes;
  }
};

TEST(StoreKv, WritesLiveSlotsAndNothingElseInEveryLayout) {
  for (const KernelTable* table : runnable_tables()) {
    for (const KvLayout& layout : all_kv_layouts()) {
      for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
        for (const int32_t page_tokens : {1, 16, 64}) {
          for (const int32_t size : {16, 80, 128}) {
            StoreProblem problem(layout, dtype, page_tokens, size);
            const std::vector<unsigned char> expected = problem.expected();
            Stream stream(1);
            ASSERT_TRUE(store_kv({*table, stream}, problem.args(), "test").ok());
            ASSERT_TRUE(problem.memory == expected)
                << table->name << " " << layout << " " << dtype << " B " << page_tokens << " D " << size;
          }
        }
      }
    }
  }
}

TEST(StoreKv, RoundsToNearestEvenAndKeepsHeadSizesThatFillNoVector) {
  for (const KernelTable* table : runnable_tables()) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      for (const int32_t size : {1, 7, 17, 33}) {
        for (const int threads : {2, 5}) {
          StoreProblem problem(parse_kv_layout("interleaved/head").value(), dtype, 16, size);
          // Halfway between neighbours of bf16 and f16, the largest f16, a subnormal f16, the smallest f32.
          const std::vector<float> special = {1.00390625f, 1.01171875f, 1.00048828125f, 65519.0f,
                                              65520.0f,    6e-8f,       -0.0f,          1e-45f};
          for (size_t i = 0; i < special.size(); ++i) problem.k[i] = special[i];
          const std::vector<unsigned char> expected = problem.expected();
          Stream stream(threads);
          ASSERT_TRUE(store_kv({*table, stream}, problem.args(), "test").ok());
          ASSERT_TRUE(problem.memory == expected) << table->name << " " << dtype << " D " << size;
        }
      }
    }
  }
}

TEST(StoreKv, NamesWhatDoesNotFit) {
  StoreProblem problem(parse_kv_layout("apart/shuffled8").value(), DType::kBF16, 16, 16);
  Stream stream(1);
  const KernelTable empty{.name = "empty"};
  const KernelTable& table = kernel_table(Isa::kReference);
  const auto refusal = [&](const StoreKvArgs& given, const KernelTable& from) {
    return store_kv({from, stream}, given, "test").message();
  };
  const StoreKvArgs args = problem.args();

  EXPECT_EQ(refusal(args, table), "");
  EXPECT_EQ(refusal(args, empty),
            "store_kv: the kernel table empty has no such kernel; use the table of another instruction set");
  StoreKvArgs shape = args;
  shape.cache.heads = 4;
  EXPECT_EQ(refusal(shape, table),
            "store_kv: k has shape [7, 3, 16]; expected K = 4 and D = 16 as in the cache");
  StoreKvArgs dtype = args;
  dtype.cache.dtype = DType::kF8E4M3;
  EXPECT_EQ(refusal(dtype, table), "store_kv: cache is f8e4m3; expected f32, f16 or bf16");
  StoreKvArgs slots = args;
  slots.slot_mapping.dtype = DType::kI32;
  EXPECT_EQ(refusal(slots, table), "store_kv: slot_mapping is i32; expected i64");
  StoreKvArgs memory = args;
  memory.cache.v.data = nullptr;
  EXPECT_EQ(refusal(memory, table), "store_kv: cache values have no memory; they are required");
  StoreKvArgs chunk = args;
  chunk.cache.k.chunk = 5;
  EXPECT_EQ(refusal(chunk, table), "store_kv: cache keys lie in chunks of 5; expected a divisor of D = 16");
  StoreKvArgs pages = args;
  pages.cache.num_pages = 0;
  EXPECT_EQ(refusal(pages, table),
            "store_kv: cache has 0 pages of 16 tokens, 3 heads of 16; expected at least 1 of each");
}

TEST(TableEdits, WritesTheLiveEditsInOrder) {
  for (const KernelTable* table : runnable_tables()) {
    for (const int threads : {1, 5}) {
      std::vector<int32_t> edits = {1, 2, 7, 0, 0, 9, 1, 2, 8, 2, 1, 5}, pages(9, -1);
      const int32_t count = 3;  // the last edit is no live one
      Stream stream(threads);
      ASSERT_TRUE(
          table_edits({*table, stream},
                      {.edits = view(edits, {4, 3}), .page_table = view(pages, {3, 3}), .num_edits = &count},
                      "test")
              .ok());
      EXPECT_EQ(pages, (std::vector<int32_t>{9, -1, -1, -1, -1, 8, -1, -1, -1}));
    }
  }
}

TEST(TableEdits, NamesWhatDoesNotFit) {
  std::vector<int32_t> edits(6), pages(9);
  const int32_t count = 2;
  Stream stream(1);
  const KernelTable empty{.name = "empty"};
  const KernelTable& table = kernel_table(Isa::kReference);
  const auto refusal = [&](const TableEditsArgs& given, const KernelTable& from) {
    return table_edits({from, stream}, given, "test").message();
  };
  const TableEditsArgs args{
      .edits = view(edits, {2, 3}), .page_table = view(pages, {3, 3}), .num_edits = &count};

  EXPECT_EQ(refusal(args, table), "");
  EXPECT_EQ(
      refusal(args, empty),
      "table_edits: the kernel table empty has no such kernel; use the table of another instruction set");
  TableEditsArgs shape = args;
  shape.edits = view(edits, {3, 2});
  EXPECT_EQ(refusal(shape, table), "table_edits: edits has shape [3, 2]; expected [N, 3]");
  TableEditsArgs dtype = args;
  dtype.page_table.dtype = DType::kI64;
  EXPECT_EQ(refusal(dtype, table), "table_edits: page_table is i64; expected i32");
  TableEditsArgs missing = args;
  missing.num_edits = nullptr;
  EXPECT_EQ(refusal(missing, table), "table_edits: num_edits is null; expected the address of a count");
}

TEST(CopyPages, CopiesWholePagesInOrderInEveryLayout) {
  for (const KernelTable* table : runnable_tables()) {
    for (const KvLayout& layout : all_kv_layouts()) {
      for (const int threads : {1, 2, 5}) {
        StoreProblem problem(layout, DType::kBF16, 5, 16);
        for (size_t i = 0; i < problem.memory.size(); ++i) {
          problem.memory[i] = static_cast<unsigned char>(i * 31 % 251);
        }
        const KvPageRuns runs = kv_page_runs(layout, problem.geometry);
        // Page 4 gets what page 2 got from page 1. Two copies name pages that do not exist, the last is no
        // live one.
        std::vector<int32_t> copies = {1, 2, 2, 4, 3, 3, 6, 1, 1, -1, 5, 0};
        const int32_t count = 5;
        std::vector<unsigned char> expected = problem.memory;
        for (const int64_t target : {2, 4}) {
          for (int64_t run = 0; run < runs.runs; ++run) {
            const auto from = expected.begin() + runs.page_stride_bytes + run * runs.run_stride_bytes;
            std::copy_n(from, runs.run_bytes,
                        expected.begin() + target * runs.page_stride_bytes + run * runs.run_stride_bytes);
          }
        }
        Stream stream(threads);
        ASSERT_TRUE(copy_pages({*table, stream},
                               {.copies = view(copies, {6, 2}),
                                .num_copies = &count,
                                .base = problem.memory.data(),
                                .num_pages = problem.geometry.num_pages,
                                .page_stride_bytes = runs.page_stride_bytes,
                                .segment_stride_bytes = runs.run_stride_bytes,
                                .segment_bytes = runs.run_bytes,
                                .segments = runs.runs},
                               "test")
                        .ok());
        EXPECT_TRUE(problem.memory == expected) << table->name << " " << layout << " threads " << threads;
      }
    }
  }
}

TEST(CopyPages, NamesWhatDoesNotFit) {
  std::vector<int32_t> copies(4);
  std::vector<char> memory(64);
  const int32_t count = 0;
  Stream stream(1);
  const KernelTable empty{.name = "empty"};
  const KernelTable& table = kernel_table(Isa::kReference);
  const auto refusal = [&](const CopyPagesArgs& given, const KernelTable& from) {
    return copy_pages({from, stream}, given, "test").message();
  };
  const CopyPagesArgs args{.copies = view(copies, {2, 2}),
                           .num_copies = &count,
                           .base = memory.data(),
                           .num_pages = 4,
                           .page_stride_bytes = 16,
                           .segment_stride_bytes = 0,
                           .segment_bytes = 16,
                           .segments = 1};

  EXPECT_EQ(refusal(args, table), "");
  EXPECT_EQ(
      refusal(args, empty),
      "copy_pages: the kernel table empty has no such kernel; use the table of another instruction set");
  CopyPagesArgs shape = args;
  shape.copies = view(copies, {4});
  EXPECT_EQ(refusal(shape, table), "copy_pages: copies has shape [4]; expected [N, 2]");
  CopyPagesArgs base = args;
  base.base = nullptr;
  EXPECT_EQ(refusal(base, table), "copy_pages: base has no memory; it is required");
  CopyPagesArgs negative = args;
  negative.segments = -1;
  EXPECT_EQ(
      refusal(negative, table),
      "copy_pages: 4 pages of -1 segments of 16 bytes, 16 bytes from page to page; expected none below 0");
}

// Two ranks, one behind the other: the pad rows of the first stand before the live ones of the second.
TEST(StoreGatheredKv, WritesEveryRowThatHasASlot) {
  for (const KernelTable* table : runnable_tables()) {
    StoreProblem problem(parse_kv_layout("apart/token").value(), DType::kF32, 16, 16);
    StoreProblem same(parse_kv_layout("apart/token").value(), DType::kF32, 16, 16);
    // Row 1 is skipped, and what it had goes to the last row, past those that count as live.
    for (StoreProblem* each : {&problem, &same}) {
      std::swap_ranges(each->k.begin() + each->row_stride(), each->k.begin() + 2 * each->row_stride(),
                       each->k.begin() + 6 * each->row_stride());
      std::swap_ranges(each->v.begin() + each->row_stride(), each->v.begin() + 2 * each->row_stride(),
                       each->v.begin() + 6 * each->row_stride());
      std::swap(each->slots[1], each->slots[5]);
      std::swap(each->slots[5], each->slots[6]);
    }
    same.num_rows = LiveRows(StoreProblem::kRows);
    Stream stream(2);

    ASSERT_TRUE(store_gathered_kv({*table, stream}, problem.args(), "test").ok());
    ASSERT_TRUE(store_kv({*table, stream}, same.args(), "test").ok());

    EXPECT_TRUE(problem.memory == same.memory) << table->name;
    const int64_t last = problem.slots[6];
    ASSERT_GE(last, 0);
    const int64_t at = problem.cache.k.offset(last / 16, 0, last % 16, 0);
    EXPECT_EQ(static_cast<const float*>(problem.cache.k.data)[at],
              problem.k[static_cast<size_t>(6 * problem.row_stride())]);
  }
}

}  // namespace
}  // namespace lockstep
