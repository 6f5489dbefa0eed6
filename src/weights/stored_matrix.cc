#include "weights/stored_matrix.h"

#include "base/math.h"

namespace lockstep {
namespace {

constexpr std::string_view kWeight = ".weight";
constexpr std::string_view kScaleInv = "_scale_inv";
constexpr std::string_view kFits = "; check that config.json belongs to these weights";
constexpr int64_t kPerWord = 8;  // codes of 4 bits in an i32

// "X" of "X.weight"; a packed name has no suffix.
std::string base_of(std::string_view name) {
  if (name.ends_with(kWeight)) name.remove_suffix(kWeight.size());
  return std::string(name);
}

// Finds the tensors of one matrix.
class Finder {
 public:
  Finder(const Checkpoint& checkpoint, const Quantisation& by, const WantedMatrix& wanted,
         std::string_view who)
      : checkpoint_(checkpoint), by_(by), wanted_(wanted), who_(who), base_(base_of(wanted.name)) {}

  Result<StoredMatrix> find() {
    found_ = {.rows = wanted_.rows, .k = wanted_.k, .by = by_};
    const StoredTensor* plain = checkpoint_.find(wanted_.name);
    const StoredTensor* codes = checkpoint_.find(base_ + ".qweight");
    if (plain == nullptr && codes != nullptr) {
      LS_TRY(find_int4(*codes));
    } else if (plain != nullptr && plain->dtype == DType::kF8E4M3) {
      LS_TRY(find_fp8(*plain));
    } else {
      LS_TRY(find_plain(plain));
    }
    return found_;
  }

 private:
  Shape shape(int64_t rows, int64_t columns) const {
    if (wanted_.experts > 0) return {wanted_.experts, rows, columns};
    return {rows, columns};
  }

  Status missing(const std::string& name, const Shape& expected, std::string_view why) const {
    return error(Code::kNotFound, who_, ": ", checkpoint_.path(), " has no tensor ", name,
                 "; expected it with shape ", expected, why, kFits);
  }

  Status check_shape(const StoredTensor& tensor, const Shape& expected, std::string_view why) const {
    if (tensor.shape == expected) return {};
    return error(Code::kInvalidArgument, who_, ": ", tensor.name, " has shape ", tensor.shape, "; expected ",
                 expected, why, kFits);
  }

  Status find_plain(const StoredTensor* plain) {
    const Shape expected = shape(wanted_.rows, wanted_.k);
    if (plain == nullptr) return missing(wanted_.name, expected, "");
    LS_TRY(check_shape(*plain, expected, ""));
    if (!is_float_weight(plain->dtype)) {
      return error(Code::kInvalidArgument, who_, ": ", plain->name, " is ", plain->dtype,
                   "; expected f32, f16 or bf16; use an unquantised checkpoint");
    }
    found_.values = plain;
    return {};
  }

  // A tensor that goes with codes.
  Result<const StoredTensor*> companion(const std::string& name, const Shape& expected, bool is_float) const {
    const std::string why = concat(", as ", by_.text(), " of ", shape(wanted_.rows, wanted_.k), " has");
    const StoredTensor* tensor = checkpoint_.find(name);
    if (tensor == nullptr) return missing(name, expected, why);
    LS_TRY(check_shape(*tensor, expected, why));
    if (is_float ? is_float_weight(tensor->dtype) : tensor->dtype == DType::kI32) return tensor;
    return error(Code::kInvalidArgument, who_, ": ", name, " is ", tensor->dtype, "; expected ",
                 is_float ? "f32, f16 or bf16" : "i32", why);
  }

  Status find_fp8(const StoredTensor& codes) {
    if (by_.method != QuantMethod::kFp8) return not_explained(codes.name, "fp8");
    LS_TRY(check_shape(codes, shape(wanted_.rows, wanted_.k), ""));
    found_.as = StoredAs::kFp8;
    found_.values = &codes;
    found_.scales = LS_TRY(companion(
        wanted_.name + std::string(kScaleInv),
        shape(ceil_div(wanted_.rows, by_.block_rows), ceil_div(wanted_.k, by_.block_columns)), true));
    return {};
  }

  Status not_explained(const std::string& name, std::string_view method) const {
    const std::string given = by_.text();
    return error(Code::kInvalidArgument, who_, ": ", name, " holds codes; expected quantization_config of ",
                 method, " in config.json, which has ", given.empty() ? "none" : given, kFits);
  }

  Status find_int4(const StoredTensor& codes) {
    const bool awq = by_.method == QuantMethod::kAwq;
    if (!awq && by_.method != QuantMethod::kGptq) return not_explained(codes.name, "awq or gptq");
    const int64_t rows = wanted_.rows, k = wanted_.k;
    if (rows % kPerWord != 0 || (!awq && k % kPerWord != 0)) {
      return error(
          Code::kInvalidArgument, who_, ": ", codes.name, " holds a matrix of ", shape(rows, k),
          "; expected multiples of 8, as 8 codes share a word; use a checkpoint that leaves it as it is");
    }
    found_.as = awq ? StoredAs::kAwq : StoredAs::kGptq;
    LS_TRY(find_groups());
    found_.values = LS_TRY(
        companion(base_ + ".qweight", awq ? shape(k, rows / kPerWord) : shape(k / kPerWord, rows), false));
    found_.scales = LS_TRY(companion(base_ + ".scales", shape(found_.groups, rows), true));
    const std::string zeros = base_ + ".qzeros", group_of = base_ + ".g_idx";
    if (checkpoint_.contains(zeros) || awq || !by_.symmetric)
      found_.zeros = LS_TRY(companion(zeros, shape(found_.groups, rows / kPerWord), false));
    if (awq || !checkpoint_.contains(group_of)) return {};
    const Shape inputs = wanted_.experts > 0 ? Shape{wanted_.experts, k} : Shape{k};
    found_.group_of = LS_TRY(companion(group_of, inputs, false));
    return {};
  }

  // As the config says; where rules may say otherwise for a matrix, as its scales show.
  Status find_groups() {
    found_.group_size = by_.group_size < 0 ? wanted_.k : by_.group_size;
    found_.groups = ceil_div(wanted_.k, found_.group_size);
    const StoredTensor* scales = checkpoint_.find(base_ + ".scales");
    if (!by_.other_groups || scales == nullptr || scales->shape.rank < 2) return {};
    const int64_t there = scales->shape[scales->shape.rank - 2];
    if (there == found_.groups || there < 1 || wanted_.k % there != 0) return {};
    found_.groups = there;
    found_.group_size = wanted_.k / there;
    return {};
  }

  const Checkpoint& checkpoint_;
  const Quantisation& by_;
  const WantedMatrix& wanted_;
  std::string_view who_;
  std::string base_;
  StoredMatrix found_;
};

}  // namespace

bool is_stored(const Checkpoint& checkpoint, const std::string& name) {
  return checkpoint.contains(name) || checkpoint.contains(base_of(name) + ".qweight");
}

std::optional<DType> exact_dtype_of(const Checkpoint& checkpoint, const std::string& name) {
  if (!is_stored(checkpoint, name)) return std::nullopt;
  const StoredTensor* plain = checkpoint.find(name);
  return plain != nullptr && is_float_weight(plain->dtype) ? plain->dtype : DType::kF32;
}

Result<StoredMatrix> find_matrix(const Checkpoint& checkpoint, const Quantisation& by,
                                 const WantedMatrix& wanted, std::string_view who) {
  return Finder(checkpoint, by, wanted, who).find();
}

}  // namespace lockstep
