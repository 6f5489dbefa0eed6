#include "weights/quantisation.h"

#include <algorithm>
#include <initializer_list>
#include <optional>

#include "json/utf8.h"

namespace lockstep {
namespace {

constexpr size_t kShown = 120;  // bytes of a foreign value in a message
constexpr int64_t kMaxBlock = 1 << 18;

// A string member that has one of a few values; absent reads as the first.
Result<std::string> one_of(const Json& object, std::string_view key,
                           std::initializer_list<std::string_view> known) {
  const std::string value = LS_TRY(object.string_or(key, *known.begin()));
  if (std::find(known.begin(), known.end(), value) != known.end()) return value;
  std::string listed;
  for (const std::string_view each : known) listed += concat(listed.empty() ? "" : " or ", "\"", each, "\"");
  return error(Code::kUnimplemented, object.find(key)->where(), " is \"", excerpt(value, kShown),
               "\"; expected ", listed, "; use a checkpoint of that form");
}

Status check_bits(const Json& object) {
  const int64_t bits = LS_TRY(object.integer("bits", 1, 64));
  if (bits == 4) return {};
  return error(Code::kUnimplemented, object.find("bits")->where(), " is ", bits,
               "; expected 4; use a checkpoint of 4 bits, of FP8, or an unquantised one");
}

// -1 is all inputs; otherwise whole words of codes share a group.
Result<int64_t> read_group_size(const Json& object) {
  const int64_t size = LS_TRY(object.integer_or("group_size", 128, -1, kMaxBlock));
  if (size == -1 || (size > 0 && size % 8 == 0)) return size;
  return object.find("group_size")->refuse("-1 for all inputs, or a multiple of 8");
}

Result<Quantisation> read_fp8(const Json& object) {
  Quantisation read{.method = QuantMethod::kFp8};
  LS_TRY(one_of(object, "fmt", {"e4m3", "float8_e4m3fn"}));
  LS_TRY(one_of(object, "activation_scheme", {"dynamic"}));
  const std::optional<Json> block = object.find("weight_block_size");
  if (!block) {
    return error(Code::kUnimplemented, object.where(),
                 ".weight_block_size is missing; expected [128, 128] or the like: one scale for a whole "
                 "matrix is not read");
  }
  const std::vector<int64_t> sizes = LS_TRY(block->as_integers(1, kMaxBlock));
  if (sizes.size() != 2) return block->refuse("two numbers: outputs and inputs of a block");
  read.block_rows = sizes[0];
  read.block_columns = sizes[1];
  return read;
}

Result<Quantisation> read_awq(const Json& object) {
  Quantisation read{.method = QuantMethod::kAwq};
  LS_TRY(check_bits(object));
  LS_TRY(one_of(object, "version", {"gemm", "GEMM"}));
  const bool zeros = LS_TRY(object.boolean_or("zero_point", true));
  if (!zeros) return object.find("zero_point")->refuse("true, with qzeros in the checkpoint");
  read.group_size = LS_TRY(read_group_size(object));
  return read;
}

Result<Quantisation> read_gptq(const Json& object) {
  Quantisation read{.method = QuantMethod::kGptq};
  LS_TRY(check_bits(object));
  const std::string format = LS_TRY(one_of(object, "checkpoint_format", {"gptq", "gptq_v2"}));
  read.zeros_less_one = format == "gptq";
  read.symmetric = LS_TRY(object.boolean_or("sym", false));
  LS_TRY(object.boolean_or("desc_act", false));  // g_idx says it, for every matrix by itself
  read.group_size = LS_TRY(read_group_size(object));
  if (const std::optional<Json> dynamic = object.find("dynamic")) {
    // Matrices that its "-:" rules leave out are plain in the header, and other bits have other shapes.
    if (!dynamic->is_object()) return dynamic->refuse("an object of rules");
    read.other_groups = true;
  }
  return read;
}

std::string groups_text(int64_t size) {
  return size < 0 ? std::string("one group of inputs") : concat("groups of ", size);
}

}  // namespace

std::string Quantisation::text() const {
  switch (method) {
    case QuantMethod::kNone: return "";
    case QuantMethod::kFp8: return concat("fp8 in blocks of ", block_rows, " x ", block_columns);
    case QuantMethod::kAwq: return concat("awq int4 in ", groups_text(group_size));
    case QuantMethod::kGptq: return concat("gptq int4 in ", groups_text(group_size));
  }
  return "";
}

Result<Quantisation> read_quantisation(const Json& config) {
  const std::optional<Json> entry = config.find("quantization_config");
  if (!entry) return Quantisation{};
  const Json object = LS_TRY(entry->as_object());
  const std::string method = LS_TRY(object.string("quant_method"));
  if (method == "fp8") return read_fp8(object);
  if (method == "awq") return read_awq(object);
  if (method == "gptq") return read_gptq(object);
  return error(Code::kUnimplemented, object.where(), ".quant_method is \"", excerpt(method, kShown),
               "\"; expected fp8, awq or gptq; use such a checkpoint, or an unquantised one");
}

}  // namespace lockstep
