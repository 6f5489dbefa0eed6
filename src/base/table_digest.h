// The digest of a page table row, as host and device compute it.
#pragma once

#include "base/digest.h"
#include "base/units.h"

namespace lockstep {

// The part of a row's digest that one entry makes. Entries combine by xor, so a digest follows each edit in
// O(1) and does not depend on the order of edits. No entries: 0.
constexpr Digest table_entry_digest(int32_t index, PageId page) {
  return mix64(static_cast<uint64_t>(static_cast<uint32_t>(index)) + 1, static_cast<uint32_t>(page.get()));
}

}  // namespace lockstep
