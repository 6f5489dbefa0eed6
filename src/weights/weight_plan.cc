// The arithmetic of a WeightPlan: rows, forms, bytes.
#include <algorithm>

#include "base/math.h"
#include "weights/weight_fill.h"
#include "weights/weight_loader.h"

namespace lockstep {
namespace {

constexpr std::string_view kExpertMark = "{}";
constexpr int64_t kMaxExtent = int64_t{1} << 40;
constexpr int64_t kMaxBytes = int64_t{1} << 62;

int64_t matrix_bytes(const MatrixTarget& target) {
  const int64_t each = packed_elements(target.dtype, target.layout, rows_of(target.parts), target.k);
  return Arena::footprint(target.dtype, {target.experts, each});
}

int64_t tensor_bytes(const TensorTarget& target) { return Arena::footprint(DType::kF32, target.shape); }

Status check_extents(const std::string& name, const Shape& shape) {
  int64_t bytes = 4;
  for (int i = 0; i < shape.rank; ++i) {
    if (shape[i] < 1) {
      return error(Code::kInvalidArgument, "weights: ", name, " has shape ", shape,
                   "; expected at least 1 in each dimension");
    }
    // The slack covers what padding to panels adds.
    const auto product = checked_mul(bytes, std::min(shape[i], kMaxExtent) + kPanelColumns);
    if (!product || *product > kMaxBytes || shape[i] > kMaxExtent) {
      return error(Code::kResourceExhausted, "weights: ", name, " has shape ", shape,
                   "; expected less than 2^62 bytes");
    }
    bytes = *product;
  }
  return {};
}

// What is taken of a source, by name, and how much there is.
struct Taken {
  const std::string& by;
  std::string_view what;  // "rows"
  RowRun run;
  const std::string& from;
  int64_t whole = 0;
};

Status check_taken(const Taken& taken) {
  const RowRun& run = taken.run;
  if (run.begin >= 0 && run.count >= 0 && run.begin <= taken.whole - run.count) return {};
  return error(Code::kInvalidArgument, "weights: ", taken.by, " takes ", taken.what, " ", run.begin, " to ",
               run.begin + run.count, " of ", taken.from, "; expected ", taken.what, " within 0 to ",
               taken.whole);
}

Status check_form(const MatrixTarget& target, const std::vector<WeightPart>& parts) {
  for (const WeightPart& part : parts) {
    LS_TRY(check_extents(part.name, {part.rows, target.stored_k()}));
    LS_TRY(
        check_taken({target.name, "inputs", {target.inputs.begin, target.k}, part.name, target.stored_k()}));
    LS_TRY(check_taken(
        {target.name, "experts", {target.held.begin, target.experts}, part.name, target.stored_experts()}));
    for (const RowRun& run : part.order) {
      if (run.begin == kZeroRows && run.count >= 0) continue;
      LS_TRY(check_taken({target.name, "rows", run, part.name, part.rows}));
    }
  }
  return {};
}

Status check_matrix(const MatrixTarget& target) {
  LS_TRY(check_form(target, target.parts));
  LS_TRY(check_form(target, target.otherwise));
  const int64_t rows = rows_of(target.parts);
  LS_TRY(check_extents(target.name, {target.experts, rows, target.k}));
  if (!target.otherwise.empty() && rows_of(target.otherwise) != rows) {
    return error(Code::kInvalidArgument, "weights: ", target.name, " has ", rows, " rows in one form and ",
                 rows_of(target.otherwise), " in the other; expected the same");
  }
  if (is_float_weight(target.dtype)) return {};
  return error(Code::kInvalidArgument, "weights: ", target.name, " is to be ", target.dtype,
               "; expected f32, f16 or bf16");
}

Status check_tensor(const TensorTarget& target) {
  LS_TRY(check_extents(target.name, target.shape));
  const Shape stored = stored_shape(target);
  int64_t rows = 0;
  for (const RowRun& run : runs_of(target)) {
    LS_TRY(check_taken({target.name, "rows", run, target.name, stored.rank > 0 ? stored[0] : 1}));
    rows += run.count;
  }
  if (rows * row_elements(target) == target.shape.elements()) return {};
  return error(Code::kInvalidArgument, "weights: ", target.name, " is ", target.stored, " on disk and ",
               target.shape, " in memory; expected the same number of elements");
}

}  // namespace

Shape stored_shape(const TensorTarget& target) {
  return target.stored.rank == 0 ? target.shape : target.stored;
}

std::vector<RowRun> runs_of(const TensorTarget& target) {
  if (!target.order.empty()) return target.order;
  const Shape stored = stored_shape(target);
  return {{.begin = 0, .count = stored.rank > 0 ? stored[0] : 1}};
}

int64_t row_elements(const TensorTarget& target) {
  const Shape stored = stored_shape(target);
  int64_t elements = 1;
  for (int64_t i = 1; i < stored.rank; ++i) elements *= stored[i];
  return elements;
}

int64_t rows_of(const std::vector<WeightPart>& parts) {
  int64_t rows = 0;
  for (const WeightPart& part : parts) {
    if (part.order.empty()) rows += part.rows;
    for (const RowRun& run : part.order) rows += run.count;
  }
  return rows;
}

std::vector<RowSegment> segments_of(const std::vector<WeightPart>& parts) {
  std::vector<RowSegment> segments;
  int64_t row = 0;
  const auto add = [&](const WeightPart& part, const RowRun& run) {
    segments.push_back({.part = &part, .source_row = run.begin, .target_row = row, .count = run.count});
    row += run.count;
  };
  for (const WeightPart& part : parts) {
    if (part.order.empty()) add(part, {0, part.rows});
    for (const RowRun& run : part.order) add(part, run);
  }
  return segments;
}

std::string name_for_expert(const WeightPart& part, int64_t expert) {
  std::string name = part.name;
  const size_t mark = name.find(kExpertMark);
  if (mark != name.npos) name.replace(mark, kExpertMark.size(), std::to_string(expert));
  return name;
}

bool is_packed(const WeightPart& part, int64_t experts) {
  return experts > 1 && part.name.find(kExpertMark) == part.name.npos;
}

std::vector<WeightBytes> weight_bytes(const WeightPlan& plan) {
  std::vector<WeightBytes> lines;
  for (const MatrixTarget& target : plan.matrices) {
    lines.push_back({.name = target.name, .part = target.part, .bytes = matrix_bytes(target)});
  }
  for (const TensorTarget& target : plan.tensors) {
    lines.push_back({.name = target.name, .part = target.part, .bytes = tensor_bytes(target)});
  }
  return lines;
}

std::vector<WeightBytes> weight_bytes_by_part(const WeightPlan& plan) {
  std::vector<WeightBytes> sums;
  for (const WeightBytes& line : weight_bytes(plan)) {
    const auto at =
        std::find_if(sums.begin(), sums.end(), [&](const auto& sum) { return sum.part == line.part; });
    if (at != sums.end()) {
      at->bytes += line.bytes;
    } else {
      sums.push_back({.name = "", .part = line.part, .bytes = line.bytes});
    }
  }
  return sums;
}

Result<int64_t> weight_footprint(const WeightPlan& plan) {
  for (const MatrixTarget& target : plan.matrices) LS_TRY(check_matrix(target));
  for (const TensorTarget& target : plan.tensors) LS_TRY(check_tensor(target));
  int64_t total = 0;
  for (const WeightBytes& line : weight_bytes(plan)) {
    const auto sum = checked_add(total, line.bytes);
    if (!sum || *sum > kMaxBytes) {
      return error(Code::kResourceExhausted, "weights: ", line.name, " and those before it take more than ",
                   total, " bytes; expected less than 2^62");
    }
    total = *sum;
  }
  return total;
}

}  // namespace lockstep
