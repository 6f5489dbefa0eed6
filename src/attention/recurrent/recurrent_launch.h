// What the recurrent backends have in common: the fields of the plan that say whose rows are whose and where
// states go, and the order in which context-parallel ranks run the chunks of a sequence.
#pragma once

#include "attention/attention_backend.h"
#include "attention/context/context_group.h"

namespace lockstep {

// A recurrent backend's spec lists these uses; its ops name the arguments so.
inline constexpr FieldUse kRecurrentUses[] = {
    {.field = FieldId::query_start_loc, .argument = "*.query_start_loc"},
    {.field = FieldId::state_read_slot, .argument = "*.state_read_slot"},
    {.field = FieldId::state_write_slots, .argument = "*.state_write_slots"},
    {.field = FieldId::has_initial_state, .argument = "*.has_initial_state"},
    {.field = FieldId::num_rows, .argument = "*.num_rows"},
    {.field = FieldId::num_seqs, .argument = "*.num_seqs"},
    {.field = FieldId::state_read_slot, .argument = "hand_on_states.slots"},
    {.field = FieldId::uniform_query_len, .feed = Feed::kValue, .argument = "*.query_len"},
    {.field = FieldId::num_seqs, .feed = Feed::kValue, .argument = {}},
    {.field = FieldId::cp_ranks, .feed = Feed::kValue, .argument = {}},
    {.field = FieldId::cp_rank, .feed = Feed::kValue, .argument = {}},
};

// The plan's fields on the device, for all layers.
struct RecurrentLaunch {
  FieldView query_start_loc;    // [S + 1]
  FieldView state_read_slot;    // [S]
  FieldView state_write_slots;  // [T]
  FieldView has_initial_state;  // [S]
  const LiveRows* num_rows = nullptr;
  const LiveSeqs* num_seqs = nullptr;
  int64_t query_len = 0;  // of every sequence that has rows; 0: they differ
  ContextCut cut;
  int64_t whole = 0;  // sequences whose rows are shared: early chunks first, then as many late ones
};

// Fills `launch` for `consumer`, whose fields are kRecurrentUses. Errors: as Binder::bind and bind_cut.
Status bind_recurrent(const Binder& binder, const ConsumerSpec& consumer, const ContextGroup& context,
                      RecurrentLaunch& launch);

// Of all sequences whose rows are shared the early chunks, or the late ones. num_seqs counts both, and an op
// holds it to what its views have.
struct SequenceHalf {
  TensorView query_start_loc;    // [whole + 1]
  TensorView state_read_slot;    // [whole]
  TensorView has_initial_state;  // [whole]
};
SequenceHalf half_of(const RecurrentLaunch& launch, bool late);

// Calls run(half) for this rank's two chunks of every sequence when it is their turn: a chunk begins where
// the one before has ended, on whichever rank. After each the states go to all ranks, so that after the last
// every rank has those of all sequences.
template <typename Run>
Status run_in_turn(const RecurrentLaunch& launch, const ContextGroup& context, const StateView& state,
                   const Launcher& on, Run&& run) {
  const int32_t ranks = launch.cut.ranks;
  for (int32_t chunk = 0; chunk < 2 * ranks; ++chunk) {
    const bool late = chunk >= ranks;
    const int32_t owner = late ? 2 * ranks - 1 - chunk : chunk;
    if (owner == launch.cut.rank) LS_TRY(run(half_of(launch, late)));
    LS_TRY(hand_on_states(on,
                          {.conv = state.conv,
                           .memory = state.memory,
                           .slots = launch.state_read_slot.tensor().rows(0, launch.whole),
                           .group = context.group,
                           .root = owner},
                          "hand_on"));
  }
  return {};
}

}  // namespace lockstep
