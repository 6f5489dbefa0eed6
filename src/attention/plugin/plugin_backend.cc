#include "attention/plugin/plugin_backend.h"

#include "attention/plugin/plugin_launch.h"
#include "base/math.h"

namespace lockstep {
namespace {

// The seal is the house's own: a consumer beside the plugin.
constexpr const OpSpec* kSealOps[] = {&kPluginSealSpec};
constexpr FieldUse kSealUses[] = {{.field = FieldId::num_rows, .argument = "plugin_seal.num_rows"}};
constexpr ConsumerSpec kSeal{.name = "plugin_seal", .ops = kSealOps, .fields = kSealUses};
struct SealLaunch {
  const LiveRows* num_rows = nullptr;
};

int64_t report_bytes(int threads) { return threads * static_cast<int64_t>(sizeof(PluginReport)); }

// The numbers of a field that the plugin reads on the host, as 64-bit integers.
template <typename T>
Status append_values(const Binder& binder, const ConsumerSpec& spec, const FieldUse& use, GroupId group,
                     std::vector<int64_t>& out) {
  const std::span<const T> values = LS_TRY(binder.values(spec, Field<T>{use.field}, group));
  for (const T value : values) out.push_back(static_cast<int64_t>(value));
  return {};
}

Status numbers_of(const Binder& binder, const ConsumerSpec& spec, const FieldUse& use, GroupId group,
                  std::vector<int64_t>& out) {
  switch (info_of(use.field).element) {
    case Element::kI64: return append_values<int64_t>(binder, spec, use, group, out);
    case Element::kU64: return append_values<uint64_t>(binder, spec, use, group, out);
    default: return append_values<int32_t>(binder, spec, use, group, out);
  }
}

}  // namespace

Result<std::unique_ptr<AttentionBackend>> PluginBackend::create(std::shared_ptr<const Plugin> plugin,
                                                                const CacheStorage& storage) {
  const CacheGeometry& geometry = storage.geometry();
  if (geometry.softmax_layers > 0) LS_TRY(plugin->serves(geometry.kv.dtype, geometry.kv.head_dim));
  return std::unique_ptr<AttentionBackend>(new PluginBackend(std::move(plugin), storage));
}

// The plugin's own bytes first, then a report per thread.
int64_t PluginBackend::workspace_bytes(int threads, int32_t /*heads*/, int32_t /*kv_heads*/,
                                       int32_t head_dim) const {
  return round_up(plugin_->workspace_bytes(threads, head_dim), Arena::kAlignment) + report_bytes(threads);
}

Status PluginBackend::prepare(const Binder& binder, GroupId group, PreparedStep& step) const {
  if (const Status failed = plugin_->failure().status(); !failed.ok())
    return error(failed.code(), "backend ", plugin_->name(), ": run: ", failed.message());
  step.add<SealLaunch>(kSeal, group).num_rows = LS_TRY(binder.scalar_address(kSeal, field::num_rows));
  PluginLaunch& launch = step.add<PluginLaunch>(plugin_->spec(), group);
  const std::vector<FieldUse>& uses = plugin_->fields();
  std::vector<lockstep_bound> bound(uses.size());
  std::vector<std::vector<int64_t>> numbers(uses.size());
  for (size_t i = 0; i < uses.size(); ++i) {
    const GroupId own = info_of(uses[i].field).scope == Scope::kPlan ? GroupId(0) : group;
    bound[i].size = sizeof(lockstep_bound);
    if (uses[i].feed == Feed::kAddress) {
      launch.fields[i] = LS_TRY(binder.address(plugin_->spec(), uses[i].field, own));
      bound[i].feed = LOCKSTEP_BY_ADDRESS;
      bound[i].view = plugin_view(launch.fields[i]);
      continue;
    }
    LS_TRY(numbers_of(binder, plugin_->spec(), uses[i], own, numbers[i]));
    bound[i].feed = LOCKSTEP_BY_VALUE;
    bound[i].numbers = numbers[i].data();
    bound[i].count = static_cast<int64_t>(numbers[i].size());
  }
  const lockstep_prepare input{.size = sizeof(lockstep_prepare),
                               .num_fields = static_cast<uint32_t>(bound.size()),
                               .fields = bound.data()};
  char message[LOCKSTEP_MESSAGE_BYTES] = {};
  const lockstep_backend& verbs = plugin_->verbs();
  const int code = verbs.prepare(verbs.instance, &input, launch.bytes.data(), message);
  if (code == LOCKSTEP_OK) return {};
  const std::string text = plugin_text(message);
  return error(plugin_code(code), "backend ", plugin_->name(),
               ": prepare: ", text.empty() ? concat("code ", code) : text);
}

Status PluginBackend::run(const PreparedStep& step, GroupId group, const AttentionTensors& tensors,
                          int32_t layer, const Launcher& on) const {
  const PluginLaunch& launch_bytes = *LS_TRY(step.get<PluginLaunch>(plugin_->spec(), group));
  const int threads = on.stream.threads();
  const auto head_dim = static_cast<int32_t>(tensors.q.dim(2));
  const int64_t needed = workspace_bytes(threads, 0, 0, head_dim);
  if (tensors.workspace.bytes() < needed) {
    return error(Code::kInvalidArgument, "backend ", plugin_->name(), ": workspace has ",
                 tensors.workspace.bytes(), " bytes; expected at least ", needed);
  }
  const int64_t own = plugin_->workspace_bytes(threads, head_dim);
  PluginArgs args{.q = tensors.q,
                  .k = tensors.k,
                  .v = tensors.v,
                  .out = tensors.out,
                  .cache = storage_.kv(layer),
                  .page_table = storage_.page_table(),
                  .workspace = tensors.workspace.rows(0, own),
                  .reports = tensors.workspace.rows(round_up(own, Arena::kAlignment), report_bytes(threads)),
                  .fields = launch_bytes.fields,
                  .launch = launch_bytes.bytes,
                  .plugin = plugin_.get(),
                  .layer = layer,
                  .scale = tensors.scale,
                  .num_fields = static_cast<int32_t>(plugin_->fields().size())};
  for (const auto& stage : plugin_->stages()) {
    args.stage = static_cast<int32_t>(&stage - plugin_->stages().data());
    launch(on.stream, stage->spec, "attention", &plugin_run, args,
           stage->parallel ? Parts::kAll : Parts::kOne);
  }
  const SealLaunch& sealed = *LS_TRY(step.get<SealLaunch>(kSeal, group));
  const PluginSealArgs seal{
      .out = tensors.out, .reports = args.reports, .plugin = plugin_.get(), .num_rows = sealed.num_rows};
  launch(on.stream, kPluginSealSpec, "attention_seal", &plugin_seal, seal, Parts::kOne);
  return {};
}

}  // namespace lockstep
