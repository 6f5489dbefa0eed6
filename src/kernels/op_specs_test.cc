// Every op's spec describes its Args: each member once, where it lies, and nothing else.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <utility>

#include "device/roofs_kernels.h"
#include "kernels/table_walk.h"

namespace lockstep {
namespace {

// Initialises a member of any type.
struct Anything {
  template <typename T>
  operator T() const;
};

// How many members an aggregate has: the most initialisers that it takes.
template <typename Args, size_t... kIndex>
constexpr bool takes(std::index_sequence<kIndex...>) {
  return requires { Args{(static_cast<void>(kIndex), Anything{})...}; };
}
template <typename Args, size_t kCount = 32>
constexpr size_t members_of() {
  static_assert(kCount > 0);
  if constexpr (takes<Args>(std::make_index_sequence<kCount>())) {
    return kCount;
  } else {
    return members_of<Args, kCount - 1>();
  }
}

// Calls check(spec, number of members, sizeof) for each Args in the house.
template <typename Check>
void for_each_spec(Check&& check) {
  for_each_kernel([&]<typename Args>(const OpSpec& spec, Kernel<Args> KernelTable::*) {
    check(spec, members_of<Args>(), sizeof(Args));
  });
  check(kRoofSpec, members_of<RoofArgs>(), sizeof(RoofArgs));
  // Other ways to run a kernel of the table.
  check(kStoreGatheredKvSpec, members_of<StoreKvArgs>(), sizeof(StoreKvArgs));
  check(kCausalConvPartSpec, members_of<CausalConvArgs>(), sizeof(CausalConvArgs));
  check(kGatedDeltaPartSpec, members_of<GatedDeltaArgs>(), sizeof(GatedDeltaArgs));
  check(kLightningPartSpec, members_of<LightningArgs>(), sizeof(LightningArgs));
}

int64_t alignment_of(const OpArg& arg) { return arg.kind == ArgKind::kValue ? std::min(arg.bytes, 8) : 8; }

TEST(OpSpecs, DescribeEveryMemberOfTheArgs) {
  for_each_spec([](const OpSpec& spec, size_t members, size_t bytes) {
    EXPECT_EQ(spec.args.size(), members) << spec.name;
    EXPECT_EQ(spec.args_bytes, static_cast<int64_t>(bytes)) << spec.name;
  });
}

TEST(OpSpecs, LeaveNoGapButAlignment) {
  for_each_spec([](const OpSpec& spec, size_t, size_t) {
    int64_t end = 0;
    for (const OpArg& arg : spec.args) {
      EXPECT_EQ(arg.offset, round_up(end, alignment_of(arg))) << spec.name << "." << arg.name;
      end = arg.offset + arg.bytes;
    }
    EXPECT_EQ(spec.args_bytes, round_up<int64_t>(end, 8)) << spec.name;
  });
}

TEST(OpSpecs, NameEachOpAndEachArgumentOnce) {
  std::set<std::string_view> ops;
  for_each_spec([&](const OpSpec& spec, size_t, size_t) {
    EXPECT_TRUE(ops.insert(spec.name).second) << spec.name;
    std::set<std::string_view> args;
    for (const OpArg& arg : spec.args) EXPECT_TRUE(args.insert(arg.name).second) << spec.name << arg.name;
  });
}

TEST(OpSpecs, OfTheTableAreTheOpsOfTheSupportMatrix) {
  const std::vector<KernelEntry> entries = kernel_entries(kernel_table(Isa::kReference));
  ASSERT_EQ(all_op_specs().size(), entries.size());
  for (size_t i = 0; i < entries.size(); ++i) EXPECT_EQ(all_op_specs()[i]->name, entries[i].op);
}

TEST(OpSpecs, WriteSomethingAndSayWhereRawMemoryEnds) {
  for_each_spec([](const OpSpec& spec, size_t, size_t) {
    bool writes = false;
    for (const OpArg& arg : spec.args) {
      writes = writes || arg.access == Access::kWrite || arg.access == Access::kReadWrite;
      EXPECT_EQ(arg.kind == ArgKind::kMemory, !arg.extent.empty()) << spec.name << "." << arg.name;
      EXPECT_EQ(arg.kind == ArgKind::kScalar, arg.scalar_bytes > 0) << spec.name << "." << arg.name;
    }
    EXPECT_TRUE(writes) << spec.name;
  });
}

TEST(OpSpecs, LetNumbersBeReadOnly) {
  for_each_spec([](const OpSpec& spec, size_t, size_t) {
    for (const OpArg& arg : spec.args) {
      if (arg.kind != ArgKind::kValue && arg.kind != ArgKind::kScalar) continue;
      const bool changed = arg.access == Access::kWrite || arg.access == Access::kReadWrite;
      EXPECT_FALSE(changed) << spec.name << "." << arg.name;
      EXPECT_EQ(arg.dims, "") << spec.name << "." << arg.name;
      EXPECT_EQ(arg.rows, RowsTouched::kNone) << spec.name << "." << arg.name;
    }
  });
}

}  // namespace
}  // namespace lockstep
