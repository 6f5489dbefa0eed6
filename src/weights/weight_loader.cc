#include "weights/weight_loader.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "base/math.h"
#include "weights/weight_fill.h"

namespace lockstep {
namespace {

// The form of a matrix that the checkpoint has.
const std::vector<WeightPart>& stored_form(const MatrixTarget& target, const Checkpoint& checkpoint) {
  if (target.otherwise.empty()) return target.parts;
  const bool first = !target.parts.empty() && checkpoint.contains(name_for_expert(target.parts[0], 0));
  const bool other = checkpoint.contains(name_for_expert(target.otherwise[0], 0));
  return other && !first ? target.otherwise : target.parts;
}

Shape stored_shape(const MatrixTarget& target, const WeightPart& part) {
  if (is_packed(part, target.stored_experts()))
    return {target.stored_experts(), part.rows, target.stored_k()};
  return {part.rows, target.stored_k()};
}

// Holds a plan to a checkpoint and remembers which tensors it reads.
class Check {
 public:
  Check(const WeightPlan& plan, const Checkpoint& checkpoint)
      : plan_(plan), checkpoint_(checkpoint), is_read_(checkpoint.tensors().size(), false) {}

  Status run() {
    for (const MatrixTarget& target : plan_.matrices) {
      for (const WeightPart& part : stored_form(target, checkpoint_)) {
        const int64_t tensors = is_packed(part, target.stored_experts()) ? 1 : target.stored_experts();
        for (int64_t expert = 0; expert < tensors; ++expert) {
          LS_TRY(use(name_for_expert(part, expert), stored_shape(target, part), false));
        }
      }
    }
    for (const TensorTarget& target : plan_.tensors) LS_TRY(use(target.name, stored_shape(target), true));
    return check_rest();
  }

  int64_t ignored() const { return ignored_; }

 private:
  Status use(const std::string& name, const Shape& shape, bool f64_allowed) {
    const StoredTensor* tensor = checkpoint_.find(name);
    if (tensor == nullptr) {
      return error(Code::kNotFound, plan_.family, ": ", checkpoint_.path(), " has no tensor ", name,
                   "; expected it with shape ", shape, "; check that config.json belongs to these weights");
    }
    if (tensor->shape != shape) {
      return error(Code::kInvalidArgument, plan_.family, ": ", name, " has shape ", tensor->shape,
                   "; expected ", shape, "; check that config.json belongs to these weights");
    }
    if (!is_float_weight(tensor->dtype) && !(f64_allowed && tensor->dtype == DType::kF64)) {
      return error(Code::kInvalidArgument, plan_.family, ": ", name, " is ", tensor->dtype,
                   "; expected f32, f16 or bf16; use an unquantised checkpoint");
    }
    is_read_[static_cast<size_t>(tensor - checkpoint_.tensors().data())] = true;
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
  explicit CheckpointRows(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  const std::vector<WeightPart>& form_of(const MatrixTarget& target) const override {
    return stored_form(target, checkpoint_);
  }

  DType dtype_of(const MatrixTarget&, const WeightPart& part, int64_t expert) const override {
    return checkpoint_.find(name_for_expert(part, expert))->dtype;
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

  const Checkpoint& checkpoint_;
  mutable std::atomic<int64_t> bytes_read_{0};
};

}  // namespace

Status check_weights(const WeightPlan& plan, const Checkpoint& checkpoint) {
  LS_TRY(weight_footprint(plan));
  return Check(plan, checkpoint).run();
}

Result<LoadedWeights> load_weights(const WeightPlan& plan, const Checkpoint& checkpoint,
                                   const LoadOptions& options) {
  LS_TRY(weight_footprint(plan));
  Check check(plan, checkpoint);
  LS_TRY(check.run());
  const CheckpointRows rows(checkpoint);
  LoadedWeights weights = LS_TRY(place_and_fill(plan, rows, "loading weights", options));
  LS_TRY(checkpoint.check_unchanged());
  weights.bytes_read = rows.bytes_read();
  weights.ignored_tensors = check.ignored();
  return weights;
}

}  // namespace lockstep
