#include "kernels/kv_cache/kv_layout.h"

#include <gtest/gtest.h>

#include <set>

namespace lockstep {
namespace {

KvGeometry geometry_of(const KvLayout& layout, DType dtype = DType::kBF16) {
  KvGeometry geometry{.dtype = dtype, .num_pages = 3, .page_tokens = 5, .heads = 2, .head_dim = 16};
  if (layout.pool == KvPool::kShared) geometry.shared_page_bytes = kv_page_bytes(layout, geometry) + 24;
  return geometry;
}

// Byte offsets from the base of every element of one page, keys and values.
std::set<int64_t> bytes_of_page(const KvView& cache, const char* base, int64_t page) {
  std::set<int64_t> offsets;
  for (const KvPlane* plane : {&cache.k, &cache.v}) {
    for (int64_t head = 0; head < cache.heads; ++head) {
      for (int64_t token = 0; token < cache.page_tokens; ++token) {
        for (int64_t d = 0; d < cache.head_dim; ++d) {
          const int64_t element = plane->offset(page, head, token, d) * size_of(cache.dtype);
          offsets.insert(static_cast<const char*>(plane->data) + element - base);
        }
      }
    }
  }
  return offsets;
}

TEST(KvLayout, HasAnIdThatReadsBack) {
  std::set<std::string> ids;
  for (const KvLayout& layout : all_kv_layouts()) {
    const Result<KvLayout> parsed = parse_kv_layout(id_of(layout));
    ASSERT_TRUE(parsed.ok()) << layout;
    EXPECT_EQ(*parsed, layout) << layout;
    ids.insert(id_of(layout));
  }
  EXPECT_EQ(ids.size(), 20u);
  EXPECT_TRUE(ids.contains("apart/token"));
  EXPECT_TRUE(ids.contains("interleaved/head"));
  EXPECT_TRUE(ids.contains("apart/shuffled8"));
  EXPECT_TRUE(ids.contains("interleaved/shuffled16/shared"));
}

TEST(KvLayout, NamesAnIdThatItDoesNotKnow) {
  for (const std::string id :
       {"", "apart", "apart/shuffled", "apart/shuffled3", "token/apart", "apart/token/"}) {
    EXPECT_EQ(
        parse_kv_layout(id).status().message(),
        "kv layout: given \"" + id +
            "\"; expected apart or interleaved, /token, /head, /shuffled4, /shuffled8 or /shuffled16, and "
            "/shared for a padded pool, as in apart/token");
  }
}

TEST(KvLayout, GivesEveryElementBytesOfItsOwnInsideTheCache) {
  for (const KvLayout& layout : all_kv_layouts()) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      const KvGeometry geometry = geometry_of(layout, dtype);
      ASSERT_TRUE(check_kv_layout(layout, geometry).ok()) << layout;
      std::vector<char> memory(static_cast<size_t>(kv_cache_bytes(layout, geometry)));
      const KvView cache = make_kv_view(memory.data(), layout, geometry);

      std::set<int64_t> all;
      for (int64_t page = 0; page < geometry.num_pages; ++page) {
        all.merge(bytes_of_page(cache, memory.data(), page));
      }

      EXPECT_EQ(all.size(), 2u * 3 * 2 * 5 * 16) << layout;  // planes, pages, heads, tokens, elements
      EXPECT_GE(*all.begin(), 0) << layout;
      EXPECT_LE(*all.rbegin() + size_of(dtype), kv_cache_bytes(layout, geometry)) << layout;
      for (const int64_t offset : all) ASSERT_EQ(offset % size_of(dtype), 0) << layout;
    }
  }
}

TEST(KvLayout, OrdersElementsAsItsNameSays) {
  const auto offset = [](const char* id, int64_t page, int64_t head, int64_t token, int64_t d) {
    const KvLayout layout = parse_kv_layout(id).value();
    return make_kv_view(nullptr, layout, geometry_of(layout)).k.offset(page, head, token, d);
  };
  // 5 tokens of 2 heads of 16 elements: 160 elements in a plane of a page.
  EXPECT_EQ(offset("apart/token", 1, 1, 3, 7), 160 + 3 * 32 + 16 + 7);
  EXPECT_EQ(offset("apart/head", 1, 1, 3, 7), 160 + 80 + 3 * 16 + 7);
  EXPECT_EQ(offset("apart/shuffled4", 1, 1, 3, 7), 160 + 80 + 1 * 20 + 3 * 4 + 3);
  EXPECT_EQ(offset("interleaved/token", 1, 0, 0, 0), 320);
  EXPECT_EQ(offset("interleaved/token/shared", 1, 0, 0, 0), 320 + 12);  // 24 bytes of gap
}

TEST(KvLayout, KnowsTheRunsOfAPage) {
  for (const KvLayout& layout : all_kv_layouts()) {
    const KvGeometry geometry = geometry_of(layout);
    std::vector<char> memory(static_cast<size_t>(kv_cache_bytes(layout, geometry)));
    const KvView cache = make_kv_view(memory.data(), layout, geometry);
    const KvPageRuns runs = kv_page_runs(layout, geometry);
    for (int64_t page = 0; page < geometry.num_pages; ++page) {
      std::set<int64_t> expected;
      for (int64_t run = 0; run < runs.runs; ++run) {
        const int64_t begin = page * runs.page_stride_bytes + run * runs.run_stride_bytes;
        for (int64_t byte = 0; byte < runs.run_bytes; byte += 2) expected.insert(begin + byte);
      }
      EXPECT_EQ(bytes_of_page(cache, memory.data(), page), expected) << layout << " page " << page;
    }
  }
}

TEST(KvLayout, NamesAGeometryThatItCannotHold) {
  const KvLayout apart = parse_kv_layout("apart/token").value();
  const KvLayout shuffled = parse_kv_layout("apart/shuffled8").value();
  const KvLayout shared = parse_kv_layout("interleaved/head/shared").value();
  const auto refusal = [](const KvLayout& layout, const KvGeometry& geometry) {
    return check_kv_layout(layout, geometry).message();
  };
  KvGeometry geometry = geometry_of(apart);

  EXPECT_EQ(refusal(apart, geometry), "");
  geometry.dtype = DType::kI8;
  EXPECT_EQ(refusal(apart, geometry), "kv layout apart/token: dtype is i8; expected f32, f16 or bf16");
  geometry = geometry_of(apart);
  geometry.page_tokens = 0;
  EXPECT_EQ(refusal(apart, geometry),
            "kv layout apart/token: 3 pages of 0 tokens, 2 heads of 16; expected at least 1 of each");
  geometry = geometry_of(apart);
  geometry.shared_page_bytes = 4096;
  EXPECT_EQ(refusal(apart, geometry),
            "kv layout apart/token: shared_page_bytes is 4096; expected 0 in an own pool");
  geometry = geometry_of(shuffled);
  geometry.head_dim = 20;
  EXPECT_EQ(refusal(shuffled, geometry),
            "kv layout apart/shuffled8: head size is 20; expected a multiple of the chunk");
  geometry = geometry_of(shared);
  geometry.shared_page_bytes = 639;
  EXPECT_EQ(
      refusal(shared, geometry),
      "kv layout interleaved/head/shared: shared_page_bytes is 639; expected at least 640, the bytes of one "
      "page");
  geometry.shared_page_bytes = 641;
  EXPECT_EQ(
      refusal(shared, geometry),
      "kv layout interleaved/head/shared: shared_page_bytes is 641; expected a multiple of 2, the bytes of "
      "one bf16");
}

}  // namespace
}  // namespace lockstep
