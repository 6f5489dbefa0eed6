// Column 0 of the block table is a view whose entries lie a row apart. Converting it to int32 does nothing
// when it is int32 already, and the raw pointer was read with a stride of 1: the entries of row 0 in place of
// every row's first. Two places, two months apart. xLLM-AI/xllm#1171, #932.
#include "faults/kernels.h"

namespace lockstep::faults {
namespace {

struct FirstArgs {
  TensorView first_pages;  // [S] i32
  TensorView out;          // [S] i32
};
constexpr OpArg kArgs[] = {{LS_ARG(FirstArgs, first_pages), .dims = "S", .rows = RowsTouched::kLive},
                           {LS_ARG(FirstArgs, out), .access = Access::kWrite, .dims = "S"}};
constexpr OpSpec kFirst{.name = "read_first_pages", .args = kArgs, .args_bytes = sizeof(FirstArgs)};
constexpr const OpSpec* kOps[] = {&kFirst};
constexpr ConsumerSpec kReader{.name = "reader", .ops = kOps, .fields = {}};

void read_first(const FirstArgs& args, Worker /*worker*/) {
  for (int64_t s = 0; s < args.out.elements(); ++s)
    args.out.as<int32_t>()[s] = args.first_pages.as<int32_t>()[s];
}

Status read(const Where& where, bool contiguous) {
  KernelRig rig(where);
  rig.step({{0, 3}, {1, 20}}, bucket(32, 4, 2));
  const TensorView column = rig.page_table().columns(0, 1).rows(1, 4);
  FirstArgs args{.first_pages = column, .out = rig.memory("out", DType::kI32, {4})};
  args.first_pages.shape = {4};
  if (contiguous) {
    std::array<int32_t, 4> pages{};
    for (size_t s = 0; s < pages.size(); ++s)
      pages[s] = rig.look<int32_t>(column, static_cast<int64_t>(s) * column.stride(0));
    args.first_pages = rig.memory("first_pages", DType::kI32, {4});
    rig.put(args.first_pages, pages.data());
  }
  return rig.record(kReader, read_first, args);
}

Status wrong(const Where& where) { return read(where, false); }
Status twin(const Where& where) { return read(where, true); }

}  // namespace

const Entry kE2 = {
    .id = "E2",
    .fault_class = 'e',
    .title = "the first column of the block table is read as if its entries lay side by side",
    .thread = "xLLM-AI/xllm#1171",
    .expect = {.moment = Moment::kCapture,
               .check = "L1",
               .field = "first_pages",
               .expected = "[4] with strides [1]",
               .found = "[4] with strides [128]"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
