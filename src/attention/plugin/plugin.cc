#include "attention/plugin/plugin.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstring>

#include "attention/plugin/plugin_launch.h"

namespace lockstep {
namespace {

template <typename... Parts>
Status refuse(const std::string& label, const Parts&... parts) {
  return error(Code::kInvalidArgument, "backend ", label, ": ", parts...);
}

// Text of a description; empty for none or for one without an end.
std::string_view text_of(const char* text) {
  if (text == nullptr) return {};
  const size_t length = strnlen(text, LOCKSTEP_NAME_BYTES);
  return length < LOCKSTEP_NAME_BYTES ? std::string_view(text, length) : std::string_view();
}

bool is_name(std::string_view name) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  return !name.empty() && std::all_of(name.begin(), name.end(), plain);
}

bool within(int32_t value, int32_t low, int32_t high) { return value >= low && value <= high; }

}  // namespace

std::string plugin_text(const char* message) {
  std::string text(message, strnlen(message, LOCKSTEP_MESSAGE_BYTES - 1));
  for (char& letter : text) {
    if (static_cast<unsigned char>(letter) < 0x20 || letter == 0x7F) letter = ' ';
  }
  return text;
}

Code plugin_code(int code) {
  constexpr Code kCodes[] = {
      Code::kOk,     Code::kInvalidArgument, Code::kNotFound, Code::kUnimplemented, Code::kResourceExhausted,
      Code::kDevice, Code::kInternal};
  return within(code, 0, LOCKSTEP_INTERNAL) ? kCodes[code] : Code::kInternal;
}

void PluginFailure::set(int code, std::string message) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (status_.ok()) status_ = Status(plugin_code(code), std::move(message));
}

Status PluginFailure::status() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return status_;
}

Plugin::~Plugin() {
  if (made_) verbs_.destroy(verbs_.instance);
  if (module_ != nullptr) dlclose(module_);
}

int64_t Plugin::workspace_bytes(int threads, int32_t head_dim) const {
  return threads * (description_.workspace_fixed + description_.workspace_per_dim * head_dim);
}

Status Plugin::serves(DType cache_dtype, int32_t head_dim) const {
  const uint32_t bit = cache_dtype == DType::kF32    ? 1u << LOCKSTEP_F32
                       : cache_dtype == DType::kF16  ? 1u << LOCKSTEP_F16
                       : cache_dtype == DType::kBF16 ? 1u << LOCKSTEP_BF16
                                                     : 0u;
  if ((description_.cache_dtypes & bit) == 0) {
    return error(Code::kUnimplemented, "backend ", name_, ": serves no cache of ", cache_dtype,
                 "; choose another --dtype or another backend");
  }
  if (description_.max_head_dim > 0 && head_dim > description_.max_head_dim) {
    return error(Code::kUnimplemented, "backend ", name_, ": heads of ", head_dim, "; it serves at most ",
                 description_.max_head_dim);
  }
  return {};
}

// From a module to a plugin, one promise after the other.
class PluginLoader {
 public:
  PluginLoader(std::string label, Plugin& plugin) : label_(std::move(label)), plugin_(plugin) {}

  Status open(const std::string& path) {
    plugin_.module_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (plugin_.module_ == nullptr) {
      const char* why = dlerror();
      return error(Code::kNotFound, "backend ", label_, ": ", why == nullptr ? "it cannot be loaded" : why,
                   "; expected a shared module");
    }
    auto* entry = reinterpret_cast<PluginEntry>(dlsym(plugin_.module_, "lockstep_backend_get"));
    if (entry == nullptr) {
      return error(Code::kNotFound, "backend ", label_,
                   ": has no lockstep_backend_get; expected that entry, as in include/lockstep/backend.h");
    }
    return get(entry);
  }

  Status get(PluginEntry entry) {
    lockstep_backend& verbs = plugin_.verbs_;
    verbs = {};
    verbs.size = sizeof(verbs);
    const int code = entry(LOCKSTEP_BACKEND_ABI, &verbs);
    if (code != LOCKSTEP_OK) {
      return refuse(label_, "answers code ", code, " to ABI ", LOCKSTEP_BACKEND_ABI,
                    "; expected a backend built for that version of include/lockstep/backend.h");
    }
    if (verbs.abi != LOCKSTEP_BACKEND_ABI)
      return refuse(label_, "is of ABI ", verbs.abi, "; expected ", LOCKSTEP_BACKEND_ABI);
    LS_TRY(check_size("lockstep_backend", verbs.size, sizeof(verbs)));
    if (verbs.describe == nullptr) return missing("describe");
    if (verbs.prepare == nullptr) return missing("prepare");
    if (verbs.run == nullptr) return missing("run");
    if (verbs.destroy == nullptr) return missing("destroy");
    plugin_.made_ = true;
    return describe();
  }

 private:
  Status missing(std::string_view verb) const {
    return refuse(label_, "has no ", verb, "; expected describe, prepare, run and destroy");
  }

  Status check_size(std::string_view what, uint32_t size, size_t expected) const {
    if (size == expected) return {};
    return refuse(label_, what, " has a size of ", size, " bytes; expected ", expected,
                  ", as in include/lockstep/backend.h");
  }

  Status describe() {
    lockstep_description& d = plugin_.description_;
    d = {};
    char message[LOCKSTEP_MESSAGE_BYTES] = {};
    const int code = plugin_.verbs_.describe(plugin_.verbs_.instance, &d, message);
    if (code != LOCKSTEP_OK) {
      const std::string text = plugin_text(message);
      return error(plugin_code(code), "backend ", label_,
                   ": describe: ", text.empty() ? concat("code ", code) : text);
    }
    LS_TRY(check_size("lockstep_description", d.size, sizeof(d)));
    if (!is_name(text_of(d.name)))
      return refuse(label_,
                    "its name is empty, too long or holds other characters; expected at most 63 letters, "
                    "digits, _ and -");
    plugin_.name_ = text_of(d.name);
    if (d.device != LOCKSTEP_CPU) return refuse(label_, "is for device ", d.device, "; expected 0, the CPU");
    if (d.num_fields > LOCKSTEP_MAX_FIELDS || (d.num_fields > 0 && d.fields == nullptr))
      return refuse(label_, "declares ", d.num_fields, " fields; expected at most ", LOCKSTEP_MAX_FIELDS);
    if (d.num_stages < 1 || d.num_stages > LOCKSTEP_MAX_STAGES || d.stages == nullptr)
      return refuse(label_, "has ", d.num_stages, " stages; expected 1 to ", LOCKSTEP_MAX_STAGES);
    if (d.workspace_fixed < 0 || d.workspace_per_dim < 0 || d.workspace_fixed > int64_t{1} << 40 ||
        d.workspace_per_dim > int64_t{1} << 30)
      return refuse(label_, "asks for ", d.workspace_fixed, " + ", d.workspace_per_dim,
                    " * D bytes of workspace; expected 0 to 2^40 and 0 to 2^30");
    for (uint32_t i = 0; i < d.num_fields; ++i) LS_TRY(take_field(d.fields[i], i));
    for (uint32_t i = 0; i < d.num_stages; ++i) LS_TRY(take_stage(d.stages[i], i));
    finish(d);
    return {};
  }

  Status take_field(const lockstep_field& field, uint32_t index) {
    LS_TRY(check_size(concat("lockstep_field ", index), field.size, sizeof(field)));
    const std::string_view name = text_of(field.name);
    const auto info = std::find_if(kFields.begin(), kFields.end(),
                                   [&](const FieldInfo& each) { return each.name == name; });
    if (info == kFields.end())
      return refuse(label_, "field ", index, " is ", name.empty() ? "without a name" : name,
                    "; expected a field of the step plan, as in docs/fields.md");
    for (const FieldUse& use : plugin_.uses_) {
      if (use.field == info->id) return refuse(label_, "declares ", name, " twice; expected each field once");
    }
    LS_TRY(same(name, "unit", text_of(field.unit), name_of(info->unit)));
    LS_TRY(same(name, "form", text_of(field.form), name_of(info->form)));
    LS_TRY(same(name, "extent", text_of(field.extent), name_of(info->extent)));
    LS_TRY(same(name, "space", text_of(field.space), name_of(info->space)));
    if (!within(field.feed, LOCKSTEP_BY_ADDRESS, LOCKSTEP_BY_VALUE) ||
        !within(field.freeze, LOCKSTEP_EXACT, LOCKSTEP_LOWER_BOUND))
      return refuse(label_, name, " has feed ", field.feed, " and freeze ", field.freeze,
                    "; expected a lockstep_feed and a lockstep_freeze");
    const bool number =
        info->element == Element::kI32 || info->element == Element::kI64 || info->element == Element::kU64;
    if (field.feed == LOCKSTEP_BY_VALUE && !number)
      return refuse(label_, name, " by value; expected by address, since its entries are no integers");
    constexpr Freeze kFreezes[] = {Freeze::kExact, Freeze::kUpperBound, Freeze::kLowerBound};
    plugin_.uses_.push_back({.field = info->id,
                             .feed = field.feed == LOCKSTEP_BY_VALUE ? Feed::kValue : Feed::kAddress,
                             .freeze = kFreezes[field.freeze]});
    return {};
  }

  Status same(std::string_view field, std::string_view what, std::string_view said,
              std::string_view is) const {
    if (said == is) return {};
    return refuse(label_, "takes ", field, " for ", what, " \"", said, "\"; expected \"", is, "\"");
  }

  Status take_stage(const lockstep_stage& stage, uint32_t index) {
    LS_TRY(check_size(concat("lockstep_stage ", index), stage.size, sizeof(stage)));
    const std::string_view name = text_of(stage.name);
    if (!is_name(name))
      return refuse(label_, "stage ", index, " has no name; expected letters, digits, _ and -");
    if (stage.num_uses > LOCKSTEP_TENSORS || (stage.num_uses > 0 && stage.uses == nullptr))
      return refuse(label_, name, ": uses ", stage.num_uses, " tensors; expected at most ",
                    LOCKSTEP_TENSORS + 0);
    for (uint32_t i = 0; i < stage.num_uses; ++i) LS_TRY(check_use(name, stage.uses[i], i));
    auto own = std::make_unique<PluginStage>();
    own->op = concat(plugin_.name_, ".", name);
    own->args = plugin_stage_args(stage, plugin_.uses_);
    own->spec = {.name = own->op, .args = own->args, .args_bytes = sizeof(PluginArgs)};
    own->parallel = stage.parallel != 0;
    plugin_.stages_.push_back(std::move(own));
    return {};
  }

  Status check_use(std::string_view stage, const lockstep_use& use, uint32_t index) const {
    LS_TRY(check_size(concat("lockstep_use ", index, " of ", stage), use.size, sizeof(use)));
    const bool known = within(use.tensor, LOCKSTEP_Q, LOCKSTEP_WORKSPACE) &&
                       within(use.access, LOCKSTEP_READ, LOCKSTEP_READ_WRITE) &&
                       within(use.strides, LOCKSTEP_DENSE, LOCKSTEP_ANY_STRIDES) &&
                       within(use.pads, LOCKSTEP_PADS_ZERO, LOCKSTEP_PADS_UNTOUCHED) &&
                       within(use.rows, LOCKSTEP_ALL_ROWS, LOCKSTEP_NO_ROWS);
    if (!known)
      return refuse(label_, stage, ": use ", index,
                    " holds a number of no enumerator; expected those of "
                    "include/lockstep/backend.h");
    if (use.index_bits != 32 && use.index_bits != 64)
      return refuse(label_, stage, ": use ", index, " has indices of ", use.index_bits,
                    " bits; expected 32 or 64");
    const bool owned =
        use.tensor == LOCKSTEP_OUT || use.tensor == LOCKSTEP_CACHE || use.tensor == LOCKSTEP_WORKSPACE;
    if (use.access != LOCKSTEP_READ && !owned)
      return refuse(label_, stage, ": use ", index,
                    " writes an input; expected writes to out, cache and workspace");
    return {};
  }

  void finish(const lockstep_description& d) {
    // Reserved first: views of these strings stay where they are.
    plugin_.arguments_.reserve(plugin_.uses_.size());
    for (FieldUse& use : plugin_.uses_) {
      plugin_.arguments_.push_back(concat("*.", name_of(use.field)));
      use.argument = plugin_.arguments_.back();
    }
    for (const auto& stage : plugin_.stages_) plugin_.ops_.push_back(&stage->spec);
    plugin_.spec_ = {.name = plugin_.name_,
                     .ops = plugin_.ops_,
                     .fields = plugin_.uses_,
                     .needs = {.uniform_query_len = d.needs_uniform_query_len,
                               .max_query_len = d.needs_max_query_len,
                               .min_seq_len = d.needs_min_seq_len,
                               .rows_multiple_of = d.needs_rows_multiple_of}};
  }

  std::string label_;
  Plugin& plugin_;
};

Result<std::shared_ptr<const Plugin>> load_plugin(const std::string& path) {
  const auto plugin = std::make_shared<Plugin>();
  LS_TRY(PluginLoader(path, *plugin).open(path));
  return std::shared_ptr<const Plugin>(plugin);
}

Result<std::shared_ptr<const Plugin>> make_plugin(const std::string& label, PluginEntry entry) {
  const auto plugin = std::make_shared<Plugin>();
  LS_TRY(PluginLoader(label, *plugin).get(entry));
  return std::shared_ptr<const Plugin>(plugin);
}

}  // namespace lockstep
