// Tables of text whose columns line up, and numbers as they stand in them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lockstep {

enum class Align : uint8_t { kLeft, kRight };

// Rows of cells in UTF-8, one column wide per code point.
class Table {
 public:
  struct Column {
    std::string title;
    Align align = Align::kRight;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // One cell per column; missing ones at the end are empty.
  void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  // The titles, unless all are empty, and a line per row; two spaces between columns and none at line ends.
  std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// With so many digits behind the point: "12.5".
std::string fixed(double value, int digits);
// "17%"; "-" when not finite.
std::string percent(double share);
// With a unit that leaves one to four digits in front: "1.19 GB", "512 B". Decimal units.
std::string bytes_text(double bytes);
// "596 M", "8.19 B": counts of parameters.
std::string count_text(double count);
// Thousands apart: "151,936".
std::string grouped(int64_t number);

}  // namespace lockstep
