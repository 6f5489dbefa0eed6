// An explanation on a terminal: the verdict first, then one section per question.
#include <sstream>

#include "base/status.h"
#include "diag/table.h"
#include "explain/explanation.h"

namespace lockstep {
namespace {

constexpr size_t kWidth = 100;  // characters of a line of prose

// Prose in lines of kWidth, each begun by `indent`; a first line may begin otherwise.
void add_prose(std::string& out, std::string_view text, std::string_view first, std::string_view indent) {
  std::string line(first);
  bool empty = true;
  std::istringstream words{std::string(text)};
  for (std::string word; words >> word;) {
    if (!empty && line.size() + 1 + word.size() > kWidth) {
      out += line + "\n";
      line = std::string(indent);
      empty = true;
    }
    line += (empty ? "" : " ") + word;
    empty = false;
  }
  out += line + "\n";
}

void add_indented(std::string& out, const std::string& lines, std::string_view indent) {
  std::istringstream in(lines);
  for (std::string line; std::getline(in, line);) out += std::string(indent) + line + "\n";
}

std::string table_text(const EvidenceTable& evidence) {
  std::vector<Table::Column> columns;
  for (size_t c = 0; c < evidence.columns.size(); ++c)
    columns.push_back({evidence.columns[c], evidence.right[c] ? Align::kRight : Align::kLeft});
  Table table(std::move(columns));
  for (const std::vector<std::string>& row : evidence.rows) table.row(row);
  return table.text();
}

}  // namespace

std::string explanation_text(const Explanation& explanation, std::string_view file) {
  std::string out = concat(file, ": ", explanation.title, "\n\nVerdict\n");
  for (const std::string& line : explanation.verdict) add_prose(out, line, "  - ", "    ");
  int number = 0;
  for (const Answer& answer : explanation.answers) {
    out += concat("\n", ++number, ". ", answer.question, "\n");
    const bool known = answer.source != Source::kNotRecorded;
    add_prose(out, known ? concat(answer.answer, " [", name_of(answer.source), "]") : answer.answer, "   ",
              "   ");
    for (const std::string& evidence : answer.evidence) add_prose(out, evidence, "   - ", "     ");
    for (const EvidenceTable& table : answer.tables) {
      out += concat("   ", table.title, ":\n");
      add_indented(out, table_text(table), "     ");
    }
    add_indented(out, answer.listing, "   ");
  }
  return out;
}

}  // namespace lockstep
