// Test support for ops with a state per sequence: the plan's facts of a small batch, with pad rows and a pad
// sequence behind the live ones, and buffers poisoned with NaN.
#pragma once

#include <vector>

#include "base/units.h"
#include "kernels/common/test_support.h"

namespace lockstep::testing {

struct SequenceSpec {
  int32_t rows = 1;
  int32_t read_slot = 1;
  bool has_state = true;
  std::vector<int32_t> write_slots = {};  // of the last rows; earlier rows write nowhere
};

struct SequenceBatch {
  std::vector<int32_t> query_start_loc = {0};
  std::vector<int32_t> read_slots;
  std::vector<int32_t> write_slots;
  std::vector<int32_t> has_state;
  LiveRows num_rows;
  LiveSeqs num_seqs;

  explicit SequenceBatch(const std::vector<SequenceSpec>& sequences, int32_t pad_rows = 0) {
    for (const SequenceSpec& sequence : sequences) append(sequence);
    num_rows = LiveRows(write_slots.size());
    num_seqs = LiveSeqs(sequences.size());
    append({.rows = pad_rows, .read_slot = 0, .has_state = false});
  }

  int64_t rows() const { return static_cast<int64_t>(write_slots.size()); }
  int64_t seqs() const { return static_cast<int64_t>(read_slots.size()); }

 private:
  void append(const SequenceSpec& sequence) {
    const auto rows = static_cast<size_t>(sequence.rows);
    const size_t begin = write_slots.size();
    write_slots.resize(begin + rows, -1);
    const size_t written = sequence.write_slots.size();
    for (size_t i = 0; i < written; ++i) write_slots[begin + rows - written + i] = sequence.write_slots[i];
    query_start_loc.push_back(static_cast<int32_t>(write_slots.size()));
    read_slots.push_back(sequence.read_slot);
    has_state.push_back(sequence.has_state ? 1 : 0);
  }
};

// Ragged lengths around the chunk, an empty sequence, one without a state to begin with, one that writes
// nowhere, and one that reads and writes different slots.
inline SequenceBatch awkward_batch() {
  return SequenceBatch({{.rows = 1, .read_slot = 1, .write_slots = {1}},
                        {.rows = 3, .read_slot = 2, .write_slots = {2}},
                        {.rows = 0, .read_slot = 3},
                        {.rows = 64, .read_slot = 4, .has_state = false, .write_slots = {4}},
                        {.rows = 65, .read_slot = 5, .write_slots = {6}},
                        {.rows = 150, .read_slot = 7, .write_slots = {7}},
                        {.rows = 4, .read_slot = 8},
                        {.rows = 1, .read_slot = 9, .has_state = false, .write_slots = {9}},
                        {.rows = 63, .read_slot = 10, .write_slots = {10}},
                        {.rows = 1, .read_slot = 11}},
                       7);
}

}  // namespace lockstep::testing
