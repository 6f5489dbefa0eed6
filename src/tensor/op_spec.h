// OpSpec: what an op promises about its arguments. Published beside its Args, walked by tests, by the
// contract (which fields feed which argument) and by the guard (what may be written, what must be zero).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace lockstep {

enum class Access : uint8_t { kRead, kWrite, kReadWrite };

// What a pad row of an output holds after the op.
enum class PadRows : uint8_t {
  kZero,      // written as zeros whatever the inputs held
  kSkip,      // written as -1: a pad row names nothing
  kUntouched  // memory of other owners: pad rows write nothing (caches, states)
};

// Which rows of an argument an op touches.
enum class RowsTouched : uint8_t {
  kAll,    // every row of the bucket, pad rows included
  kOwned,  // pages, slots and states that the plan names for live rows
  kNone    // not indexed by row (weights, tables)
};

struct OpArg {
  std::string_view name;  // as in the Args struct
  Access access = Access::kRead;
  std::string_view dims;  // letters of design: T rows, S sequences, H, K, D, E, F, V, P, B, X
  RowsTouched rows = RowsTouched::kAll;
  PadRows pad = PadRows::kZero;  // outputs only
  bool any_stride = false;       // honours every stride; else innermost dense
  int index_bits = 64;           // width of the widest address product, signed
};

struct OpSpec {
  std::string_view name;
  std::span<const OpArg> args;
  std::string_view workspace = "none";  // formula over the dims, in bytes
};

}  // namespace lockstep
