// Typed quantities: a page is not a token, a cumulative offset is not a length, a padded count is not a live
// one. Mixing them does not compile. Usable in device code: every type is a trivially copyable wrapper of one
// integer, so arrays of them lie in the plan's image as plain integers.
#pragma once

#include <compare>
#include <cstdint>
#include <ostream>
#include <type_traits>

namespace lockstep {

// An integer that counts or names one kind of thing. It compares and prints; it converts to nothing.
// `get()` is the one explicit way out, the constructor the one way in.
template <typename Tag, typename Integer>
class Quantity {
 public:
  using Rep = Integer;
  constexpr Quantity() = default;
  template <typename I>
  requires std::is_integral_v<I>
  constexpr explicit Quantity(I value) : value_(static_cast<Integer>(value)) {}
  constexpr Integer get() const { return value_; }
  constexpr auto operator<=>(const Quantity&) const = default;

 private:
  Integer value_ = 0;
};

template <typename Tag, typename Integer>
std::ostream& operator<<(std::ostream& out, Quantity<Tag, Integer> quantity) {
  return out << +quantity.get();
}

// Amounts add up among themselves; names (ids, offsets) do not.
template <typename Tag, typename Integer>
class Amount : public Quantity<Tag, Integer> {
 public:
  using Quantity<Tag, Integer>::Quantity;
  constexpr friend Amount operator+(Amount a, Amount b) { return Amount(a.get() + b.get()); }
  constexpr friend Amount operator-(Amount a, Amount b) { return Amount(a.get() - b.get()); }
  constexpr Amount& operator+=(Amount other) { return *this = *this + other; }
};

// --- counts -----------------------------------------------------------------------------------------------
using TokenCount = Amount<struct TokenCountTag, int32_t>;  // tokens of one sequence: lengths
using RowCount = Amount<struct RowCountTag, int32_t>;      // rows of one sequence in this step
using PageCount = Amount<struct PageCountTag, int32_t>;
using LiveRows = Quantity<struct LiveRowsTag, int32_t>;      // rows that belong to a sequence
using PaddedRows = Quantity<struct PaddedRowsTag, int32_t>;  // rows of the bucket
using LiveSeqs = Quantity<struct LiveSeqsTag, int32_t>;
using PaddedSeqs = Quantity<struct PaddedSeqsTag, int32_t>;
using ByteCount = Amount<struct ByteCountTag, int64_t>;

// --- names ------------------------------------------------------------------------------------------------
using TokenId = Quantity<struct TokenIdTag, int32_t>;      // a vocabulary entry
using Position = Quantity<struct PositionTag, int32_t>;    // a token's place in its own sequence, from 0
using RowIndex = Quantity<struct RowIndexTag, int32_t>;    // a row of this step
using RowOffset = Quantity<struct RowOffsetTag, int32_t>;  // cumulative rows: where a sequence's rows begin
using PageId = Quantity<struct PageIdTag, int32_t>;  // a page of a group, page_tokens long; 0: the pad page
using TableRow = Quantity<struct TableRowTag, int32_t>;    // a row of a group's device-resident page table
using StateSlot = Quantity<struct StateSlotTag, int32_t>;  // a recurrent state; 0 is the pad state
using PenaltySlot = Quantity<struct PenaltySlotTag, int32_t>;  // a row of token counts; -1: no penalties
using GroupId = Quantity<struct GroupIdTag, int32_t>;          // a cache group
using Epoch = Quantity<struct EpochTag, uint64_t>;             // a forward pass, counted by the engine alone

// Where a token's keys and values go: page * tokens_per_page + offset, or nowhere. SKIP has no arithmetic:
// the number inside comes out only after is_skip() was asked.
class SlotOrSkip {
 public:
  constexpr SlotOrSkip() = default;  // SKIP
  constexpr explicit SlotOrSkip(int64_t slot) : value_(slot) {}
  static constexpr SlotOrSkip skip() { return {}; }
  constexpr bool is_skip() const { return value_ < 0; }
  constexpr int64_t slot() const { return value_; }  // precondition: !is_skip()
  constexpr bool operator==(const SlotOrSkip&) const = default;

 private:
  int64_t value_ = -1;
};

// A recurrent state to be written after a row, or nowhere; as SlotOrSkip, in 32 bits.
class StateSlotOrSkip {
 public:
  constexpr StateSlotOrSkip() = default;  // SKIP
  constexpr explicit StateSlotOrSkip(StateSlot slot) : value_(slot.get()) {}
  static constexpr StateSlotOrSkip skip() { return {}; }
  constexpr bool is_skip() const { return value_ < 0; }
  constexpr StateSlot slot() const { return StateSlot(value_); }  // precondition: !is_skip()
  constexpr bool operator==(const StateSlotOrSkip&) const = default;

 private:
  int32_t value_ = -1;
};

inline std::ostream& operator<<(std::ostream& out, StateSlotOrSkip slot) {
  return slot.is_skip() ? out << "SKIP" : out << slot.slot();
}

// Where a row's token comes from: the literal in token_ids, or a logits row of the source step, which the
// device has sampled by the time this step runs.
class TokenSource {
 public:
  constexpr TokenSource() = default;  // the literal
  constexpr explicit TokenSource(int32_t logits_row) : value_(logits_row) {}
  static constexpr TokenSource literal() { return {}; }
  constexpr bool is_literal() const { return value_ < 0; }
  constexpr int32_t logits_row() const { return value_; }  // precondition: !is_literal()
  constexpr bool operator==(const TokenSource&) const = default;

 private:
  int32_t value_ = -1;
};

inline std::ostream& operator<<(std::ostream& out, TokenSource source) {
  return source.is_literal() ? out << "literal" : out << source.logits_row();
}

inline std::ostream& operator<<(std::ostream& out, SlotOrSkip slot) {
  return slot.is_skip() ? out << "SKIP" : out << slot.slot();
}

static_assert(std::is_trivially_copyable_v<RowOffset> && sizeof(RowOffset) == 4);
static_assert(std::is_trivially_copyable_v<SlotOrSkip> && sizeof(SlotOrSkip) == 8);

}  // namespace lockstep
