// ConsumerSpec: what a block or backend that reads the plan promises: which ops it runs, which fields feed
// which of their arguments, what it derives, and what it needs a plan to be.
#pragma once

#include <span>
#include <string_view>

#include "plan/fields.h"
#include "tensor/op_spec.h"

namespace lockstep {

struct DerivedSpec;

enum class Feed : uint8_t {
  kAddress,  // the kernel reads the field from the device image: follows every replay
  kValue,    // the host reads it while preparing: frozen when a graph is captured
};

// How far a value that a graph has captured may differ from the live one.
enum class Freeze : uint8_t {
  kExact,       // not at all. A live field that is read so keeps its consumer out of graphs
  kUpperBound,  // the live value may be smaller: a capacity
  kLowerBound,  // the live value may be larger
};

// One field that a consumer reads, and the op argument that it feeds.
struct FieldUse {
  FieldId field;
  Feed feed = Feed::kAddress;
  std::string_view argument;       // "paged_attention.seq_lens"; "*.num_rows": of every op
  Freeze freeze = Freeze::kExact;  // values only
};

// What every plan must be before this consumer accepts it. Zeros: no such need.
struct PlanNeeds {
  int32_t uniform_query_len = 0;  // all live sequences have this many rows
  int32_t max_query_len = 0;      // at most that many rows of a sequence
  int32_t min_seq_len = 0;        // at least that many tokens of a live sequence
  int32_t rows_multiple_of = 0;   // padded rows
};

// Static storage.
struct ConsumerSpec {
  std::string_view name;  // "paged_attention"
  std::span<const OpSpec* const> ops;
  std::span<const FieldUse> fields;
  std::span<const DerivedSpec* const> derives{};  // written by this consumer
  std::span<const DerivedSpec* const> reads{};    // read, whoever derives it
  PlanNeeds needs{};
};

}  // namespace lockstep
