// OpSpec: what an op promises about its arguments. Published beside its Args and describing every byte of
// them, so that whoever sees a launch (the contract, a captured graph, the guard) knows what it reads, what
// it writes and which numbers it carries, without knowing the op.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include "tensor/tensor.h"

namespace lockstep {

enum class Access : uint8_t {
  kRead,
  kWrite,      // what it held before does not matter
  kReadWrite,  // what it held before enters
  kNone        // not touched: the launch shares its Args with others, or asks for the shape alone
};

// What a pad row of an output holds after the op.
enum class PadRows : uint8_t {
  kZero,      // written as zeros whatever the inputs held
  kSkip,      // written as -1: a pad row names nothing
  kUntouched  // memory of other owners: pad rows write nothing (caches, states)
};

// Which rows of an argument an op touches.
enum class RowsTouched : uint8_t {
  kAll,    // every row of the bucket, pad rows included
  kLive,   // live rows, sequences and list entries: what pads hold enters nothing
  kOwned,  // pages, slots and states that the plan names for live rows
  kNone    // not indexed by row (weights, tables)
};

// What kind of member of the Args an argument is.
enum class ArgKind : uint8_t {
  kTensor,   // TensorView
  kKvCache,  // KvView: the keys and values of a layer
  kWeight,   // PackedWeight
  kScalar,   // address of one number in device memory, read by the kernel
  kMemory,   // raw base address whose extent other arguments give
  kValue     // a number that the launch carries: captured by value
};

// The kind of a member type; kernels specialise it for their own views, next to them. All kinds but values
// begin with an address; `second_address` is where a cache's second plane has its own, bytes from the
// member's beginning (0: there is no second).
template <typename T>
struct ArgKindOf {
  static constexpr ArgKind value = ArgKind::kValue;
  static constexpr int32_t second_address = 0;
};
template <>
struct ArgKindOf<TensorView> {
  static constexpr ArgKind value = ArgKind::kTensor;
  static constexpr int32_t second_address = 0;
};
template <>
struct ArgKindOf<void*> {
  static constexpr ArgKind value = ArgKind::kMemory;
  static constexpr int32_t second_address = 0;
};
template <typename T>
struct ArgKindOf<const T*> {
  static constexpr ArgKind value = ArgKind::kScalar;
  static constexpr int32_t second_address = 0;
};

// A raw address points at memory as others own it, not at a number.
template <>
struct ArgKindOf<const void*> {
  static constexpr ArgKind value = ArgKind::kMemory;
  static constexpr int32_t second_address = 0;
};

// Bytes of the number that a scalar's address leads to; 0 for members of other kinds.
template <typename T>
constexpr int32_t scalar_bytes_of() {
  if constexpr (ArgKindOf<T>::value == ArgKind::kScalar) return sizeof(std::remove_pointer_t<T>);
  return 0;
}

// One level of the extent of raw memory: `count` pieces, `stride` bytes from one to the next. Both name
// values among the Args; an empty stride: the pieces are bytes.
struct ExtentLevel {
  std::string_view count;
  std::string_view stride;
};

struct OpArg {
  std::string_view name;  // as in the Args struct
  ArgKind kind = ArgKind::kTensor;
  int32_t offset = 0;  // of the member in the Args, bytes
  int32_t bytes = 0;   // of the member
  int32_t second_address = 0;
  int32_t scalar_bytes = 0;
  Access access = Access::kRead;
  std::string_view dims;  // letters of design: T rows, S sequences, H, K, D, E, F, V, P, B, X
  RowsTouched rows = RowsTouched::kAll;
  PadRows pad = PadRows::kZero;  // outputs only
  bool any_stride = false;       // honours the real stride of every dimension but the innermost
  bool outer_stride = false;     // honours the real stride of the outermost alone: slots that lie apart
  int index_bits = 64;           // width of the widest address product, signed
  std::span<const ExtentLevel> extent{};  // of kMemory, outermost first
};

// The first members of an OpArg, from a member of an Args struct:
//   {LS_ARG(PagedAttentionArgs, q), .access = Access::kRead, .dims = "THD"}
#define LS_ARG(Args, member)                                                       \
  .name = #member, .kind = ::lockstep::ArgKindOf<decltype(Args::member)>::value,   \
  .offset = static_cast<int32_t>(offsetof(Args, member)),                          \
  .bytes = static_cast<int32_t>(sizeof(Args::member)),                             \
  .second_address = ::lockstep::ArgKindOf<decltype(Args::member)>::second_address, \
  .scalar_bytes = ::lockstep::scalar_bytes_of<decltype(Args::member)>()

struct OpSpec {
  std::string_view name;
  std::span<const OpArg> args;
  int32_t args_bytes = 0;               // sizeof(Args)
  std::string_view workspace = "none";  // formula over the dims, in bytes
  bool collective = false;              // ranks run it together: none may run it again alone
};

}  // namespace lockstep
