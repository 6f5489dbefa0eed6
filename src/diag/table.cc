#include "diag/table.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace lockstep {
namespace {

// Code points: every byte but those that continue a character.
size_t width_of(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string scaled(double value, const std::vector<std::string_view>& units) {
  size_t unit = 0;
  while (std::abs(value) >= 999.5 && unit + 1 < units.size()) {
    value /= 1000;
    ++unit;
  }
  const int digits = unit == 0 && value == std::floor(value) ? 0 : value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  std::string text = fixed(value, digits);
  if (!units[unit].empty()) text += " " + std::string(units[unit]);
  return text;
}

}  // namespace

std::string Table::text() const {
  std::vector<size_t> widths;
  bool titled = false;
  for (size_t c = 0; c < columns_.size(); ++c) {
    widths.push_back(width_of(columns_[c].title));
    titled |= !columns_[c].title.empty();
    for (const auto& cells : rows_) {
      if (c < cells.size()) widths[c] = std::max(widths[c], width_of(cells[c]));
    }
  }
  std::string out;
  const auto add = [&](const auto& cell_at) {
    std::string line;
    for (size_t c = 0; c < columns_.size(); ++c) {
      const std::string& cell = cell_at(c);
      const std::string padding(widths[c] - width_of(cell), ' ');
      line += (c > 0 ? "  " : "") + (columns_[c].align == Align::kRight ? padding + cell : cell + padding);
    }
    out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  };
  const std::string empty;
  if (titled) add([this](size_t c) -> const std::string& { return columns_[c].title; });
  for (const auto& cells : rows_) {
    add([&](size_t c) -> const std::string& { return c < cells.size() ? cells[c] : empty; });
  }
  return out;
}

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  return text;
}

std::string percent(double share) { return std::isfinite(share) ? fixed(share * 100, 0) + "%" : "-"; }

std::string bytes_text(double bytes) { return scaled(bytes, {"B", "kB", "MB", "GB", "TB"}); }

std::string count_text(double count) { return scaled(count, {"", "k", "M", "B", "T"}); }

std::string grouped(int64_t number) {
  std::string text = std::to_string(number);
  const size_t first = number < 0 ? 1 : 0;
  for (size_t at = text.size(); at > first + 3; at -= 3) text.insert(at - 3, ",");
  return text;
}

}  // namespace lockstep
