#include "attention/recurrent/recurrent_launch.h"

namespace lockstep {

Status bind_recurrent(const Binder& binder, const ConsumerSpec& consumer, const ContextGroup& context,
                      RecurrentLaunch& launch) {
  if (context.ranks > 1) launch.cut = LS_TRY(bind_cut(binder, consumer, context));
  if (launch.cut.shared()) {
    const LiveSeqs halves = LS_TRY(binder.value(consumer, field::num_seqs));
    launch.whole = halves.get() / 2;
  }
  launch.query_len = LS_TRY(binder.value(consumer, field::uniform_query_len)).get();
  return binder.bind(consumer, {{FieldId::query_start_loc, launch.query_start_loc},
                                {FieldId::state_read_slot, launch.state_read_slot},
                                {FieldId::state_write_slots, launch.state_write_slots},
                                {FieldId::has_initial_state, launch.has_initial_state},
                                {field::num_rows, launch.num_rows},
                                {field::num_seqs, launch.num_seqs}});
}

SequenceHalf half_of(const RecurrentLaunch& launch, bool late) {
  const int64_t first = late ? launch.whole : 0;
  return {.query_start_loc = launch.query_start_loc.tensor().rows(first, launch.whole + 1),
          .state_read_slot = launch.state_read_slot.tensor().rows(first, launch.whole),
          .has_initial_state = launch.has_initial_state.tensor().rows(first, launch.whole)};
}

}  // namespace lockstep
