// Byte-pair encoding of one piece.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/tokens/vocabulary.h"

namespace lockstep {

// The merges of a model. Among the adjacent pairs of a piece the one of lowest rank is merged first, the
// leftmost among equals, until none is left.
// Source:  Sennrich et al. 2016; order of merges as in the `tokenizers` crate.
class Bpe {
 public:
  static constexpr size_t kMaxMerges = size_t{1} << 22;

  // Buffers of encode(), reused from piece to piece.
  struct Scratch {
    struct Symbol {
      int32_t id = -1;  // -1: merged into the symbol before
      int32_t previous = -1;
      int32_t next = -1;
    };
    std::vector<Symbol> symbols;
    std::vector<uint64_t> heap;
    std::vector<int32_t> ids;  // the symbols that a piece begins with
  };

  // Reads the 256 tokens of single bytes. A vocabulary may lack some; texts with those bytes are refused.
  void read_bytes(const Vocabulary& vocabulary);
  // The next merge, of lower priority than those before. A pair given again takes the later rank, as in the
  // `tokenizers` crate. Precondition: fewer than kMaxMerges so far.
  void add_merge(int32_t left, int32_t right, int32_t merged);
  // Call once after the last add_merge().
  void finish();

  // Appends the ids of `piece`.
  // Errors:  kInvalidArgument for a byte that no token spells.
  // Cost:    O(n log n) in the bytes of the piece.
  Status encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& out) const;
  // Appends what the symbols `ids` merge to. Cost: O(n log n).
  void encode_symbols(std::span<const int32_t> ids, Scratch& scratch, std::vector<int32_t>& out) const;

 private:
  static constexpr uint32_t kNoRank = UINT32_MAX;
  struct Merge {
    int32_t left;
    int32_t right;
    int32_t merged;
  };
  // An open-addressing table: half empty, probed linearly. About 3x faster here than unordered_map.
  struct Slot {
    uint64_t pair = 0;
    uint32_t rank = kNoRank;
  };

  uint32_t rank_of(int32_t left, int32_t right) const;
  void push_pair(Scratch& scratch, int32_t at) const;
  void merge_all(Scratch& scratch) const;

  std::array<int32_t, 256> byte_ids_{};
  std::vector<Merge> merges_;  // by rank
  std::vector<Slot> table_;    // a power of two
};

}  // namespace lockstep
