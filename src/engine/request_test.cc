#include "engine/request.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <set>

namespace lockstep {
namespace {

struct Refusal {
  std::function<void(Request&)> change;
  std::string message;
};

TEST(Request, NumbersOutOfRangeAreRefusedInASentence) {
  const float nan = std::nanf("");
  const Refusal refusals[] = {
      {[](Request& r) { r.max_tokens = 0; },
       "request: max_tokens is 0; expected a whole number in 1..268435456"},
      {[](Request& r) { r.max_tokens = 268435457; },
       "request: max_tokens is 268435457; expected a whole number in 1..268435456"},
      {[](Request& r) { r.temperature = -0.5f; },
       "request: temperature is -0.5; expected a number in 0..100; 0 is greedy"},
      {[=](Request& r) { r.temperature = nan; },
       "request: temperature is nan; expected a number in 0..100; 0 is greedy"},
      {[](Request& r) { r.top_k = -1; },
       "request: top_k is -1; expected a whole number in 0..16777216; 0 is off"},
      {[](Request& r) { r.top_p = 0; }, "request: top_p is 0; expected a number above 0, at most 1"},
      {[](Request& r) { r.top_p = 1.5f; }, "request: top_p is 1.5; expected a number above 0, at most 1"},
      {[](Request& r) { r.min_p = 2; }, "request: min_p is 2; expected a number in 0..1"},
      {[](Request& r) { r.repetition_penalty = 0; },
       "request: repetition_penalty is 0; expected a number in 0.001..1000; 1 is off"},
      {[](Request& r) { r.presence_penalty = 101; },
       "request: presence_penalty is 101; expected a number in -100..100; 0 is off"},
      {[](Request& r) { r.frequency_penalty = -INFINITY; },
       "request: frequency_penalty is -inf; expected a number in -100..100; 0 is off"},
      {[](Request& r) { r.logprobs = 21; },
       "request: logprobs is 21; expected a whole number in -1..20; -1 is none"},
      {[](Request& r) {
         r.stop = {"fine", ""};
       },
       "request: a stop string of 0 bytes; expected 1 to 1024"},
      {[](Request& r) { r.stop = {std::string(1025, 'x')}; },
       "request: a stop string of 1025 bytes; expected 1 to 1024"},
      {[](Request& r) { r.stop.assign(17, "x"); }, "request: 17 stop strings; expected at most 16"},
  };
  for (const Refusal& refusal : refusals) {
    Request request;
    refusal.change(request);

    const Status status = check_request(request);

    EXPECT_EQ(status.code(), Code::kInvalidArgument) << refusal.message;
    EXPECT_EQ(status.message(), refusal.message);
  }
}

TEST(Request, NumbersAtTheEndsOfTheirRangesPass) {
  Request low;
  low.max_tokens = 1;
  low.temperature = low.min_p = 0;
  low.top_p = 1e-6f;
  low.repetition_penalty = 1e-3f;
  low.presence_penalty = low.frequency_penalty = -100;
  Request high;
  high.max_tokens = 1 << 28;
  high.temperature = 100;
  high.top_k = 1 << 24;
  high.min_p = 1;
  high.repetition_penalty = 1000;
  high.presence_penalty = high.frequency_penalty = 100;
  high.logprobs = 20;
  high.stop.assign(16, std::string(1024, 'x'));

  for (const Request& request : {Request{}, low, high}) {
    const Status status = check_request(request);
    EXPECT_TRUE(status.ok()) << status.message();
  }
}

TEST(FinishReason, HasANameForEachReason) {
  std::set<std::string_view> names;
  for (int i = 0; i <= static_cast<int>(FinishReason::kError); ++i)
    names.insert(name_of(static_cast<FinishReason>(i)));
  EXPECT_EQ(names, (std::set<std::string_view>{"none", "stop", "length", "cancelled", "error"}));
}

}  // namespace
}  // namespace lockstep
