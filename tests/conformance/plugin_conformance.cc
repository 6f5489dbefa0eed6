#include "attention/plugin/plugin_backend.h"
#include "conformance/conformance.h"

namespace lockstep::conformance {

// Each case asks the module for an instance of its own, so that what one case breaks stays with it.
Result<std::vector<CaseResult>> run_plugin_conformance(const std::string& path) {
  const auto plugin = LS_TRY(load_plugin(path));
  const AttentionCandidate candidate{
      .name = plugin->name(),
      .make = [path](const CacheStorage& storage) -> Result<std::unique_ptr<AttentionBackend>> {
        return PluginBackend::create(LS_TRY(load_plugin(path)), storage);
      }};
  std::vector<CaseResult> results;
  for (const Case& each : attention_cases(candidate)) results.push_back(run_case(each));
  return results;
}

}  // namespace lockstep::conformance
