#include "guard/guard.h"

#include "contract/operand_check.h"
#include "guard/ids.h"

namespace lockstep {

LaunchObserver Guard::observer() {
  return {.before = [](void* self, const LaunchRecord& launch) { static_cast<Guard*>(self)->before(launch); },
          .after = [](void* self, const LaunchRecord& launch) { static_cast<Guard*>(self)->after(launch); },
          .self = this};
}

void Guard::begin_step(const StepPlan& plan, std::span<const uint64_t> sequence_ids) {
  owners_.read(plan);
  step_.reset(new StepView{.plan = plan,
                           .limits = options_.limits,
                           .map = map_,
                           .image = reinterpret_cast<uintptr_t>(image_.data),
                           .owners = owners_,
                           .memory = options_.memory});
  status_ = {};
  probe_.begin_step(*step_, sequence_ids);
}

Status Guard::end_step() {
  step_.reset();
  LS_TRY(options_.memory.status());  // what could not be looked at says nothing
  return std::exchange(status_, Status());
}

void Guard::before(const LaunchRecord& launch) {
  if (step_ == nullptr) return;
  const uint64_t epoch = step_->plan.scalar(field::epoch).get();
  if (status_.ok()) status_ = check_operands(launch, {.map = map_, .moment = Moment::kLaunch, .step = epoch});
  if (status_.ok()) status_ = check_ids(*step_, launch);
  probe_.before(*step_, launch);
  if (poisons(launch)) poison_.before(*step_, launch);
}

void Guard::after(const LaunchRecord& launch) {
  if (step_ == nullptr) return;
  probe_.after(*step_, launch);
  if (poisons(launch)) status_ = poison_.after(*step_, launch);
}

// A rank that ran a collective again would wait for ranks that do not. A poisoned input shows elsewhere: what
// it leads to is the input of the next launch.
bool Guard::poisons(const LaunchRecord& launch) const {
  return options_.poison && status_.ok() && !launch.site.spec->collective;
}

}  // namespace lockstep
