#include "contract/operand_check.h"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "kernels/kv_cache/kv_layout.h"

namespace lockstep {
namespace {

struct Level {
  int64_t count = 0;
  int64_t stride = 0;
};

std::string print(std::span<const Level> levels) {
  std::string counts, strides;
  for (const Level& level : levels) {
    counts += concat(counts.empty() ? "" : ", ", level.count);
    strides += concat(strides.empty() ? "" : ", ", level.stride);
  }
  return concat("[", counts, "] with strides [", strides, "]");
}

// Whether no two entries share an element. Levels of stride 0 are one entry that is read many times.
bool lie_apart(std::span<const Level> levels, bool written) {
  std::array<Level, kMaxRank> sorted{};  // by stride
  size_t count = 0;
  for (const Level& level : levels) {
    if (level.count == 0) return true;
    if (level.count == 1 || (level.stride == 0 && !written)) continue;
    const Level step{level.count, std::abs(level.stride)};
    size_t at = count++;
    for (; at > 0 && sorted[at - 1].stride > step.stride; --at) sorted[at] = sorted[at - 1];
    sorted[at] = step;
  }
  int64_t reach = 0;  // of the levels so far, from the first element to the last
  for (const Level& level : std::span(sorted).first(count)) {
    if (level.stride <= reach) return false;
    int64_t span = 0;
    const bool wide = __builtin_mul_overflow(level.count - 1, level.stride, &span);
    if (wide || __builtin_add_overflow(reach, span, &reach)) return true;  // no allocation has that much
  }
  return true;
}

class OperandChecker {
 public:
  OperandChecker(const LaunchRecord& launch, const OperandCheck& check) : launch_(launch), check_(check) {}

  Status hold(const Operand& operand) const {
    if (operand.arg->kind == ArgKind::kTensor) LS_TRY(check_tensor(operand));
    if (operand.kv != nullptr) {
      LS_TRY(check_plane(operand, operand.kv->k));
      LS_TRY(check_plane(operand, operand.kv->v));
    }
    for (const ByteRange& range : operand.ranges()) {
      if (!range.empty()) LS_TRY(check_memory(operand, range));
    }
    return {};
  }

 private:
  Status check_tensor(const Operand& operand) const {
    const TensorView& view = operand.view;
    const int64_t free = operand.arg->any_stride ? view.shape.rank - 1 : operand.arg->outer_stride ? 1 : 0;
    std::array<Level, kMaxRank> levels{}, honoured{};
    int64_t dense = 1;
    bool as_honoured = true;
    for (int64_t i = view.shape.rank - 1; i >= 0; --i) {
      const auto at = static_cast<size_t>(i);
      levels[at] = {view.dim(i), view.stride(i)};
      const bool any = i < free || view.dim(i) <= 1;
      honoured[at] = {view.dim(i), any ? view.stride(i) : dense};
      as_honoured = as_honoured && honoured[at].stride == view.stride(i);
      dense *= std::max<int64_t>(view.dim(i), 1);
    }
    const auto rank = static_cast<size_t>(view.shape.rank);
    if (!as_honoured && view.elements() > 0) {
      LS_TRY(refuse(operand, "L1", concat(print(std::span(honoured).first(rank)), ", which its op honours"),
                    print(std::span(levels).first(rank))));
    }
    return check_apart(operand, std::span(levels).first(rank));
  }

  // An op that honours no strides of a cache reads it as apart/token.
  Status check_plane(const Operand& operand, const KvPlane& plane) const {
    const KvView& kv = *operand.kv;
    const auto levels_of = [&](const KvPlane& of) -> std::array<Level, 5> {
      return {{{kv.num_pages, of.page_stride},
               {kv.heads, of.head_stride},
               {kv.page_tokens, of.token_stride},
               {of.chunk > 0 ? kv.head_dim / of.chunk : 0, of.chunk_stride},
               {of.chunk, 1}}};
    };
    if (!operand.arg->any_stride) {
      const KvPlane dense = make_kv_view(nullptr, {},
                                         {.dtype = kv.dtype,
                                          .num_pages = kv.num_pages,
                                          .page_tokens = kv.page_tokens,
                                          .heads = kv.heads,
                                          .head_dim = kv.head_dim})
                                .k;
      const bool same = plane.page_stride == dense.page_stride && plane.head_stride == dense.head_stride &&
                        plane.token_stride == dense.token_stride && plane.chunk == dense.chunk;
      if (!same) {
        LS_TRY(refuse(operand, "L1", concat(print(levels_of(dense)), ", which its op honours"),
                      print(levels_of(plane))));
      }
    }
    return check_apart(operand, levels_of(plane));
  }

  Status check_apart(const Operand& operand, std::span<const Level> levels) const {
    if (lie_apart(levels, operand.writes())) return {};
    return refuse(operand, "P6", "entries that share no memory", print(levels));
  }

  Status check_memory(const Operand& operand, const ByteRange& range) const {
    const auto found = check_.map.find(operand.address);
    if (!found) return {};  // the graph refuses it when it leases its memory
    const Arena::Allocation& allocation = found->arena->allocation(found->allocation);
    const auto address = reinterpret_cast<uintptr_t>(operand.address);
    const uintptr_t begin =
        address - static_cast<uintptr_t>(found->arena->offset_of(operand.address) - allocation.offset);
    const ByteRange owned{begin, begin + static_cast<uintptr_t>(allocation.bytes)};
    const auto second = check_.map.find(reinterpret_cast<const void*>(range.begin));
    const bool inside = owned.contains(range) || (second && same_allocation(*second, range));
    if (!inside) {
      LS_TRY(refuse(operand, "P6",
                    concat("bytes inside ", found->arena->name(), "/", allocation.name, " of ",
                           allocation.bytes, " bytes"),
                    concat("bytes ", static_cast<int64_t>(range.begin - begin), " to ",
                           static_cast<int64_t>(range.end - begin), " of it")));
    }
    const int bits = operand.arg->index_bits;
    if (bits < 64 && (range.end - range.begin) >> (bits - 1) != 0) {
      LS_TRY(refuse(operand, "P6", concat("offsets that fit the ", bits, " bits of its index"),
                    concat(range.end - range.begin, " bytes wide")));
    }
    return {};
  }

  static bool same_allocation(const MemoryMap::Found& found, const ByteRange& range) {
    const Arena::Allocation& allocation = found.arena->allocation(found.allocation);
    const auto* first = reinterpret_cast<const void*>(range.begin);
    return found.arena->offset_of(first) + static_cast<int64_t>(range.end - range.begin) <=
           allocation.offset + allocation.bytes;
  }

  Status refuse(const Operand& operand, std::string_view rule, std::string expected,
                std::string found) const {
    return broken({.check = std::string(rule),
                   .moment = check_.moment,
                   .consumer = consumer_of(launch_),
                   .field = std::string(operand.arg->name),
                   .step = check_.step,
                   .expected = std::move(expected),
                   .found = std::move(found)});
  }

  const LaunchRecord& launch_;
  const OperandCheck& check_;
};

}  // namespace

Status check_operands(const LaunchRecord& launch, const OperandCheck& check) {
  const OperandChecker checker(launch, check);
  Status status;
  for_each_operand(launch, [&](const Operand& operand) {
    if (status.ok()) status = checker.hold(operand);
  });
  return status;
}

}  // namespace lockstep
