// StepLimits: the capacities that every plan of an engine stays within. Buffers are sized from them once; a
// plan that would exceed one is refused by name (P10).
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/status.h"
#include "base/units.h"

namespace lockstep {

inline constexpr int kMaxGroups = 8;

enum class GroupKind : uint8_t {
  kPaged,  // keys and values in pages of page_tokens
  kState,  // one recurrent state per sequence: a "page" is a state slot
};

enum class Sharding : uint8_t { kReplicated, kContextParallel };

// One kind of cache with its own pool. Slots, tables and the rules P3 and P4 exist per group.
struct CacheGroup {
  GroupKind kind = GroupKind::kPaged;
  Sharding sharding = Sharding::kReplicated;
  int32_t page_tokens = 0;         // tokens per page (paged groups)
  int32_t kernel_page_tokens = 0;  // tokens per page as kernels see it; a divisor of page_tokens
  int32_t num_pages = 0;           // pages or state slots in the pool, the reserved one (0) included
  int32_t table_rows = 0;  // rows of the device-resident page table (paged groups); row 0 is the pad row
  int32_t max_pages_per_seq = 0;  // entries of one table row
  std::string layout;             // as the storage prints it: "apart/token"
  std::string dtype;              // "bf16"
};

// What the rows of block-sparse layers may choose on this rank: one list of blocks per row and kv head.
struct SelectionLimits {
  int32_t kv_heads = 0;      // lists of a row; 0: no layer is sparse
  int32_t block_tokens = 0;  // tokens of a block
  int32_t most_blocks = 0;   // of one list
  int32_t dense_len = 0;     // rows of sequences and prompts below it choose nothing: they attend to all keys
  GroupId group;             // of the compressed keys that the choice is made from
};

struct StepLimits {
  int32_t max_rows = 0;         // padded rows of one step, on one rank
  int32_t max_seqs = 0;         // padded sequences of one step, pad sequences included
  int32_t max_logits_rows = 0;  // padded logits rows
  int32_t max_seq_len = 0;      // tokens of one sequence
  int32_t max_edits = 0;        // table edits per group and step
  int32_t max_copies = 0;       // copies per group and step
  int32_t vocab_size = 0;       // ids that may appear in token_ids
  int32_t penalty_slots = 0;    // rows of token counts
  int32_t mask_slots = 0;       // rows of allowed-token masks
  int32_t dp_ranks = 1;         // data-parallel ranks whose row counts travel in the plan
  int32_t cp_ranks = 1;         // context-parallel ranks that may share the rows of a step
  int32_t num_groups = 0;
  std::array<CacheGroup, kMaxGroups> groups;
  SelectionLimits selection;

  const CacheGroup& group(GroupId id) const { return groups[static_cast<size_t>(id.get())]; }
};

// Holds limits to what plans, tables and validation take for granted, the 32-bit sizes of images and tables
// included. Limits follow from a user's configuration, so whoever makes them calls this first.
// Errors: kInvalidArgument, naming the limit.
Status check_limits(const StepLimits& limits);

// Padded extents of one step: what a captured graph is specific to.
struct Bucket {
  PaddedRows rows;
  PaddedSeqs seqs;
  PaddedRows logits_rows;
  bool operator==(const Bucket&) const = default;
};

}  // namespace lockstep
