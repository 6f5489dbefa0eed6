#include "plan/validate/fixed_text.h"

#include <algorithm>

namespace lockstep {

void FixedText::add(std::string_view part) {
  const size_t taken = std::min(part.size(), kCapacity - size_);
  std::copy_n(part.begin(), taken, text_.begin() + size_);
  size_ = static_cast<uint8_t>(size_ + taken);
}

}  // namespace lockstep
