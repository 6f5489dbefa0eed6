#include "engine/request.h"

#include <cmath>

#include "plan/step_plan.h"

namespace lockstep {
namespace {

constexpr int32_t kMaxTokens = 1 << 28;
constexpr int32_t kMaxTopK = 1 << 24;
constexpr size_t kMaxStops = 16;
constexpr size_t kMaxStopBytes = 1024;

// NaN fails every comparison, so it never passes.
template <typename Number>
Status check_number(std::string_view name, Number value, Number low, Number high, std::string_view expected) {
  if (value >= low && value <= high) return {};
  return error(Code::kInvalidArgument, "request: ", name, " is ", value, "; expected ", expected);
}

}  // namespace

std::string_view name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone: return "none";
    case FinishReason::kStop: return "stop";
    case FinishReason::kLength: return "length";
    case FinishReason::kCancelled: return "cancelled";
    case FinishReason::kError: return "error";
  }
  return "unknown";
}

Status check_request(const Request& request) {
  LS_TRY(check_number("max_tokens", request.max_tokens, 1, kMaxTokens, "a whole number in 1..268435456"));
  LS_TRY(check_number("temperature", request.temperature, 0.0f, 100.0f, "a number in 0..100; 0 is greedy"));
  LS_TRY(check_number("top_k", request.top_k, 0, kMaxTopK, "a whole number in 0..16777216; 0 is off"));
  LS_TRY(check_number("top_p", request.top_p, 1e-6f, 1.0f, "a number above 0, at most 1"));
  LS_TRY(check_number("min_p", request.min_p, 0.0f, 1.0f, "a number in 0..1"));
  LS_TRY(check_number("repetition_penalty", request.repetition_penalty, 1e-3f, 1e3f,
                      "a number in 0.001..1000; 1 is off"));
  LS_TRY(check_number("presence_penalty", request.presence_penalty, -100.0f, 100.0f,
                      "a number in -100..100; 0 is off"));
  LS_TRY(check_number("frequency_penalty", request.frequency_penalty, -100.0f, 100.0f,
                      "a number in -100..100; 0 is off"));
  LS_TRY(check_number("logprobs", request.logprobs, -1, kMaxTopLogprobs,
                      concat("a whole number in -1..", kMaxTopLogprobs, "; -1 is none")));
  if (request.stop.size() > kMaxStops) {
    return error(Code::kInvalidArgument, "request: ", request.stop.size(), " stop strings; expected at most ",
                 kMaxStops);
  }
  for (const std::string& stop : request.stop) {
    if (stop.empty() || stop.size() > kMaxStopBytes) {
      return error(Code::kInvalidArgument, "request: a stop string of ", stop.size(),
                   " bytes; expected 1 to ", kMaxStopBytes);
    }
  }
  return {};
}

}  // namespace lockstep
