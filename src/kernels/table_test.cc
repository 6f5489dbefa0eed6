#include "kernels/table.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/batch_invariant.h"

namespace lockstep {
namespace {

constexpr Isa kIsas[] = {Isa::kReference, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16};

// Launches that only rearrange inputs for the kernel after them; an oracle reads the inputs as they are.
bool rearranges(std::string_view op) {
  return op == "linear_prepare" || op == "moe_sort" || op == "moe_prepare";
}

std::string_view table_of(Isa isa, std::string_view op) {
  for (const KernelEntry& entry : kernel_entries(kernel_table(isa))) {
    if (entry.op == op) return entry.table;
  }
  return "no such op";
}

TEST(KernelTable, IsNamedAfterItsInstructionSet) {
  for (const Isa isa : kIsas) EXPECT_EQ(kernel_table(isa).name, name_of(isa));
}

TEST(KernelTable, HasAKernelForEveryOp) {
  for (const Isa isa : kIsas) {
    for (const KernelEntry& entry : kernel_entries(kernel_table(isa))) {
      if (isa == Isa::kReference && rearranges(entry.op)) continue;
      EXPECT_FALSE(entry.table.empty()) << name_of(isa) << " lacks " << entry.op;
    }
  }
}

TEST(KernelTable, FallsBackOnTheNextLowerInstructionSet) {
  EXPECT_EQ(table_of(Isa::kReference, "linear"), "reference");
  EXPECT_EQ(table_of(Isa::kAvx2, "linear"), "avx2");
  EXPECT_EQ(table_of(Isa::kAvx512Bf16, "linear"), "avx512bf16");
  EXPECT_EQ(table_of(Isa::kAvx512Bf16, "swiglu"), "avx512");
  EXPECT_EQ(table_of(Isa::kAvx512Bf16, "embedding"), "reference");
}

TEST(KernelTable, IsBatchInvariantOnCpusAsItIs) {
  for (const Isa isa : kIsas) EXPECT_EQ(&batch_invariant_table(isa), &kernel_table(isa));
}

TEST(KernelTable, ListsOpsOnceAndNothingForAnEmptyTable) {
  const KernelTable empty{.name = "empty"};
  const std::vector<KernelEntry> entries = kernel_entries(empty);
  for (size_t i = 0; i < entries.size(); ++i) {
    EXPECT_EQ(entries[i].table, "") << entries[i].op;
    for (size_t j = 0; j < i; ++j) EXPECT_NE(entries[i].op, entries[j].op);
  }
}

TEST(KernelTable, CountsAKernelOfItsOwn) {
  KernelTable table{.name = "mine"};
  table.swiglu = [](const SwigluArgs&, Worker) {};

  const std::vector<KernelEntry> entries = kernel_entries(table);

  const auto swiglu =
      std::find_if(entries.begin(), entries.end(), [](const KernelEntry& e) { return e.op == "swiglu"; });
  EXPECT_EQ(swiglu->table, "mine");
}

}  // namespace
}  // namespace lockstep
