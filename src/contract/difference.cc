#include "contract/difference.h"

#include <algorithm>
#include <cstring>

#include "kernels/common/operands.h"

namespace lockstep {
namespace {

constexpr size_t kMostOthers = 8;  // that a message lists

const unsigned char* member(const LaunchRecord& launch, const OpArg& arg) {
  return static_cast<const unsigned char*>(launch.args) + arg.offset;
}

// Where an argument lies and what its shape is.
std::string place_of(const LaunchRecord& launch, const OpArg& arg, const MemoryMap& map) {
  const void* address = nullptr;
  std::memcpy(&address, member(launch, arg), sizeof(address));
  if (arg.kind != ArgKind::kTensor) return map.describe(address);
  TensorView view;
  std::memcpy(&view, member(launch, arg), sizeof(view));
  return concat(view.shape, " ", view.dtype, " at ", map.describe(address));
}

// "; out of sum_values too": every argument that differs behind the first.
std::string others(const Difference& difference, const LaunchDifference& first) {
  std::string text;
  size_t count = 0;
  const size_t launches = std::min(difference.captured.launches().size(), difference.again.launches().size());
  for (size_t i = 0; i < launches; ++i) {
    const LaunchRecord was = difference.captured.record(i), is = difference.again.record(i);
    if (was.site.spec != is.site.spec) break;
    for (const OpArg& arg : was.site.spec->args) {
      const bool same = std::memcmp(member(was, arg), member(is, arg), static_cast<size_t>(arg.bytes)) == 0;
      if (same || (static_cast<int32_t>(i) == first.launch && arg.name == first.argument)) continue;
      if (++count <= kMostOthers) text += concat("; and ", arg.name, " of ", consumer_of(is));
    }
  }
  return count > kMostOthers ? concat(text, "; and ", count - kMostOthers, " more") : text;
}

}  // namespace

Status launch_difference(const Difference& difference) {
  const LaunchDifference first = Graph::compare(difference.captured, difference.again);
  if (first.launch < 0) return {};
  Fault fault{.check = "R2",
              .moment = difference.moment,
              .consumer = difference.consumer,
              .field = first.argument.empty() ? "launch" : first.argument,
              .step = difference.step,
              .expected = concat(first.first, ", as captured"),
              .found = first.second};
  if (fault.consumer.empty())
    fault.consumer = concat(first.site.op(), " (", first.site.stage, ", layer ", first.site.layer, ")");
  if (first.argument.empty()) return broken(std::move(fault));
  const auto at = static_cast<size_t>(first.launch);
  const LaunchRecord was = difference.captured.record(at), is = difference.again.record(at);
  const auto arg = std::find_if(was.site.spec->args.begin(), was.site.spec->args.end(),
                                [&](const OpArg& each) { return each.name == first.argument; });
  if (arg->kind != ArgKind::kValue) {
    fault.check = "R1";
    fault.expected = concat(place_of(was, *arg, difference.map), ", as captured");
    fault.found = place_of(is, *arg, difference.map);
  }
  fault.found += others(difference, first);
  return broken(std::move(fault));
}

}  // namespace lockstep
