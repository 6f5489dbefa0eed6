#include "kernels/table.h"

namespace lockstep {
namespace {

// Calls visit(name, member) for each kernel of a table.
template <typename Visit>
void for_each_kernel(Visit&& visit) {
  visit("embedding", &KernelTable::embedding);
  visit("rms_norm", &KernelTable::rms_norm);
  visit("rope_angles", &KernelTable::rope_angles);
  visit("qk_norm_rope", &KernelTable::qk_norm_rope);
  visit("store_kv", &KernelTable::store_kv);
  visit("table_edits", &KernelTable::table_edits);
  visit("copy_pages", &KernelTable::copy_pages);
  visit("paged_attention", &KernelTable::paged_attention);
  visit("sigmoid_gate", &KernelTable::sigmoid_gate);
  visit("gated_add", &KernelTable::gated_add);
  visit("linear_prepare", &KernelTable::linear_prepare);
  visit("linear", &KernelTable::linear);
  visit("swiglu", &KernelTable::swiglu);
  visit("moe_route", &KernelTable::moe_route);
  visit("moe_sort", &KernelTable::moe_sort);
  visit("moe_prepare", &KernelTable::moe_prepare);
  visit("moe_gate_up", &KernelTable::moe_gate_up);
  visit("moe_down", &KernelTable::moe_down);
  visit("moe_combine", &KernelTable::moe_combine);
  visit("causal_conv", &KernelTable::causal_conv);
  visit("causal_conv_state", &KernelTable::causal_conv_state);
  visit("gated_delta", &KernelTable::gated_delta);
  visit("gated_norm", &KernelTable::gated_norm);
  visit("gather_rows", &KernelTable::gather_rows);
  visit("resolve_tokens", &KernelTable::resolve_tokens);
  visit("count_tokens", &KernelTable::count_tokens);
  visit("sample", &KernelTable::sample);
}

constexpr size_t kKernels = 27;
static_assert(sizeof(KernelTable) == sizeof(std::string_view) + kKernels * sizeof(void (*)()),
              "for_each_kernel names every member of KernelTable");

}  // namespace

std::vector<KernelEntry> kernel_entries(const KernelTable& table) {
  std::vector<KernelEntry> entries;
  for_each_kernel([&](std::string_view op, auto member) {
    KernelEntry entry{.op = op, .table = {}};
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
