#include <array>

#include "kernels/table_walk.h"

namespace lockstep {
namespace {

constexpr std::array<const OpSpec*, kKernels> list_specs() {
  std::array<const OpSpec*, kKernels> specs{};
  size_t count = 0;
  for_each_kernel([&](const OpSpec& spec, auto /*member*/) { specs[count++] = &spec; });
  return specs;
}

constexpr std::array<const OpSpec*, kKernels> kSpecs = list_specs();

}  // namespace

std::span<const OpSpec* const> all_op_specs() { return kSpecs; }

std::vector<KernelEntry> kernel_entries(const KernelTable& table) {
  std::vector<KernelEntry> entries;
  for_each_kernel([&](const OpSpec& spec, auto member) {
    KernelEntry entry{.op = spec.name, .table = {}};
    for (const Isa isa : {Isa::kReference, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16}) {
      const KernelTable& lower = kernel_table(isa);
      if (table.*member != nullptr && entry.table.empty() && lower.*member == table.*member)
        entry.table = lower.name;
    }
    if (table.*member != nullptr && entry.table.empty()) entry.table = table.name;
    entries.push_back(entry);
  });
  LS_CHECK(entries.size() == kKernels, entries.size());
  return entries;
}

}  // namespace lockstep
