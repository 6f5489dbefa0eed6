#include "weights/weight_loader.h"

#include <algorithm>
#include <atomic>
#include <set>
#include <utility>

#include "base/math.h"
#include "weights/stored_matrix.h"
#include "weights/weight_fill.h"

namespace lockstep {
namespace {

// The form of a matrix that the checkpoint has.
const std::vector<WeightPart>& stored_form(const MatrixTarget& target, const Checkpoint& checkpoint) {
  if (target.otherwise.empty()) return target.parts;
  const bool first = !target.parts.empty() && is_stored(checkpoint, name_for_expert(target.parts[0], 0));
  const bool other = is_stored(checkpoint, name_for_expert(target.otherwise[0], 0));
  return other && !first ? target.otherwise : target.parts;
}

// Tensors that hold a part, of a checkpoint that is plain.
int64_t tensors_of(const MatrixTarget& target, const WeightPart& part) {
  return is_packed(part, target.stored_experts()) ? 1 : target.stored_experts();
}

Result<StoredMatrix> find_part(const WeightPlan& plan, const Checkpoint& checkpoint,
                               const MatrixTarget& target, const WeightPart& part, int64_t expert) {
  return find_matrix(checkpoint, plan.quantisation,
                     {.name = name_for_expert(part, expert),
                      .rows = part.rows,
                      .k = target.stored_k(),
                      .experts = is_packed(part, target.stored_experts()) ? target.stored_experts() : 0},
                     plan.family);
}

// Holds a plan to a checkpoint and remembers which tensors it reads.
class Check {
 public:
  Check(const WeightPlan& plan, const Checkpoint& checkpoint)
      : plan_(plan), checkpoint_(checkpoint), is_read_(checkpoint.tensors().size(), false) {}

  Status run() {
    for (const MatrixTarget& target : plan_.matrices) {
      for (const WeightPart& part : stored_form(target, checkpoint_)) {
        for (int64_t expert = 0; expert < tensors_of(target, part); ++expert) {
          const StoredMatrix matrix = LS_TRY(find_part(plan_, checkpoint_, target, part, expert));
          for (const StoredTensor* tensor : matrix.tensors())
            if (tensor != nullptr) mark(*tensor);
        }
      }
    }
    for (const TensorTarget& target : plan_.tensors) LS_TRY(use(target.name, stored_shape(target)));
    return check_rest();
  }

  int64_t ignored() const { return ignored_; }

 private:
  void mark(const StoredTensor& tensor) {
    is_read_[static_cast<size_t>(&tensor - checkpoint_.tensors().data())] = true;
  }

  Status use(const std::string& name, const Shape& shape) {
    const StoredTensor* tensor = checkpoint_.find(name);
    if (tensor == nullptr) {
      return error(Code::kNotFound, plan_.family, ": ", checkpoint_.path(), " has no tensor ", name,
                   "; expected it with shape ", shape, "; check that config.json belongs to these weights");
    }
    if (tensor->shape != shape) {
      return error(Code::kInvalidArgument, plan_.family, ": ", name, " has shape ", tensor->shape,
                   "; expected ", shape, "; check that config.json belongs to these weights");
    }
    if (!is_float_weight(tensor->dtype) && tensor->dtype != DType::kF64) {
      return error(Code::kInvalidArgument, plan_.family, ": ", name, " is ", tensor->dtype,
                   "; expected f32, f16 or bf16; use an unquantised checkpoint");
    }
    mark(*tensor);
    return {};
  }

  Status check_rest() {
    const StoredTensor* first = nullptr;
    int64_t unknown = 0;
    for (size_t i = 0; i < is_read_.size(); ++i) {
      const StoredTensor& tensor = checkpoint_.tensors()[i];
      if (is_read_[i]) continue;
      if (plan_.may_ignore && plan_.may_ignore(tensor.name)) {
        ++ignored_;
      } else if (++unknown == 1) {
        first = &tensor;
      }
    }
    if (unknown == 0) return {};
    return error(Code::kInvalidArgument, plan_.family, ": ", checkpoint_.path(), " holds ", unknown,
                 unknown == 1 ? " tensor" : " tensors", " that this family does not read, first ",
                 first->name, " ", first->shape, " ", first->dtype,
                 "; expected none; check model_type in config.json");
  }

  const WeightPlan& plan_;
  const Checkpoint& checkpoint_;
  std::vector<bool> is_read_;
  int64_t ignored_ = 0;
};

// Rows of a checkpoint that passed the Check.
class CheckpointRows : public RowSource {
 public:
  CheckpointRows(const WeightPlan& plan, const Checkpoint& checkpoint)
      : plan_(plan), checkpoint_(checkpoint) {}

  const std::vector<WeightPart>& form_of(const MatrixTarget& target) const override {
    return stored_form(target, checkpoint_);
  }

  // Codes become what the matrix is made of, so that nothing is rounded twice.
  DType dtype_of(const MatrixTarget& target, const WeightPart& part, int64_t expert) const override {
    const StoredTensor* plain = checkpoint_.find(name_for_expert(part, expert));
    return plain != nullptr && is_float_weight(plain->dtype) ? plain->dtype : target.dtype;
  }

  Result<bool> read_ahead(const MatrixTarget& target, const RowSegment& segment, int64_t expert,
                          QuantisedBlock& block) const override {
    const WeightPart& part = *segment.part;
    const StoredTensor* plain = checkpoint_.find(name_for_expert(part, expert));
    if (plain != nullptr && is_float_weight(plain->dtype)) return false;
    const StoredMatrix matrix = LS_TRY(find_part(plan_, checkpoint_, target, part, expert));
    LS_TRY(read_block(checkpoint_, matrix,
                      {.expert = is_packed(part, target.stored_experts()) ? expert : 0,
                       .row = segment.source_row,
                       .rows = segment.count,
                       .column = target.inputs.begin,
                       .columns = target.k},
                      bytes_read_, block));
    return true;
  }

  Status read_rows(const MatrixTarget& target, const RowSegment& segment, int64_t expert,
                   void* destination) const override {
    const WeightPart& part = *segment.part;
    const StoredTensor& tensor = *checkpoint_.find(name_for_expert(part, expert));
    const int64_t first =
        segment.source_row + (is_packed(part, target.stored_experts()) ? expert * part.rows : 0);
    const int64_t element = size_of(tensor.dtype);
    const int64_t step = target.stored_k() * element, taken = target.k * element;
    if (step == taken) return read(tensor, first * step, segment.count * step, destination);
    auto* row = static_cast<char*>(destination);
    for (int64_t i = 0; i < segment.count; ++i, row += taken)
      LS_TRY(read(tensor, (first + i) * step + target.inputs.begin * element, taken, row));
    return {};
  }

  Status read_tensor(const TensorTarget& target, float* destination) const override {
    const StoredTensor& tensor = *checkpoint_.find(target.name);
    switch (tensor.dtype) {
      case DType::kF64: return read_as_f32<double>(tensor, target, destination);
      case DType::kF16: return read_as_f32<Float16>(tensor, target, destination);
      case DType::kBF16: return read_as_f32<BFloat16>(tensor, target, destination);
      default: return read_as_f32<float>(tensor, target, destination);  // no other is let through to here
    }
  }

  int64_t bytes_read() const { return bytes_read_.load(); }

 private:
  template <typename T>
  Status read_as_f32(const StoredTensor& tensor, const TensorTarget& target, float* destination) const {
    const int64_t row = row_elements(target), row_bytes = row * static_cast<int64_t>(sizeof(T));
    for (const RowRun& run : runs_of(target)) {
      std::vector<T> values(static_cast<size_t>(run.count * row));
      LS_TRY(read(tensor, run.begin * row_bytes, run.count * row_bytes, values.data()));
      for (const T& value : values) *destination++ = static_cast<float>(value);
    }
    return {};
  }

  Status read(const StoredTensor& tensor, int64_t offset, int64_t bytes, void* destination) const {
    bytes_read_.fetch_add(bytes, std::memory_order_relaxed);
    return checkpoint_.read(tensor, offset, bytes, destination);
  }

  const WeightPlan& plan_;
  const Checkpoint& checkpoint_;
  mutable std::atomic<int64_t> bytes_read_{0};
};

// What a rank's share of one tensor takes in memory.
int64_t share_bytes(const MatrixTarget& target, const WeightPart& part) {
  const int64_t experts = is_packed(part, target.stored_experts()) ? target.experts : 1;
  return experts * rows_of({part}) * target.k * size_of(target.dtype);
}

std::string form_text(const StoredMatrix& matrix) {
  if (matrix.as == StoredAs::kPlain) return std::string(name_of(matrix.values->dtype));
  return matrix.by.text();
}

}  // namespace

Status check_weights(const WeightPlan& plan, const Checkpoint& checkpoint) {
  LS_TRY(weight_footprint(plan));
  return Check(plan, checkpoint).run();
}

std::vector<StoredPart> stored_by_part(const WeightPlan& plan, const Checkpoint& checkpoint) {
  std::vector<StoredPart> sums;
  std::set<const StoredTensor*> counted;  // a tensor may give several parts of a matrix
  for (const MatrixTarget& target : plan.matrices) {
    for (const WeightPart& part : stored_form(target, checkpoint)) {
      for (int64_t expert = 0; expert < tensors_of(target, part); ++expert) {
        const Result<StoredMatrix> matrix = find_part(plan, checkpoint, target, part, expert);
        LS_CHECK(matrix.ok(), matrix.status().message());
        const std::string form = form_text(*matrix);
        auto sum = std::find_if(sums.begin(), sums.end(), [&](const StoredPart& each) {
          return each.part == target.part && each.form == form;
        });
        if (sum == sums.end()) sum = sums.insert(sums.end(), {.part = target.part, .form = form});
        if (expert < target.experts || is_packed(part, target.stored_experts()))
          sum->memory += share_bytes(target, part);
        for (const StoredTensor* tensor : matrix->tensors()) {
          if (tensor == nullptr || !counted.insert(tensor).second) continue;
          ++sum->tensors;
          sum->bytes += tensor->bytes;
        }
      }
    }
  }
  return sums;
}

std::optional<DType> exact_dtype_of(const WeightPlan& plan, const Checkpoint& checkpoint) {
  std::optional<DType> found;
  for (const MatrixTarget& target : plan.matrices) {
    for (const WeightPart& part : stored_form(target, checkpoint)) {
      for (int64_t expert = 0; expert < tensors_of(target, part); ++expert) {
        const std::optional<DType> exact = exact_dtype_of(checkpoint, name_for_expert(part, expert));
        if (exact) found = !found || *found == *exact ? *exact : DType::kF32;
      }
    }
  }
  return found;
}

Result<LoadedWeights> load_weights(const WeightPlan& plan, const Checkpoint& checkpoint,
                                   const LoadOptions& options) {
  LS_TRY(weight_footprint(plan));
  Check check(plan, checkpoint);
  LS_TRY(check.run());
  const CheckpointRows rows(plan, checkpoint);
  LoadedWeights weights = LS_TRY(place_and_fill(plan, rows, "loading weights", options));
  LS_TRY(checkpoint.check_unchanged());
  weights.bytes_read = rows.bytes_read();
  weights.ignored_tensors = check.ignored();
  return weights;
}

}  // namespace lockstep
