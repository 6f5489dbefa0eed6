// What a graph remembers of the step that it was captured from, and what every replay is held to: R1, R2, R5
// and R7 without trusting what consumers declare.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "contract/binder.h"
#include "contract/prepared_step.h"
#include "device/graph.h"

namespace lockstep {

// Thread: one owner.
class CapturedStep {
 public:
  // The field of a fault of check() where nothing of the plan has the value that differs.
  static constexpr std::string_view kUnnamed = "launch";

  CapturedStep() = default;
  // Keeps what was prepared and bound, and the values that were read on the host.
  CapturedStep(const StepPlan& plan, const PreparedStep& prepared, std::span<const Binding> bindings);

  // Holds what was prepared for `plan` to what was captured. In this order: the same fields were bound (R1)
  // at the same addresses, with the same extents; values read on the host are the captured ones, or within
  // their bound (R2); decisions are the same (R5, R7); every consumer prepared the same bytes (R2: it froze
  // something that it does not declare, and the message says which live field has that value). Errors:
  // kInternal, with a fault of moment kReplay. Cost: a few hundred ns.
  Status check(const StepPlan& plan, const PreparedStep& prepared, std::span<const Binding> bindings) const;

  std::span<const Binding> bindings() const { return bindings_; }
  Digest bindings_digest() const { return bindings_digest_; }

 private:
  // A field that was read on the host.
  struct Held {
    size_t binding = 0;
    size_t offset = 0;  // of its values in values_
  };
  bool within_bounds(const StepPlan& plan, const ConsumerSpec& maker, std::span<const std::byte> was,
                     std::span<const std::byte> is) const;
  Status check_bindings(const StepPlan& plan, std::span<const Binding> bindings) const;
  Status check_values(const StepPlan& plan, const Held& held) const;
  Status undeclared(const StepPlan& plan, const PreparedStep& prepared, size_t part) const;

  PreparedStep prepared_;
  std::vector<Binding> bindings_;
  Digest bindings_digest_ = 0;
  std::vector<Held> held_;         // the kValue bindings, in their order
  std::vector<std::byte> values_;  // theirs
  std::vector<std::byte> image_;   // the plan's, to name what was frozen
};

// Of what was handed out, cheap enough for every step. It means something in this process only: it is made
// from addresses of specs and of static text.
Digest digest_of(std::span<const Binding> bindings);

// Why a step may not be captured; empty: it may. A live field that is read by value and not as a bound would
// be frozen, so its consumer stays out of graphs.
std::string reason_against_capture(std::span<const Binding> bindings);

// Holds recorded launches to what was bound (moment kCapture): an argument that a field feeds points at that
// field in the device image (R1), and has all of it (L1); no launch reads elsewhere in the image (L1) or
// writes to it (L4); what is indexed by rows has the bucket's rows (L1); and as check_operands() (L1, P6).
struct LaunchCheck {
  const StepPlan& plan;
  const DeviceImage& image;
  const MemoryMap& map;
  std::span<const Binding> bindings;
};
Status check_launches(const Graph& graph, const LaunchCheck& check);

}  // namespace lockstep
