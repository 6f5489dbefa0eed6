#include "kernels/common/operands.h"

#include <cstring>

namespace lockstep {
namespace {

const unsigned char* member(const LaunchRecord& launch, const OpArg& arg) {
  return static_cast<const unsigned char*>(launch.args) + arg.offset;
}

template <typename T>
T read_as(const void* bytes) {
  T value{};
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

// How far the elements of something reach from its address, in 64 bits, as long as they fit.
class Reach {
 public:
  // `count` steps of `stride` each: the extreme ones are the first and the last.
  void level(int64_t count, int64_t stride) {
    empty_ = empty_ || count <= 0;
    int64_t span = 0;
    if (__builtin_mul_overflow(count - 1, stride, &span)) span = 0, fits_ = false;
    int64_t& side = span < 0 ? low_ : high_;
    fits_ = !__builtin_add_overflow(side, span, &side) && fits_;
  }
  // Everything so far is elements of `bytes` each.
  void scale(int64_t bytes) {
    fits_ = !__builtin_mul_overflow(low_, bytes, &low_) && fits_;
    fits_ = !__builtin_mul_overflow(high_, bytes, &high_) && fits_;
    fits_ = !__builtin_add_overflow(high_, bytes, &high_) && fits_;
  }
  ByteRange from(const void* address) const {
    const auto base = reinterpret_cast<uintptr_t>(address);
    if (empty_) return {base, base};
    ByteRange range;
    const bool below = __builtin_add_overflow(base, low_, &range.begin);
    const bool above = __builtin_add_overflow(base, high_, &range.end);
    return !fits_ || below || above ? kEverywhere : range;
  }

 private:
  int64_t low_ = 0;
  int64_t high_ = 0;
  bool fits_ = true;
  bool empty_ = false;
};

ByteRange range_of(const TensorView& view) {
  Reach reach;
  for (int64_t i = 0; i < view.shape.rank; ++i) reach.level(view.dim(i), view.stride(i));
  reach.scale(size_of(view.dtype));
  return reach.from(view.data);
}

ByteRange range_of(const KvView& cache, const KvPlane& plane) {
  Reach reach;
  reach.level(cache.num_pages, plane.page_stride);
  reach.level(cache.heads, plane.head_stride);
  reach.level(cache.page_tokens, plane.token_stride);
  reach.level(plane.chunk > 0 ? cache.head_dim / plane.chunk : 0, plane.chunk_stride);
  reach.level(plane.chunk, 1);
  reach.scale(size_of(cache.dtype));
  return reach.from(plane.data);
}

ByteRange range_of(const PackedWeight& weight) {
  Reach reach;
  reach.level(weight.experts, weight.expert_stride);
  reach.level(packed_elements(weight.dtype, weight.layout, weight.n, weight.k), 1);
  reach.scale(size_of(weight.dtype));
  return reach.from(weight.data);
}

ByteRange range_of(const LaunchRecord& launch, const OpArg& arg, const void* base) {
  Reach reach;
  for (const ExtentLevel& level : arg.extent) {
    const int64_t stride = level.stride.empty() ? 1 : value_operand(launch, level.stride).value_or(0);
    reach.level(value_operand(launch, level.count).value_or(0), stride);
  }
  reach.scale(1);
  return reach.from(base);
}

const OpArg* find_arg(const OpSpec& spec, std::string_view name, ArgKind kind) {
  for (const OpArg& arg : spec.args) {
    if (arg.kind == kind && arg.name == name) return &arg;
  }
  return nullptr;
}

}  // namespace

std::string consumer_of(const LaunchRecord& launch) {
  return concat(launch.site.op(), " (", launch.site.stage, ", layer ", launch.site.layer, ")");
}

std::optional<Operand> operand_of(const LaunchRecord& launch, const OpArg& arg) {
  if (arg.kind == ArgKind::kValue || arg.access == Access::kNone) return std::nullopt;
  Operand operand{.arg = &arg, .address = read_as<const void*>(member(launch, arg))};
  if (operand.address == nullptr) return std::nullopt;
  switch (arg.kind) {
    case ArgKind::kTensor:
      operand.view = read_as<TensorView>(member(launch, arg));
      operand.bytes[0] = range_of(operand.view);
      break;
    case ArgKind::kKvCache:
      operand.kv = reinterpret_cast<const KvView*>(member(launch, arg));
      operand.bytes = {range_of(*operand.kv, operand.kv->k), range_of(*operand.kv, operand.kv->v)};
      operand.num_ranges = 2;
      break;
    case ArgKind::kWeight:
      operand.weight = reinterpret_cast<const PackedWeight*>(member(launch, arg));
      operand.bytes[0] = range_of(*operand.weight);
      break;
    case ArgKind::kScalar: {
      const auto begin = reinterpret_cast<uintptr_t>(operand.address);
      operand.bytes[0] = {begin, begin + static_cast<uintptr_t>(arg.scalar_bytes)};
      break;
    }
    case ArgKind::kMemory: operand.bytes[0] = range_of(launch, arg, operand.address); break;
    case ArgKind::kValue: break;
  }
  return operand;
}

std::optional<int64_t> scalar_operand(const LaunchRecord& launch, std::string_view name,
                                      const HostView& memory) {
  const OpArg* arg = find_arg(*launch.site.spec, name, ArgKind::kScalar);
  if (arg == nullptr) return std::nullopt;
  const auto* address = read_as<const void*>(member(launch, *arg));
  if (address == nullptr) return std::nullopt;
  int64_t wide = 0;
  int32_t narrow = 0;
  const bool is_wide = arg->scalar_bytes != 4;
  memory.read(address, is_wide ? static_cast<void*>(&wide) : &narrow, is_wide ? 8 : 4);
  return is_wide ? wide : narrow;
}

std::optional<int64_t> value_operand(const LaunchRecord& launch, std::string_view name) {
  const OpArg* arg = find_arg(*launch.site.spec, name, ArgKind::kValue);
  if (arg == nullptr) return std::nullopt;
  switch (arg->bytes) {
    case 1: return read_as<uint8_t>(member(launch, *arg));
    case 4: return read_as<int32_t>(member(launch, *arg));
    case 8: return read_as<int64_t>(member(launch, *arg));
    default: return std::nullopt;
  }
}

}  // namespace lockstep
