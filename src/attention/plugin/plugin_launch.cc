#include "attention/plugin/plugin_launch.h"

#include <cstring>
#include <limits>

namespace lockstep {
namespace {

int32_t dtype_code(DType dtype) {
  switch (dtype) {
    case DType::kF16: return LOCKSTEP_F16;
    case DType::kBF16: return LOCKSTEP_BF16;
    case DType::kI32: return LOCKSTEP_I32;
    case DType::kI64: return LOCKSTEP_I64;
    case DType::kU64: return LOCKSTEP_U64;
    case DType::kU8: return LOCKSTEP_U8;
    default: return LOCKSTEP_F32;
  }
}

// [P, K, B, D / c, c]
lockstep_view view_of(const KvView& cache, const KvPlane& plane) {
  return {
      .data = plane.data,
      .dtype = dtype_code(cache.dtype),
      .device = LOCKSTEP_CPU,
      .rank = 5,
      .reserved = 0,
      .shape = {cache.num_pages, cache.heads, cache.page_tokens, cache.head_dim / plane.chunk, plane.chunk},
      .strides = {plane.page_stride, plane.head_stride, plane.token_stride, plane.chunk_stride, 1}};
}

// The first failure of a part stays until the seal has seen it. The first stage begins anew, for threads that
// have no part in it as well: the memory is anybody's between two launches.
void report(const PluginArgs& args, Worker worker, int code, const char* message) {
  auto* reports = static_cast<PluginReport*>(args.reports.data);
  PluginReport& own = reports[worker.index];
  if (args.stage == 0) {
    const int64_t count = args.reports.bytes() / static_cast<int64_t>(sizeof(PluginReport));
    for (int64_t i = worker.index; i < count; i += worker.count) reports[i].code = 0;
  }
  if (own.code != 0) return;
  own.code = code;
  std::memcpy(own.message, message, sizeof(own.message));
}

Access access_of(const lockstep_use* use) {
  if (use == nullptr) return Access::kNone;
  return use->access == LOCKSTEP_READ    ? Access::kRead
         : use->access == LOCKSTEP_WRITE ? Access::kWrite
                                         : Access::kReadWrite;
}

const lockstep_use* use_of(const lockstep_stage& stage, int32_t tensor) {
  for (uint32_t i = 0; i < stage.num_uses; ++i)
    if (stage.uses[i].tensor == tensor) return &stage.uses[i];
  return nullptr;
}

OpArg tensor_arg(OpArg arg, const lockstep_stage& stage, int32_t tensor, std::string_view dims) {
  constexpr RowsTouched kRows[] = {RowsTouched::kAll, RowsTouched::kLive, RowsTouched::kOwned,
                                   RowsTouched::kNone};
  const lockstep_use* use = use_of(stage, tensor);
  arg.access = access_of(use);
  arg.dims = dims;
  if (use == nullptr) return arg;
  arg.rows = kRows[use->rows];
  arg.pad = use->pads == LOCKSTEP_PADS_ZERO ? PadRows::kZero : PadRows::kUntouched;
  arg.any_stride = use->strides == LOCKSTEP_ANY_STRIDES;
  arg.index_bits = use->index_bits;
  return arg;
}

// What a kernel carries and no stage indexes.
OpArg value_arg(std::string_view name, size_t offset, size_t bytes) {
  return {.name = name,
          .kind = ArgKind::kValue,
          .offset = static_cast<int32_t>(offset),
          .bytes = static_cast<int32_t>(bytes),
          .access = Access::kRead,
          .rows = RowsTouched::kNone};
}

constexpr OpArg kSealArgs[] = {
    {LS_ARG(PluginSealArgs, out), .access = Access::kReadWrite, .dims = "THD", .rows = RowsTouched::kLive,
     .pad = PadRows::kUntouched, .any_stride = true},
    {LS_ARG(PluginSealArgs, reports), .access = Access::kRead, .dims = "W", .rows = RowsTouched::kNone},
    {.name = "plugin",
     .kind = ArgKind::kValue,
     .offset = offsetof(PluginSealArgs, plugin),
     .bytes = sizeof(PluginSealArgs::plugin),
     .rows = RowsTouched::kNone},
    {LS_ARG(PluginSealArgs, num_rows), .rows = RowsTouched::kNone},
};

}  // namespace

lockstep_view plugin_view(const TensorView& tensor) {
  lockstep_view view{.data = tensor.data,
                     .dtype = dtype_code(tensor.dtype),
                     .device = LOCKSTEP_CPU,
                     .rank = static_cast<int32_t>(tensor.shape.rank),
                     .reserved = 0,
                     .shape = {},
                     .strides = {}};
  for (int64_t i = 0; i < tensor.shape.rank; ++i) {
    view.shape[i] = tensor.dim(i);
    view.strides[i] = tensor.stride(i);
  }
  return view;
}

const OpSpec kPluginSealSpec{.name = "plugin_seal", .args = kSealArgs, .args_bytes = sizeof(PluginSealArgs)};

std::vector<OpArg> plugin_stage_args(const lockstep_stage& stage, std::span<const FieldUse> fields) {
  std::vector<OpArg> args = {
      tensor_arg({LS_ARG(PluginArgs, q)}, stage, LOCKSTEP_Q, "THD"),
      tensor_arg({LS_ARG(PluginArgs, k)}, stage, LOCKSTEP_K, "TKD"),
      tensor_arg({LS_ARG(PluginArgs, v)}, stage, LOCKSTEP_V, "TKD"),
      tensor_arg({LS_ARG(PluginArgs, out)}, stage, LOCKSTEP_OUT, "THD"),
      tensor_arg({LS_ARG(PluginArgs, cache)}, stage, LOCKSTEP_CACHE, "PKBD"),
      tensor_arg({LS_ARG(PluginArgs, page_table)}, stage, LOCKSTEP_PAGE_TABLE, "RM"),
      tensor_arg({LS_ARG(PluginArgs, workspace)}, stage, LOCKSTEP_WORKSPACE, "W"),
      {LS_ARG(PluginArgs, reports), .access = Access::kReadWrite, .dims = "W", .rows = RowsTouched::kNone}};
  for (size_t i = 0; i < LOCKSTEP_MAX_FIELDS; ++i) {
    const size_t at = offsetof(PluginArgs, fields) + i * sizeof(TensorView);
    OpArg arg = value_arg("no field", at, sizeof(TensorView));
    if (i < fields.size() && fields[i].feed == Feed::kAddress) {
      arg.name = name_of(fields[i].field);
      arg.kind = ArgKind::kTensor;
      arg.rows = RowsTouched::kLive;
    }
    args.push_back(arg);
  }
  args.push_back(value_arg("launch", offsetof(PluginArgs, launch), sizeof(PluginArgs::launch)));
  args.push_back(value_arg("plugin", offsetof(PluginArgs, plugin), sizeof(PluginArgs::plugin)));
  args.push_back(value_arg("stage", offsetof(PluginArgs, stage), sizeof(PluginArgs::stage)));
  args.push_back(value_arg("layer", offsetof(PluginArgs, layer), sizeof(PluginArgs::layer)));
  args.push_back(value_arg("scale", offsetof(PluginArgs, scale), sizeof(PluginArgs::scale)));
  args.push_back(value_arg("num_fields", offsetof(PluginArgs, num_fields), sizeof(PluginArgs::num_fields)));
  return args;
}

void plugin_run(const PluginArgs& args, Worker worker) {
  lockstep_view fields[LOCKSTEP_MAX_FIELDS];
  for (size_t i = 0; i < LOCKSTEP_MAX_FIELDS; ++i) fields[i] = plugin_view(args.fields[i]);
  const lockstep_run run{.size = sizeof(lockstep_run),
                         .stage = args.stage,
                         .part = worker.index,
                         .parts = worker.count,
                         .layer = args.layer,
                         .scale = args.scale,
                         .launch = args.launch.data(),
                         .fields = fields,
                         .q = plugin_view(args.q),
                         .k = plugin_view(args.k),
                         .v = plugin_view(args.v),
                         .out = plugin_view(args.out),
                         .workspace = plugin_view(args.workspace),
                         .page_table = plugin_view(args.page_table),
                         .keys = view_of(args.cache, args.cache.k),
                         .values = view_of(args.cache, args.cache.v)};
  char message[LOCKSTEP_MESSAGE_BYTES] = {};
  const lockstep_backend& verbs = args.plugin->verbs();
  report(args, worker, verbs.run(verbs.instance, &run, message), message);
}

void plugin_seal(const PluginSealArgs& args, Worker worker) {
  if (worker.index != 0) return;
  const auto* reports = static_cast<const PluginReport*>(args.reports.data);
  const auto count = args.reports.bytes() / static_cast<int64_t>(sizeof(PluginReport));
  for (int64_t i = 0; i < count; ++i) {
    if (reports[i].code == 0) continue;
    args.plugin->failure().set(reports[i].code, plugin_text(reports[i].message));
    for (int64_t t = 0; t < args.num_rows->get() && t < args.out.dim(0); ++t) {
      for (int64_t h = 0; h < args.out.dim(1); ++h) {
        float* row = args.out.as<float>() + t * args.out.stride(0) + h * args.out.stride(1);
        for (int64_t d = 0; d < args.out.dim(2); ++d) row[d] = std::numeric_limits<float>::quiet_NaN();
      }
    }
    return;
  }
}

}  // namespace lockstep
