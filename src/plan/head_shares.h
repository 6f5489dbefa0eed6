// Which heads each rank of a tensor-parallel group holds, as data: whole heads, all of them, each held
// equally often.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/fault.h"

namespace lockstep {

// Columns [first, first + count) of a tensor [*, heads * head_size].
struct HeadShare {
  int32_t rank = 0;
  int64_t first = 0;
  int64_t count = 0;
};

struct HeadMap {
  std::string_view name;  // "kv_heads"
  int32_t heads = 0;
  int32_t head_size = 0;
  int32_t copies = 1;  // ranks that hold each head: more than one where there are more ranks than heads
  std::span<const HeadShare> shares;
};

// Errors: kInternal (P7), naming the rank whose share cuts a head, has none, or has another size than the
// first rank's; or the head that more or fewer ranks hold than `copies`. Row: the rank, or the head.
Status check_head_map(const HeadMap& map);

}  // namespace lockstep
