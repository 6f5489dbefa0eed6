// FixedText: a short text in place. What a validator has to say, it says without asking for memory.
#pragma once

#include <array>
#include <charconv>
#include <cstdint>
#include <ostream>
#include <string_view>
#include <type_traits>

#include "base/units.h"

namespace lockstep {

// A number to be shown in hexadecimal, as digests are.
struct Hex {
  uint64_t value = 0;
};

// So many of something: "1 page", "2 pages".
struct Counted {
  int64_t count = 0;
  std::string_view noun;
};

// At most kCapacity characters; the rest is cut off.
class FixedText {
 public:
  static constexpr size_t kCapacity = 144;

  FixedText() = default;
  template <typename... Parts>
  explicit FixedText(const Parts&... parts) {
    (add(parts), ...);
  }

  std::string_view view() const { return {text_.data(), size_}; }
  friend bool operator==(const FixedText& text, std::string_view other) { return text.view() == other; }
  friend std::ostream& operator<<(std::ostream& out, const FixedText& text) { return out << text.view(); }

 private:
  void add(std::string_view part);
  template <typename Number>
  requires std::is_arithmetic_v<Number>
  void add(Number value) {
    std::array<char, 32> digits;
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
    add(std::string_view(digits.data(), static_cast<size_t>(end - digits.data())));
  }
  void add(Hex hex) {
    std::array<char, 16> digits;
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), hex.value, 16).ptr;
    add(std::string_view(digits.data(), static_cast<size_t>(end - digits.data())));
  }
  void add(Counted counted) {
    add(counted.count);
    add(" ");
    add(counted.noun);
    if (counted.count != 1) add("s");
  }
  template <typename Tag, typename Integer>
  void add(Quantity<Tag, Integer> quantity) {
    add(quantity.get());
  }
  void add(SlotOrSkip slot) { slot == SlotOrSkip::skip() ? add("SKIP") : add(slot.slot()); }
  void add(StateSlotOrSkip slot) { slot == StateSlotOrSkip::skip() ? add("SKIP") : add(slot.slot()); }
  void add(TokenSource source) {
    source == TokenSource::literal() ? add("literal") : add(source.logits_row());
  }

  std::array<char, kCapacity> text_;
  uint8_t size_ = 0;
};
static_assert(FixedText::kCapacity <= UINT8_MAX && std::is_trivially_copyable_v<FixedText>);

}  // namespace lockstep
