#include "contract/prepared_step.h"

#include "base/fault.h"

namespace lockstep {

Status PreparedStep::not_prepared(const ConsumerSpec& maker, GroupId group) const {
  std::string makers;
  for (const Part& part : parts()) makers += concat(makers.empty() ? "" : ", ", part.maker->name);
  if (makers.empty()) return error(Code::kInternal, maker.name, ": launched before anything was prepared");
  return broken({.check = "L2",
                 .moment = Moment::kLaunch,
                 .consumer = std::string(maker.name),
                 .field = "launch",
                 .expected = concat("the variant that the step was prepared for: ", makers),
                 .found = concat("for group ", group, ", which it did not prepare")});
}

}  // namespace lockstep
