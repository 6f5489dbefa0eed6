#include "attention/storage.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <vector>

#include "kernels/table.h"

namespace lockstep {
namespace {

CacheGeometry geometry_of(const KvLayout& layout, DType dtype, int32_t softmax_layers,
                          int32_t recurrent_layers) {
  return {
      .layout = layout,
      .kv = {.dtype = dtype, .num_pages = 6, .page_tokens = 3, .heads = 2, .head_dim = 16},
      .softmax_layers = softmax_layers,
      .state =
          {.slots = 5, .conv_channels = 7, .conv_width = 4, .value_heads = 3, .key_dim = 5, .value_dim = 2},
      .recurrent_layers = recurrent_layers,
      .table_rows = 3,
      .max_pages_per_seq = 5};
}

// Pages that compressed keys can have.
CacheGeometry with_compressed(CacheGeometry geometry) {
  geometry.kv.page_tokens = 128;
  geometry.compressed_pages = 4;
  return geometry;
}

// Every layout with layers of both kinds in several proportions, and of one kind only.
std::vector<CacheGeometry> all_geometries() {
  std::vector<CacheGeometry> geometries;
  for (const KvLayout& layout : all_kv_layouts()) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const auto& [softmax, delta] : {std::pair(1, 3), {2, 3}, {2, 1}, {2, 0}, {0, 2}})
        geometries.push_back(geometry_of(layout, dtype, softmax, delta));
    }
  }
  return geometries;
}

std::string describe(const CacheGeometry& g) {
  return concat(g.layout, " ", g.kv.dtype, ", ", g.softmax_layers, " softmax and ", g.recurrent_layers,
                " delta layers");
}

struct Cache {
  Arena arena;
  CacheStorage storage;

  static Cache of(const CacheGeometry& geometry) {
    Arena arena = Arena::create("cache", CacheStorage::footprint(geometry).value()).value();
    CacheStorage storage = CacheStorage::create(geometry, arena).value();
    return {std::move(arena), std::move(storage)};
  }

  // Calls visit(address, bytes) for every element that a view leads to, always in the same order; `page` and
  // `slot` choose one, -1 all.
  template <typename Visit>
  void for_each_kv(int64_t page, const Visit& visit) const {
    for (int32_t layer = 0; layer < storage.geometry().softmax_layers; ++layer) {
      const KvView& kv = storage.kv(layer);
      const int64_t width = size_of(kv.dtype);
      for (const KvPlane* plane : {&kv.k, &kv.v}) {
        for (int64_t p = page < 0 ? 0 : page; p < (page < 0 ? kv.num_pages : page + 1); ++p) {
          for (int64_t i = 0; i < int64_t{kv.page_tokens} * kv.heads * kv.head_dim; ++i) {
            const int64_t d = i % kv.head_dim, head = i / kv.head_dim % kv.heads,
                          token = i / kv.head_dim / kv.heads;
            visit(static_cast<char*>(plane->data) + plane->offset(p, head, token, d) * width, width);
          }
        }
      }
    }
  }
  template <typename Visit>
  void for_each_state(int64_t slot, const Visit& visit) const {
    for (int32_t layer = 0; layer < storage.geometry().recurrent_layers; ++layer) {
      for (const TensorView& view : {storage.state(layer).conv, storage.state(layer).memory}) {
        const int64_t each = view.elements() / view.dim(0);
        ASSERT_TRUE(view.rows(0, 1).is_contiguous());
        for (int64_t s = slot < 0 ? 0 : slot; s < (slot < 0 ? view.dim(0) : slot + 1); ++s) {
          for (int64_t i = 0; i < each; ++i)
            visit(view.as<char>() + (s * view.stride(0) + i) * 4, int64_t{4});
        }
      }
    }
  }
  template <typename Visit>
  void for_each_element(const Visit& visit) const {
    for_each_kv(-1, visit);
    for_each_state(-1, visit);
    const TensorView& table = storage.page_table();
    if (!table) return;
    for (int64_t i = 0; i < table.elements(); ++i) visit(table.as<char>() + i * 4, int64_t{4});
  }

  // Numbers every element; 16 bits are enough to tell all of them apart.
  uint32_t number() const {
    uint32_t next = 0;
    for_each_element([&](char* at, int64_t width) {
      ++next;
      std::memcpy(at, &next, static_cast<size_t>(width));
    });
    EXPECT_LT(next, 65536u);
    return next;
  }
  static uint32_t value_at(const char* at, int64_t width) {
    uint32_t value = 0;
    std::memcpy(&value, at, static_cast<size_t>(width));
    return value;
  }
  using Values = std::vector<uint32_t>;
  Values pages(int64_t page) const {
    Values values;
    for_each_kv(page, [&](const char* at, int64_t width) { values.push_back(value_at(at, width)); });
    return values;
  }
  Values states(int64_t slot) const {
    Values values;
    for_each_state(slot, [&](const char* at, int64_t width) { values.push_back(value_at(at, width)); });
    return values;
  }
};

TEST(CacheStorage, TakesExactlyItsFootprint) {
  for (const CacheGeometry& geometry : all_geometries()) {
    const Result<int64_t> footprint = CacheStorage::footprint(geometry);
    ASSERT_TRUE(footprint.ok()) << footprint.status().message();
    Arena arena = Arena::create("cache", *footprint).value();
    ASSERT_TRUE(CacheStorage::create(geometry, arena).ok());

    EXPECT_EQ(arena.used(), *footprint) << describe(geometry);
  }
}

// What is written through one view is read through that view alone.
TEST(CacheStorage, NoTwoElementsOfAnyLayerPageSlotOrTableShareAByte) {
  for (const CacheGeometry& geometry : all_geometries()) {
    SCOPED_TRACE(describe(geometry));
    const Cache cache = Cache::of(geometry);
    const uint32_t count = cache.number();

    uint32_t next = 0, wrong = 0, outside = 0;
    cache.for_each_element([&](const char* at, int64_t width) {
      ++next;
      wrong += Cache::value_at(at, width) != next ? 1 : 0;
      const bool inside = cache.arena.contains(at) && cache.arena.contains(at + width - 1);
      outside += inside && cache.arena.offset_of(at) + width <= cache.arena.used() ? 0 : 1;
    });

    EXPECT_EQ(next, count);
    EXPECT_EQ(wrong, 0u) << "elements were overwritten through other views";
    EXPECT_EQ(outside, 0u);
  }
}

TEST(CacheStorage, ALayersStatesBeginAtALine) {
  for (const CacheGeometry& geometry : all_geometries()) {
    const Cache cache = Cache::of(geometry);
    for (int32_t layer = 0; layer < geometry.recurrent_layers; ++layer) {
      const StateView& state = cache.storage.state(layer);
      EXPECT_EQ(state.conv.shape, Shape({5, 7, 3}));
      EXPECT_EQ(state.memory.shape, Shape({5, 3, 5, 2}));
      for (int64_t slot = 0; slot < 5; ++slot) {
        EXPECT_EQ(reinterpret_cast<uintptr_t>(state.conv.rows(slot, 1).data) % 64, 0u) << describe(geometry);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(state.memory.rows(slot, 1).data) % 64, 0u)
            << describe(geometry);
      }
    }
  }
}

class CacheCopies : public ::testing::Test {
 protected:
  Stream stream_{2};
  Launcher on_{kernel_table(Isa::kReference), stream_};
  // Entries past the live ones name nothing that exists.
  std::vector<int32_t> list_ = {1, 3, 2, 4, -7, 1000};
  TensorView copies_ = view(list_, {3, 2});
  int32_t num_copies_ = 2;
};

TEST_F(CacheCopies, MoveWholePagesOfEverySoftmaxLayerAndNothingElse) {
  for (const CacheGeometry& geometry : all_geometries()) {
    if (geometry.softmax_layers == 0) continue;
    SCOPED_TRACE(describe(geometry));
    const Cache cache = Cache::of(geometry);
    cache.number();
    std::vector<Cache::Values> expected;
    for (int64_t page = 0; page < 6; ++page) expected.push_back(cache.pages(page));
    expected[3] = expected[1];
    expected[4] = expected[2];
    const Cache::Values states = cache.states(-1);

    const Status status = cache.storage.copy_pages(on_, copies_, &num_copies_);

    ASSERT_TRUE(status.ok()) << status.message();
    for (int64_t page = 0; page < 6; ++page)
      EXPECT_EQ(cache.pages(page), expected[static_cast<size_t>(page)]) << page;
    EXPECT_EQ(cache.states(-1), states);
  }
}

TEST_F(CacheCopies, MoveWholeStatesOfEveryDeltaLayerAndNothingElse) {
  for (const CacheGeometry& geometry : all_geometries()) {
    if (geometry.recurrent_layers == 0) continue;
    SCOPED_TRACE(describe(geometry));
    const Cache cache = Cache::of(geometry);
    cache.number();
    std::vector<Cache::Values> expected;
    for (int64_t slot = 0; slot < 5; ++slot) expected.push_back(cache.states(slot));
    expected[3] = expected[1];
    expected[4] = expected[2];
    const Cache::Values pages = cache.pages(-1);

    const Status status = cache.storage.copy_states(on_, copies_, &num_copies_);

    ASSERT_TRUE(status.ok()) << status.message();
    for (int64_t slot = 0; slot < 5; ++slot)
      EXPECT_EQ(cache.states(slot), expected[static_cast<size_t>(slot)]) << slot;
    EXPECT_EQ(cache.pages(-1), pages);
  }
}

TEST_F(CacheCopies, MoveNothingWhereTheListIsEmpty) {
  const Cache cache = Cache::of(geometry_of({}, DType::kF32, 2, 3));
  cache.number();
  const Cache::Values pages = cache.pages(-1), states = cache.states(-1);
  num_copies_ = 0;

  ASSERT_TRUE(cache.storage.copy_pages(on_, copies_, &num_copies_).ok());
  ASSERT_TRUE(cache.storage.copy_states(on_, copies_, &num_copies_).ok());

  EXPECT_EQ(cache.pages(-1), pages);
  EXPECT_EQ(cache.states(-1), states);
}

TEST(CacheStorage, RefusesMoreStatesThanThePagesTheyLieBehind) {
  CacheGeometry geometry = geometry_of({.pool = KvPool::kShared}, DType::kF32, 2, 2);
  geometry.state.slots = 7;

  const Result<int64_t> refused = CacheStorage::footprint(geometry);

  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), Code::kInvalidArgument);
  EXPECT_EQ(refused.status().message(),
            "kv layout apart/token/shared: 7 state slots; expected at most as many as the 6 pages they lie "
            "behind; lower --num-state-slots or raise --num-pages");
}

TEST(CacheStorage, RefusesALayoutThatCannotHoldTheHeads) {
  CacheGeometry geometry = geometry_of({.order = KvOrder::kShuffled, .chunk = 16}, DType::kF32, 2, 2);
  geometry.kv.head_dim = 24;

  const Result<int64_t> refused = CacheStorage::footprint(geometry);

  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().message(),
            "kv layout apart/shuffled16: head size is 24; expected a multiple of the chunk");
}

TEST(CacheStorage, RefusesSizesThatNoAddressSpaceHolds) {
  for (const KvPool pool : {KvPool::kOwn, KvPool::kShared}) {
    CacheGeometry geometry = geometry_of({.pool = pool}, DType::kF32, 64, 2);
    geometry.kv = {
        .dtype = DType::kF32, .num_pages = 1 << 30, .page_tokens = 1 << 16, .heads = 64, .head_dim = 128};

    const Result<int64_t> refused = CacheStorage::footprint(geometry);

    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.status().code(), Code::kResourceExhausted);
    EXPECT_EQ(
        refused.status().message(),
        "cache: 1073741824 pages of 65536 tokens and 5 states take more than 2^60 bytes; lower --num-pages, "
        "--page-size or --num-state-slots");
  }
}

TEST(CacheStorage, SaysThatItsArenaIsTooSmall) {
  Arena arena = Arena::create("cache", 1).value();
  (void)*arena.allocate("all of it", DType::kU8, {arena.capacity()});

  const Result<CacheStorage> refused = CacheStorage::create(geometry_of({}, DType::kF32, 1, 0), arena);

  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().message(),
            "arena cache: kv cache [4608] u8 needs 4608 bytes; 0 of 2097152 are left");
}

TEST(CacheStorage, GivesCompressedKeysBytesOfTheirOwn) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const CacheGeometry geometry = with_compressed(geometry_of(KvLayout{}, dtype, 2, 1));
    const Cache cache = Cache::of(geometry);
    EXPECT_EQ(cache.arena.used(), CacheStorage::footprint(geometry).value());
    std::set<const void*> elements;
    const auto add = [&](const TensorView& keys) {
      for (int64_t i = 0; i < keys.elements(); ++i) {
        const int64_t d = i % 16, row = i / 16 % keys.dim(2), rest = i / 16 / keys.dim(2);
        const int64_t at = rest / 2 * keys.stride(0) + rest % 2 * keys.stride(1) + row * keys.stride(2) + d;
        EXPECT_TRUE(elements.insert(static_cast<char*>(keys.data) + at * size_of(dtype)).second);
      }
    };
    for (int32_t layer = 0; layer < 2; ++layer) {
      const CompressedView& view = cache.storage.compressed(layer);
      EXPECT_EQ(view.k1.shape, (Shape{4, 2, 8, 16}));
      EXPECT_EQ(view.k2.shape, (Shape{4, 2, 2, 16}));
      add(view.k1);
      add(view.k2);
    }
    EXPECT_EQ(elements.size(), 2u * 4 * 2 * (8 + 2) * 16);
    EXPECT_EQ(cache.storage.compressed_table().shape, (Shape{3, 5}));
  }
}

TEST(CacheStorage, MovesWholePagesOfCompressedKeys) {
  const Cache cache = Cache::of(with_compressed(geometry_of(KvLayout{}, DType::kF32, 2, 0)));
  const auto page_of = [&](int32_t layer, int64_t page) {
    return cache.storage.compressed(layer).k1.as<float>() + page * (8 + 2) * 2 * 16;
  };
  for (int32_t layer = 0; layer < 2; ++layer) {
    for (int64_t i = 0; i < 4 * 320; ++i) page_of(layer, 0)[i] = static_cast<float>(layer * 5000 + i);
  }
  std::vector<int32_t> copies = {3, 1};
  const int32_t count = 1;
  Stream stream(1);
  const Launcher on{kernel_table(Isa::kReference), stream};
  ASSERT_TRUE(cache.storage.copy_compressed(on, view(copies, {1, 2}), &count).ok());
  for (int32_t layer = 0; layer < 2; ++layer) {
    for (int64_t page = 0; page < 4; ++page) {
      const int64_t from = page == 1 ? 3 : page;
      for (int64_t i = 0; i < 320; ++i)
        ASSERT_EQ(page_of(layer, page)[i], static_cast<float>(layer * 5000 + from * 320 + i)) << page;
    }
  }
}

TEST(CacheStorage, RefusesCompressedKeysOfPagesThatHoldNoWholeBlocks) {
  CacheGeometry geometry = with_compressed(geometry_of(KvLayout{}, DType::kF32, 1, 0));
  geometry.kv.page_tokens = 96;
  EXPECT_EQ(CacheStorage::footprint(geometry).status().message(),
            "compressed keys: pages have 96 tokens; expected a multiple of 64; choose another --page-size");
}

}  // namespace
}  // namespace lockstep
