#include "contract/prepared_step.h"

namespace lockstep {

Status PreparedStep::not_prepared(const ConsumerSpec& maker, GroupId group) const {
  std::string makers;
  for (const Part& part : parts()) makers += concat(makers.empty() ? "" : ", ", part.maker->name);
  return error(Code::kInternal, "L2 ", maker.name, ": launched for group ", group,
               ", which it did not prepare; expected the variant that the step was prepared for: ",
               makers.empty() ? "none" : makers);
}

}  // namespace lockstep
