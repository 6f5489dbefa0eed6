// What broken quantised checkpoints and configs are answered with.
#include "weights/quantised_test_support.h"

namespace lockstep {
namespace {

constexpr Quantisation kFp8{.method = QuantMethod::kFp8};
constexpr Quantisation kAwq{.method = QuantMethod::kAwq, .group_size = 64};
constexpr Quantisation kGptq{.method = QuantMethod::kGptq, .group_size = 64};

// Loads "x.weight" [16, 128] from the source and gives the answer.
std::string answer(const CodedCheckpoint& source, const Quantisation& by, int64_t rows = 16) {
  PackedWeight matrix;
  WeightPlan plan{.family = "toy"};
  plan.quantisation = by;
  plan.matrices.push_back(
      {.into = &matrix, .name = "m", .k = 128, .parts = {{.name = "x.weight", .rows = rows}}});
  const auto weights = load_weights(plan, source.checkpoint(), {});
  return weights.ok() ? "(accepted)" : weights.status().message();
}

const std::string kFits = "; check that config.json belongs to these weights";

TEST(QuantisedRefusal, NamesCodesThatTheConfigDoesNotExplain) {
  CodedCheckpoint fp8(1), int4(2);
  fp8.raw("x.weight", DType::kF8E4M3, {16, 128});
  int4.raw("x.qweight", DType::kI32, {16, 16});

  EXPECT_EQ(answer(fp8, {}),
            "toy: x.weight holds codes; expected quantization_config of fp8 in config.json, which has none" +
                kFits);
  EXPECT_EQ(answer(fp8, kGptq),
            "toy: x.weight holds codes; expected quantization_config of fp8 in config.json, which has gptq "
            "int4 in groups of 64" +
                kFits);
  EXPECT_EQ(answer(int4, kFp8),
            "toy: x.qweight holds codes; expected quantization_config of awq or gptq in config.json, which "
            "has fp8 in blocks of 128 x 128" +
                kFits);
}

TEST(QuantisedRefusal, NamesAMissingScaleAndAWrongOne) {
  const std::string why = ", as fp8 in blocks of 128 x 128 of [16, 128] has";
  CodedCheckpoint none(1), other(2), whole(3);
  for (CodedCheckpoint* source : {&none, &other, &whole}) source->raw("x.weight", DType::kF8E4M3, {16, 128});
  other.scales("x.weight_scale_inv", DType::kF32, {1, 2});
  whole.raw("x.weight_scale_inv", DType::kI32, {1, 1});

  EXPECT_EQ(answer(none, kFp8), "toy: " + none.path() +
                                    " has no tensor x.weight_scale_inv; expected it with shape [1, 1]" + why +
                                    kFits);
  EXPECT_EQ(answer(other, kFp8), "toy: x.weight_scale_inv has shape [1, 2]; expected [1, 1]" + why + kFits);
  EXPECT_EQ(answer(whole, kFp8), "toy: x.weight_scale_inv is i32; expected f32, f16 or bf16" + why);
}

TEST(QuantisedRefusal, NamesWordsOfAnotherLayout) {
  const std::string awq = ", as awq int4 in groups of 64 of [16, 128] has" + kFits;
  const std::string gptq = ", as gptq int4 in groups of 64 of [16, 128] has" + kFits;
  CodedCheckpoint of_awq(1), of_gptq(2), wide(3), odd(4);
  of_awq.raw("x.qweight", DType::kI32, {128, 2});
  of_gptq.raw("x.qweight", DType::kI32, {16, 16});
  wide.raw("x.qweight", DType::kI64, {16, 16});

  EXPECT_EQ(answer(of_awq, kGptq), "toy: x.qweight has shape [128, 2]; expected [16, 16]" + gptq);
  EXPECT_EQ(answer(of_gptq, kAwq), "toy: x.qweight has shape [16, 16]; expected [128, 2]" + awq);
  EXPECT_EQ(answer(wide, kGptq),
            "toy: x.qweight is i64; expected i32, as gptq int4 in groups of 64 of [16, 128] has");
  EXPECT_EQ(answer(of_awq, kAwq),
            "toy: " + of_awq.path() + " has no tensor x.scales; expected it with shape [2, 16]" + awq);
  EXPECT_EQ(
      answer(of_awq, kAwq, 12),
      "toy: x.qweight holds a matrix of [12, 128]; expected multiples of 8, as 8 codes share a word; use "
      "a checkpoint that leaves it as it is");
  of_awq.scales("x.scales", DType::kF16, {2, 16});
  EXPECT_EQ(answer(of_awq, kAwq),
            "toy: " + of_awq.path() + " has no tensor x.qzeros; expected it with shape [2, 2]" + awq);
}

TEST(QuantisedRefusal, NamesScalesThatAreNotFinite) {
  CodedCheckpoint fp8(1), gptq(2);
  fp8.raw("x.weight", DType::kF8E4M3, {16, 128});
  const float nan = std::nanf("");
  std::memcpy(fp8.raw("x.weight_scale_inv", DType::kF32, {1, 1}).data(), &nan, 4);
  gptq.raw("x.qweight", DType::kI32, {16, 16});
  gptq.raw("x.qzeros", DType::kI32, {2, 2});
  std::vector<uint8_t>& scales = gptq.raw("x.scales", DType::kF16, {2, 16});
  std::fill(scales.begin(), scales.end(), uint8_t{0});
  scales[2 * (16 + 3) + 1] = 0x7C;  // infinity

  EXPECT_EQ(answer(fp8, kFp8),
            "weights: x.weight_scale_inv[0, 0] is nan; expected a finite scale; fetch the checkpoint again");
  EXPECT_EQ(answer(gptq, kGptq),
            "weights: x.scales[1, 3] is inf; expected a finite scale; fetch the checkpoint again");
}

TEST(QuantisedRefusal, NamesAGroupThatThereIsNot) {
  for (const int32_t group : {2, -1}) {
    CodedCheckpoint source(3);
    source.add({.title = "gptq", .by = kGptq, .scales = DType::kF16}, "x.weight", 16, 128);
    std::vector<uint8_t>& groups = source.raw("x.g_idx", DType::kI32, {128});
    std::fill(groups.begin(), groups.end(), uint8_t{0});
    std::memcpy(groups.data() + 4 * 77, &group, 4);

    EXPECT_EQ(answer(source, kGptq), concat("weights: x.g_idx[77] is ", group,
                                            "; expected a group in 0..1; fetch the checkpoint again"));
  }
}

TEST(QuantisedRefusal, CountsTensorsOfScalesThatNobodyReads) {
  CodedCheckpoint source(5);
  source.scales("x.weight", DType::kBF16, {16, 128});
  source.scales("x.weight_scale_inv", DType::kF32, {1, 1});

  EXPECT_EQ(answer(source, kFp8), "toy: " + source.path() +
                                      " holds 1 tensor that this family does not read, first "
                                      "x.weight_scale_inv [1, 1] f32; expected none; check model_type in "
                                      "config.json");
}

std::string read(const std::string& text) {
  const auto config = parse_json("{\"quantization_config\": " + text + "}", {}, "config.json");
  const auto read = read_quantisation(config.value());
  return read.ok() ? read->text() : read.status().message();
}

TEST(QuantisationConfig, IsReadAsMakersWriteIt) {
  EXPECT_EQ(read_quantisation(parse_json("{}", {}, "c").value()).value(), Quantisation{});
  EXPECT_EQ(read("null"), "");
  EXPECT_EQ(read(R"({"quant_method": "fp8", "fmt": "float8_e4m3fn", "activation_scheme": "dynamic",
                     "weight_block_size": [128, 64], "modules_to_not_convert": ["gate"]})"),
            "fp8 in blocks of 128 x 64");
  EXPECT_EQ(read(R"({"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": true,
                     "version": "gemm", "modules_to_not_convert": null})"),
            "awq int4 in groups of 32");
  EXPECT_EQ(read(R"({"quant_method": "gptq", "bits": 4, "group_size": -1, "desc_act": true, "sym": true})"),
            "gptq int4 in one group of inputs");
  const auto gptq = [](const std::string& more) {
    return read_quantisation(
               parse_json(R"({"quantization_config": {"quant_method": "gptq", "bits": 4)" + more + "}}", {},
                          "c")
                   .value())
        .value();
  };
  EXPECT_TRUE(gptq("").zeros_less_one);
  EXPECT_FALSE(gptq("").symmetric);
  EXPECT_FALSE(gptq(R"(, "checkpoint_format": "gptq_v2")").zeros_less_one);
  EXPECT_TRUE(gptq(R"(, "sym": true)").symmetric);
  EXPECT_TRUE(gptq(R"(, "dynamic": {"-:.*gate.*": {}})").other_groups);
  EXPECT_FALSE(gptq(R"(, "dynamic": null)").other_groups);
}

TEST(QuantisationConfig, IsRefusedInASentence) {
  const std::string at = "config.json: quantization_config";
  EXPECT_EQ(read("7"), at + " is 7; expected an object");
  EXPECT_EQ(read("{}"), at + ".quant_method is missing; expected a string");
  EXPECT_EQ(read(R"({"quant_method": "bitsandbytes"})"),
            at + ".quant_method is \"bitsandbytes\"; expected fp8, awq or gptq; use such a checkpoint, or an "
                 "unquantised one");
  EXPECT_EQ(read(R"({"quant_method": "gptq", "bits": 8})"),
            at + ".bits is 8; expected 4; use a checkpoint of 4 bits, of FP8, or an unquantised one");
  EXPECT_EQ(read(R"({"quant_method": "awq", "bits": 4, "version": "gemv"})"),
            at + ".version is \"gemv\"; expected \"gemm\" or \"GEMM\"; use a checkpoint of that form");
  EXPECT_EQ(read(R"({"quant_method": "awq", "bits": 4, "zero_point": false})"),
            at + ".zero_point is false; expected true, with qzeros in the checkpoint");
  EXPECT_EQ(
      read(R"({"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"})"),
      at + ".checkpoint_format is \"marlin\"; expected \"gptq\" or \"gptq_v2\"; use a checkpoint of that "
           "form");
  EXPECT_EQ(read(R"({"quant_method": "gptq", "bits": 4, "group_size": 12})"),
            at + ".group_size is 12; expected -1 for all inputs, or a multiple of 8");
  EXPECT_EQ(read(R"({"quant_method": "gptq", "bits": 4, "dynamic": [1]})"),
            at + ".dynamic is an array of 1; expected an object of rules");
  EXPECT_EQ(read(R"({"quant_method": "fp8"})"),
            at + ".weight_block_size is missing; expected [128, 128] or the like: one scale for a whole "
                 "matrix is not read");
  EXPECT_EQ(read(R"({"quant_method": "fp8", "weight_block_size": [128]})"),
            at + ".weight_block_size is an array of 1; expected two numbers: outputs and inputs of a block");
  EXPECT_EQ(read(R"({"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": [8, 8]})"),
            at + ".activation_scheme is \"static\"; expected \"dynamic\"; use a checkpoint of that form");
}

}  // namespace
}  // namespace lockstep
