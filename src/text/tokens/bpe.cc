#include "text/tokens/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "base/check.h"
#include "base/digest.h"

namespace lockstep {
namespace {

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

void Bpe::read_bytes(const Vocabulary& vocabulary) {
  for (unsigned byte = 0; byte < 256; ++byte) {
    std::string spelling;
    append_spelling(spelling, std::string(1, static_cast<char>(byte)));
    byte_ids_[byte] = vocabulary.find(spelling).value_or(-1);
  }
}

void Bpe::add_merge(int32_t left, int32_t right, int32_t merged) {
  LS_CHECK(merges_.size() < kMaxMerges, "more than ", kMaxMerges, " merges");
  merges_.push_back({left, right, merged});
}

void Bpe::finish() {
  table_.assign(std::bit_ceil(merges_.size() * 2 + 1), Slot{});
  for (uint32_t rank = 0; rank < merges_.size(); ++rank) {
    const uint64_t pair = pair_key(merges_[rank].left, merges_[rank].right);
    size_t at = mix64(pair, 0) & (table_.size() - 1);
    while (table_[at].rank != kNoRank && table_[at].pair != pair) at = (at + 1) & (table_.size() - 1);
    table_[at] = {pair, rank};
  }
}

uint32_t Bpe::rank_of(int32_t left, int32_t right) const {
  const uint64_t pair = pair_key(left, right);
  size_t at = mix64(pair, 0) & (table_.size() - 1);
  while (table_[at].rank != kNoRank && table_[at].pair != pair) at = (at + 1) & (table_.size() - 1);
  return table_[at].rank;
}

// Puts the pair that begins at symbol `at` on the heap, if it can merge. An entry is (rank, place), so that
// the smallest entry is the merge that comes next.
void Bpe::push_pair(Scratch& scratch, int32_t at) const {
  const auto& symbols = scratch.symbols;
  if (at < 0 || symbols[static_cast<size_t>(at)].next < 0) return;
  const auto& left = symbols[static_cast<size_t>(at)];
  const uint32_t rank = rank_of(left.id, symbols[static_cast<size_t>(left.next)].id);
  if (rank != kNoRank) scratch.heap.push_back(static_cast<uint64_t>(rank) << 32 | static_cast<uint32_t>(at));
}

void Bpe::merge_all(Scratch& scratch) const {
  auto& heap = scratch.heap;
  const auto push = [&](int32_t at) {
    const size_t before = heap.size();
    push_pair(scratch, at);
    if (heap.size() > before) std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const Merge& merge = merges_[heap.back() >> 32];
    const auto at = static_cast<int32_t>(heap.back() & UINT32_MAX);
    heap.pop_back();
    auto& left = scratch.symbols[static_cast<size_t>(at)];
    if (left.id != merge.left || left.next < 0) continue;  // an entry whose symbols merged otherwise
    auto& right = scratch.symbols[static_cast<size_t>(left.next)];
    if (right.id != merge.right) continue;
    left.id = merge.merged;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) scratch.symbols[static_cast<size_t>(left.next)].previous = at;
    push(left.previous);
    push(at);
  }
}

void Bpe::encode_symbols(std::span<const int32_t> ids, Scratch& scratch, std::vector<int32_t>& out) const {
  const auto size = static_cast<int32_t>(ids.size());
  scratch.symbols.resize(ids.size());
  scratch.heap.clear();
  for (int32_t i = 0; i < size; ++i)
    scratch.symbols[static_cast<size_t>(i)] = {ids[static_cast<size_t>(i)], i - 1, i + 1 < size ? i + 1 : -1};
  for (int32_t i = 0; i < size; ++i) push_pair(scratch, i);
  std::make_heap(scratch.heap.begin(), scratch.heap.end(), std::greater<>());
  merge_all(scratch);
  for (int32_t i = 0; i >= 0 && i < size; i = scratch.symbols[static_cast<size_t>(i)].next)
    out.push_back(scratch.symbols[static_cast<size_t>(i)].id);
}

Status Bpe::encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& out) const {
  scratch.ids.clear();
  for (const char c : piece) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte_ids_[byte] < 0)
      return error(Code::kInvalidArgument, "the text has byte ", static_cast<int>(byte),
                   ", for which the vocabulary has no token; expected text that the vocabulary can spell");
    scratch.ids.push_back(byte_ids_[byte]);
  }
  encode_symbols(scratch.ids, scratch, out);
  return {};
}

}  // namespace lockstep
