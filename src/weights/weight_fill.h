// How the weights of a plan are placed in an arena and filled from a source of rows, in parallel.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "device/arena.h"
#include "weights/dequantise.h"
#include "weights/weight_loader.h"

namespace lockstep {

// Rows that a matrix takes from a part: [source_row, source_row + count) of the part become
// [target_row, target_row + count) of the matrix.
struct RowSegment {
  const WeightPart* part = nullptr;
  int64_t source_row = 0;  // kZeroRows: the rows are zeros
  int64_t target_row = 0;
  int64_t count = 0;
};

// The parts of one form of a matrix as segments that cover its rows in ascending order.
std::vector<RowSegment> segments_of(const std::vector<WeightPart>& parts);

// Rows of the matrix that `parts` make.
int64_t rows_of(const std::vector<WeightPart>& parts);

// The name of the tensor that `part` means for one expert.
std::string name_for_expert(const WeightPart& part, int64_t expert);
// True when one tensor holds the part's rows of all `experts` experts of the checkpoint.
bool is_packed(const WeightPart& part, int64_t experts);

// A dense tensor as on disk, and the runs of its rows that the target takes.
Shape stored_shape(const TensorTarget& target);
std::vector<RowRun> runs_of(const TensorTarget& target);
// Elements of one row of it.
int64_t row_elements(const TensorTarget& target);

// Where values come from. Thread: any number of readers.
class RowSource {
 public:
  virtual ~RowSource() = default;
  // The form of `target` that this source has.
  virtual const std::vector<WeightPart>& form_of(const MatrixTarget& target) const = 0;
  // The element type of the rows that it gives. `expert` counts those of the
  // checkpoint.
  virtual DType dtype_of(const MatrixTarget& target, const WeightPart& part, int64_t expert) const = 0;
  // Reads what the rows of a segment are made of, where that does not lie row by row. False: it does.
  virtual Result<bool> read_ahead(const MatrixTarget&, const RowSegment&, int64_t /*expert*/,
                                  QuantisedBlock& /*block*/) const {
    return false;
  }
  // Writes the target's columns of rows [segment.source_row, + segment.count) of the segment's part, dense.
  // Not for what is read ahead: of that, dequantise() makes the rows.
  virtual Status read_rows(const MatrixTarget& target, const RowSegment& segment, int64_t expert,
                           void* destination) const = 0;
  // Writes the elements that a dense tensor takes, as f32.
  virtual Status read_tensor(const TensorTarget& target, float* destination) const = 0;
};

// Places every weight of the plan in an arena of its own and fills it from `source`.
Result<LoadedWeights> place_and_fill(const WeightPlan& plan, const RowSource& source, std::string_view what,
                                     const LoadOptions& options);

}  // namespace lockstep
