// What a plugin's launches carry, and the two kernels that run them: one part of a stage, and the seal behind
// the last stage, which makes the live rows of a failed run not a number.
#pragma once

#include <lockstep/backend.h>

#include <array>

#include "attention/plugin/plugin.h"
#include "base/units.h"
#include "device/stream.h"
#include "kernels/kv_cache/kv_view.h"

namespace lockstep {

// What prepare() comes to, in the step.
struct PluginLaunch {
  std::array<TensorView, LOCKSTEP_MAX_FIELDS> fields;  // no memory for those by value
  std::array<unsigned char, LOCKSTEP_LAUNCH_BYTES> bytes{};
};

// A part's word on how its run went, in the workspace: written by one part, read by the seal.
struct PluginReport {
  int32_t code = 0;
  char message[LOCKSTEP_MESSAGE_BYTES] = {};
};

struct PluginArgs {
  TensorView q;
  TensorView k;
  TensorView v;
  TensorView out;
  KvView cache;
  TensorView page_table;
  TensorView workspace;  // the plugin's own part
  TensorView reports;    // u8: a PluginReport per thread
  std::array<TensorView, LOCKSTEP_MAX_FIELDS> fields;
  std::array<unsigned char, LOCKSTEP_LAUNCH_BYTES> launch{};
  const Plugin* plugin = nullptr;
  int32_t stage = 0;
  int32_t layer = 0;
  float scale = 1.0f;
  int32_t num_fields = 0;
};

struct PluginSealArgs {
  TensorView out;      // [T, H, D]
  TensorView reports;  // u8
  const Plugin* plugin = nullptr;
  const LiveRows* num_rows = nullptr;
};
extern const OpSpec kPluginSealSpec;

// The spec of one stage: every byte of PluginArgs, with the access that the stage declares.
std::vector<OpArg> plugin_stage_args(const lockstep_stage& stage, std::span<const FieldUse> fields);

lockstep_view plugin_view(const TensorView& tensor);
void plugin_run(const PluginArgs& args, Worker worker);
void plugin_seal(const PluginSealArgs& args, Worker worker);

}  // namespace lockstep
