#include "kernels/common/operands.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "kernels/common/test_support.h"
#include "kernels/kv_cache/kv_layout.h"

namespace lockstep {
namespace {

using namespace testing;

struct Seen {
  std::string access;
  std::vector<ByteRange> ranges;
  bool operator==(const Seen&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Seen& seen) {
  out << seen.access;
  for (const ByteRange& range : seen.ranges) out << " [" << range.begin << ", " << range.end << ")";
  return out;
}
using Operands = std::map<std::string, Seen>;

// Every launch of a stream with its operands, as an observer sees them.
class Watcher {
 public:
  explicit Watcher(Stream& stream) {
    stream.set_observer(
        {.after = [](void* self, const LaunchRecord& launch) { static_cast<Watcher*>(self)->see(launch); },
         .self = this});
  }
  const std::vector<std::string>& ops() const { return ops_; }
  const Operands& of(const std::string& op) { return launches_[op]; }
  std::optional<int64_t> num_rows, segments;  // of the last launch

 private:
  void see(const LaunchRecord& launch) {
    EXPECT_EQ(launch.args_bytes, launch.site.spec->args_bytes);
    ops_.emplace_back(launch.site.op());
    Operands& operands = launches_[ops_.back()];
    for_each_operand(launch, [&](const Operand& operand) {
      const auto ranges = operand.ranges();
      operands[std::string(operand.arg->name)] = {
          std::string(operand.reads() ? "r" : "") + (operand.writes() ? "w" : ""),
          {ranges.begin(), ranges.end()}};
    });
    num_rows = scalar_operand(launch, "num_rows");
    segments = value_operand(launch, "segments");
  }

  std::vector<std::string> ops_;
  std::map<std::string, Operands> launches_;
};

// `count` elements of T from `first` on.
template <typename T>
ByteRange elements(const T* first, int64_t count) {
  return {reinterpret_cast<uintptr_t>(first), reinterpret_cast<uintptr_t>(first + count)};
}
template <typename T>
ByteRange all_of(const std::vector<T>& values) {
  return elements(values.data(), static_cast<int64_t>(values.size()));
}

const KernelTable& best_table() { return kernel_table(detect_cpu().best); }

TEST(Operands, OfStoreKvAreItsRowsAndBothPlanes) {
  // k and v are slices of fused rows of 20: two heads of 4, at 0 and at 10, the last of them without a tail.
  std::vector<float> fused(3 * 20);
  std::vector<int64_t> slots = {4, 9, -1};
  std::vector<float> memory(2 * 5 * 4 * 2 * 4);
  const LiveRows live(2);
  const KvGeometry geometry{.num_pages = 5, .page_tokens = 4, .heads = 2, .head_dim = 4};
  const TensorView rows = view(fused, {3, 20});
  Stream stream(1);
  Watcher watcher(stream);

  ASSERT_TRUE(store_kv({best_table(), stream},
                       {.k = rows.heads(0, 2, 4, 4),
                        .v = rows.heads(10, 2, 4, 5),
                        .slot_mapping = view(slots, {3}),
                        .cache = make_kv_view(memory.data(), {}, geometry),
                        .num_rows = &live},
                       "test")
                  .ok());

  const int64_t plane = 5 * 4 * 2 * 4;
  const Operands expected = {
      {"k", {"r", {elements(fused.data(), 2 * 20 + 8)}}},
      {"v", {"r", {elements(fused.data() + 10, 2 * 20 + 9)}}},
      {"slot_mapping", {"r", {all_of(slots)}}},
      {"cache", {"w", {elements(memory.data(), plane), elements(memory.data() + plane, plane)}}},
      {"num_rows", {"r", {elements(&live, 1)}}}};
  EXPECT_EQ(watcher.of("store_kv"), expected);
  EXPECT_EQ(watcher.num_rows, 2);
  EXPECT_EQ(watcher.segments, std::nullopt);
}

TEST(Operands, OfACacheLieWithinItsMemoryInEveryLayout) {
  for (const KvLayout& layout : all_kv_layouts()) {
    KvGeometry geometry{.dtype = DType::kF16, .num_pages = 3, .page_tokens = 4, .heads = 2, .head_dim = 16};
    if (layout.pool == KvPool::kShared) geometry.shared_page_bytes = kv_page_bytes(layout, geometry) + 6;
    std::vector<char> memory(static_cast<size_t>(kv_cache_bytes(layout, geometry)));
    const StoreKvArgs args{.cache = make_kv_view(memory.data(), layout, geometry)};
    const LaunchRecord launch{{&kStoreKvSpec, "test", 0}, &args, sizeof(args)};

    std::vector<ByteRange> ranges;
    for_each_operand(launch, [&](const Operand& operand) {
      EXPECT_EQ(operand.arg->name, "cache") << "nothing else is there";
      ranges.assign(operand.ranges().begin(), operand.ranges().end());
    });

    ASSERT_EQ(ranges.size(), 2u) << layout;
    for (const KvPlane* plane : {&args.cache.k, &args.cache.v}) {
      const auto* first = static_cast<const Float16*>(plane->data);
      EXPECT_EQ(ranges[plane == &args.cache.v], elements(first, plane->offset(2, 1, 3, 15) + 1)) << layout;
      EXPECT_TRUE(all_of(memory).contains(ranges[plane == &args.cache.v])) << layout;
    }
  }
}

TEST(Operands, OfPagedAttentionAreItsTablesAndBuffers) {
  std::vector<float> q(4 * 2 * 8), out(4 * 2 * 8), memory(2 * 3 * 4 * 8);
  std::vector<int32_t> table = {0, 0, 1, 2}, table_rows = {1}, starts = {0, 3}, lens = {5};
  std::vector<char> workspace(static_cast<size_t>(paged_attention_workspace_bytes(1, 2, 1, 8)));
  const LiveRows rows(3);
  const LiveSeqs seqs(1);
  const KvGeometry geometry{.num_pages = 3, .page_tokens = 4, .heads = 1, .head_dim = 8};
  Stream stream(1);
  Watcher watcher(stream);

  ASSERT_TRUE(paged_attention({best_table(), stream},
                              {.q = view(q, {4, 2, 8}),
                               .cache = make_kv_view(memory.data(), {}, geometry),
                               .page_table = view(table, {2, 2}),
                               .table_rows = view(table_rows, {1}),
                               .query_start_loc = view(starts, {2}),
                               .seq_lens = view(lens, {1}),
                               .out = view(out, {4, 2, 8}),
                               .workspace = dense_view(workspace.data(), DType::kU8,
                                                       {static_cast<int64_t>(workspace.size())}),
                               .num_rows = &rows,
                               .num_seqs = &seqs},
                              "test")
                  .ok());

  const int64_t plane = 3 * 4 * 8;
  const Operands expected = {
      {"q", {"r", {all_of(q)}}},
      {"cache", {"r", {elements(memory.data(), plane), elements(memory.data() + plane, plane)}}},
      {"page_table", {"r", {all_of(table)}}},
      {"table_rows", {"r", {all_of(table_rows)}}},
      {"query_start_loc", {"r", {all_of(starts)}}},
      {"seq_lens", {"r", {all_of(lens)}}},
      {"out", {"w", {all_of(out)}}},
      {"workspace", {"w", {all_of(workspace)}}},
      {"num_rows", {"r", {elements(&rows, 1)}}},
      {"num_seqs", {"r", {elements(&seqs, 1)}}}};
  EXPECT_EQ(watcher.of("paged_attention"), expected);
}

TEST(Operands, OfLinearAreWhatEachOfItsLaunchesTouches) {
  // So many inputs that a launch of their own prepares them.
  const int64_t rows = 32, k = 1024, n = 40;
  std::vector<float> x(static_cast<size_t>(rows * k)), out(static_cast<size_t>(rows * n));
  std::vector<float> weight(static_cast<size_t>(packed_elements(DType::kF32, WeightLayout::kPanel32, n, k)));
  std::vector<char> workspace(static_cast<size_t>(linear_workspace_bytes(rows, k)));
  const LiveRows live(rows);
  Stream stream(1);
  Watcher watcher(stream);

  ASSERT_TRUE(
      linear({best_table(), stream},
             {.x = view(x, {rows, k}),
              .weight = {.data = weight.data(),
                         .dtype = DType::kF32,
                         .layout = WeightLayout::kPanel32,
                         .n = n,
                         .k = k},
              .out = view(out, {rows, n}),
              .workspace = dense_view(workspace.data(), DType::kU8, {static_cast<int64_t>(workspace.size())}),
              .num_rows = &live},
             "test")
          .ok());

  const Operands product = {{"x", {"r", {all_of(x)}}},
                            {"weight", {"r", {all_of(weight)}}},
                            {"out", {"w", {all_of(out)}}},
                            {"workspace", {"r", {all_of(workspace)}}},
                            {"num_rows", {"r", {elements(&live, 1)}}}};
  const Operands prepared = {{"x", {"r", {all_of(x)}}},
                             {"workspace", {"w", {all_of(workspace)}}},
                             {"num_rows", {"r", {elements(&live, 1)}}}};
  EXPECT_EQ(watcher.of("linear"), product);
  if (best_table().linear_prepare != nullptr) {
    EXPECT_EQ(watcher.of("linear_prepare"), prepared);
  }
}

TEST(Operands, OfExpertsAreWhatEachOfTheirLaunchesTouches) {
  const int64_t rows = 3, width = 32, inner = 32, experts = 4, choices = 2;
  std::vector<float> x(static_cast<size_t>(rows * width)), out(x.size());
  std::vector<float> gate_up(static_cast<size_t>(experts * 2 * inner * width));
  std::vector<float> down(static_cast<size_t>(experts * width * inner));
  std::vector<int32_t> ids = {0, 1, 2, 3, -1, -1};
  std::vector<float> weights(ids.size(), 0.5f);
  std::vector<char> workspace(static_cast<size_t>(moe_workspace_bytes(rows, choices, experts, width, inner)));
  const LiveRows live(2);
  const auto packed = [&](std::vector<float>& from, int64_t n, int64_t k) {
    return PackedWeight{.data = from.data(),
                        .dtype = DType::kF32,
                        .layout = WeightLayout::kPanel32,
                        .experts = experts,
                        .n = n,
                        .k = k,
                        .expert_stride = n * k};
  };
  Stream stream(1);
  Watcher watcher(stream);

  ASSERT_TRUE(moe_experts({best_table(), stream},
                          {.x = view(x, {rows, width}),
                           .gate_up = packed(gate_up, 2 * inner, width),
                           .down = packed(down, width, inner),
                           .expert_ids = view(ids, {rows, choices}),
                           .expert_weights = view(weights, {rows, choices}),
                           .out = view(out, {rows, width}),
                           .workspace = dense_view(workspace.data(), DType::kU8,
                                                   {static_cast<int64_t>(workspace.size())}),
                           .num_rows = &live},
                          "test")
                  .ok());

  const auto touch = [](const char* access, const auto& values) { return Seen{access, {all_of(values)}}; };
  const Seen number{"r", {elements(&live, 1)}};
  if (best_table().moe_sort != nullptr) {
    EXPECT_EQ(watcher.of("moe_sort"), (Operands{{"expert_ids", touch("r", ids)},
                                                {"workspace", touch("w", workspace)},
                                                {"num_rows", number}}));
    EXPECT_EQ(watcher.of("moe_prepare"),
              (Operands{{"x", touch("r", x)}, {"workspace", touch("rw", workspace)}}));
  }
  EXPECT_EQ(watcher.of("moe_gate_up"), (Operands{{"x", touch("r", x)},
                                                 {"gate_up", touch("r", gate_up)},
                                                 {"expert_ids", touch("r", ids)},
                                                 {"workspace", touch("rw", workspace)},
                                                 {"num_rows", number}}));
  EXPECT_EQ(watcher.of("moe_down"), (Operands{{"down", touch("r", down)},
                                              {"expert_ids", touch("r", ids)},
                                              {"workspace", touch("rw", workspace)},
                                              {"num_rows", number}}));
  EXPECT_EQ(watcher.of("moe_combine"), (Operands{{"expert_ids", touch("r", ids)},
                                                 {"expert_weights", touch("r", weights)},
                                                 {"out", touch("w", out)},
                                                 {"workspace", touch("r", workspace)},
                                                 {"num_rows", number}}));
}

TEST(Operands, OfRawMemoryEndWithItsLastRun) {
  // Three pages 40 bytes apart, each of two runs of 6 bytes, 10 apart.
  std::vector<char> memory(2 * 40 + 10 + 6);
  std::vector<int32_t> copies = {0, 2};
  const int32_t count = 1;
  Stream stream(1);
  Watcher watcher(stream);

  ASSERT_TRUE(copy_pages({best_table(), stream},
                         {.copies = view(copies, {1, 2}),
                          .num_copies = &count,
                          .base = memory.data(),
                          .num_pages = 3,
                          .page_stride_bytes = 40,
                          .segment_stride_bytes = 10,
                          .segment_bytes = 6,
                          .segments = 2},
                         "test")
                  .ok());

  EXPECT_EQ(watcher.of("copy_pages"), (Operands{{"copies", {"r", {all_of(copies)}}},
                                                {"base", {"rw", {all_of(memory)}}},
                                                {"num_copies", {"r", {elements(&count, 1)}}}}));
  EXPECT_EQ(watcher.segments, 2);
  EXPECT_EQ(watcher.num_rows, std::nullopt);
}

TEST(Operands, OfAbsentTensorsAreNone) {
  std::vector<float> x(8), weight(4);
  const RmsNormArgs args{.x = view(x, {2, 4}), .weight = view(weight, {4}), .out = view(x, {2, 4})};
  const LaunchRecord launch{{&kRmsNormSpec, "test", 0}, &args, sizeof(args)};

  std::vector<std::string_view> names;
  for_each_operand(launch, [&](const Operand& operand) { names.push_back(operand.arg->name); });

  EXPECT_EQ(names, (std::vector<std::string_view>{"x", "weight", "out"}));
  EXPECT_EQ(scalar_operand(launch, "num_rows"), std::nullopt);
  EXPECT_EQ(value_operand(launch, "flavour"), 0);
}

TEST(Operands, FollowStridesDownwardAndSeeWhatDoesNotFit) {
  std::vector<float> x(12);
  const auto range_of = [&](const Shape& shape, std::array<int64_t, kMaxRank> strides) {
    const RmsNormArgs args{.x = {.data = x.data() + 8, .shape = shape, .strides = strides}};
    const LaunchRecord launch{{&kRmsNormSpec, "test", 0}, &args, sizeof(args)};
    return operand_of(launch, kRmsNormArgs[0])->bytes[0];
  };

  EXPECT_EQ(range_of({3, 4}, {-4, 1}), all_of(x));
  EXPECT_EQ(range_of({3, 0}, {4, 1}), elements(x.data() + 8, 0));
  EXPECT_EQ(range_of({1, 1}, {int64_t{1} << 62, 1}), elements(x.data() + 8, 1));
  EXPECT_EQ(range_of({3, 4}, {int64_t{1} << 62, 1}), kEverywhere);
  EXPECT_EQ(range_of({2, 4}, {int64_t{1} << 61, 1}), kEverywhere);
  EXPECT_EQ(range_of({2, 4}, {-(int64_t{1} << 50), 1}), kEverywhere);
}

}  // namespace
}  // namespace lockstep
