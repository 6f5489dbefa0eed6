// OperandCheck: what any launch can be held to from its Args and its OpSpec alone: strides that the op
// honours, indices that lie apart, memory that one allocation has, offsets that its index counts.
#pragma once

#include "base/fault.h"
#include "device/memory_map.h"
#include "kernels/common/operands.h"

namespace lockstep {

struct OperandCheck {
  const MemoryMap& map;
  Moment moment = Moment::kCapture;
  uint64_t step = 0;
};

// Errors: kInternal, naming the launch and the argument: strides other than those that the op honours (L1);
// entries of one operand that share bytes (P6: a stride smaller than what it steps over, 0 for what is
// written); bytes outside of the allocation that the address lies in, or offsets wider than the op's index
// (P6). Memory in no arena is not looked at. Cost: no allocation, some ten nanoseconds per operand.
Status check_operands(const LaunchRecord& launch, const OperandCheck& check);

}  // namespace lockstep
