// Where top-k and top-p cut, without sorting a vocabulary.
#pragma once

#include <cstdint>

namespace lockstep::sampling {

// The last token that is kept: one is kept if its value is larger, or equal and its id not larger. As built,
// every token of a finite value is kept.
struct Cut {
  float value;
  int32_t token;
};
Cut keep_all();

struct Candidates {
  const float* values;   // [count], finite, or -infinity for a token that is out already
  const float* weights;  // [count] exp(value - largest); read for top_p only
  int64_t count = 0;
  float largest = 0;  // of the values
  uint64_t* order;    // [count] scratch
};

// top_k: 0 or less is off. top_p: 1 or more, or NaN, is off. A token stays if fewer than top_k rank above it
// (by value, ties by id) and, among the top_k, the weights of those above it sum to less than top_p of all.
// The best always stays. Cost: one pass, and sorting within the 2048th part of the range where the cut falls.
Cut select(const Candidates& candidates, int32_t top_k, float top_p);

}  // namespace lockstep::sampling
