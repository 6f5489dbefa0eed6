#include <algorithm>
#include <iomanip>
#include <ostream>
#include <sstream>

#include "base/math.h"
#include "plan/step_plan.h"

namespace lockstep {
namespace {

// Text in a column of its own, two blanks apart from the next.
struct Cell {
  std::string text;
  int width;
};

std::ostream& operator<<(std::ostream& out, const Cell& cell) {
  return out << std::left << std::setw(cell.width) << cell.text << "  ";
}

// Entries in front of a list, whatever its count says.
template <typename T>
std::span<const T> front(std::span<const T> list, int32_t count) {
  return list.first(std::min(list.size(), static_cast<size_t>(std::max(count, 0))));
}

template <typename T>
std::string range_text(T first, T last) {
  return first == last ? concat(first) : concat(first, "..", last);
}

// A sequence's rows, cut to those that exist.
struct Rows {
  size_t begin = 0;
  size_t end = 0;
};

Rows rows_of(const StepPlan& plan, size_t s) {
  const auto starts = plan.get(field::query_start_loc);
  const int32_t rows = plan.bucket().rows.get();
  const int32_t begin = std::clamp(starts[s].get(), 0, rows);
  return {static_cast<size_t>(begin), static_cast<size_t>(std::clamp(starts[s + 1].get(), begin, rows))};
}

void print_header(const StepPlan& plan, std::ostream& out) {
  const RowCount uniform = plan.scalar(field::uniform_query_len);
  out << "plan " << plan.scalar(field::epoch) << ": "
      << name_of(static_cast<Phase>(plan.scalar(field::phase))) << ", " << plan.scalar(field::num_rows)
      << " of " << plan.bucket().rows << " rows, " << plan.scalar(field::num_seqs) << " of "
      << plan.bucket().seqs << " sequences, " << plan.scalar(field::num_logits_rows) << " of "
      << plan.bucket().logits_rows << " logits rows; longest query " << plan.scalar(field::max_query_len)
      << (uniform > RowCount(0) ? " (uniform)" : "") << ", longest sequence "
      << plan.scalar(field::max_seq_len);
  if (plan.scalar(field::source_epoch) != Epoch(0))
    out << "; tokens from plan " << plan.scalar(field::source_epoch);
  out << "; digest " << std::hex << std::right << std::setw(16) << std::setfill('0') << plan.digest()
      << std::dec << std::setfill(' ') << '\n';
}

std::string state_text(const StepPlan& plan, size_t s, const Rows& rows) {
  if (plan.get(field::state_read_slot)[s] == StateSlot(0)) return "-";
  const auto writes = plan.get(field::state_write_slots);
  const std::string read =
      plan.get(field::has_initial_state)[s] != 0 ? concat(plan.get(field::state_read_slot)[s]) : "new";
  return rows.begin == rows.end ? read : concat(read, " -> ", writes[rows.end - 1]);
}

void print_sequence(const StepPlan& plan, const StepLimits& limits, size_t s, std::ostream& out) {
  const bool live = static_cast<int64_t>(s) < plan.scalar(field::num_seqs).get();
  const Rows rows = rows_of(plan, s);
  out << "  " << Cell{live ? concat(s) : "pad", 8}
      << Cell{rows.begin == rows.end ? "none" : range_text(rows.begin, rows.end - 1), 11}
      << Cell{concat(plan.get(field::computed_lens)[s], " -> ", plan.get(field::seq_lens)[s]), 16}
      << Cell{concat(plan.get(field::prompt_lens)[s]), 6} << Cell{state_text(plan, s, rows), 12};
  for (int32_t g = 0; g < plan.layout().num_groups(); ++g) {
    const GroupId group(g);
    const auto slots = plan.get(field::slot_mapping, group);
    if (slots.data() == nullptr) continue;
    const int32_t pages = ceil_div(std::max(plan.get(field::seq_lens)[s].get(), 0),
                                   std::max(limits.group(group).page_tokens, 1));
    out << Cell{concat(plan.get(field::table_rows, group)[s]), 12} << Cell{concat(pages), 5}
        << Cell{rows.begin == rows.end ? "none" : range_text(slots[rows.begin], slots[rows.end - 1]), 16};
  }
  out << '\n';
}

void print_sequences(const StepPlan& plan, const StepLimits& limits, std::ostream& out) {
  out << "  " << Cell{"sequence", 8} << Cell{"rows", 11} << Cell{"tokens", 16} << Cell{"prompt", 6}
      << Cell{"state", 12};
  for (int32_t g = 0; g < plan.layout().num_groups(); ++g) {
    if (plan.layout().place(FieldId::slot_mapping, GroupId(g)).offset < 0) continue;
    out << Cell{concat("g", g, " table row"), 12} << Cell{"pages", 5} << Cell{"slots", 16};
  }
  out << '\n';
  int32_t empty = 0;
  for (size_t s = 0; s < plan.get(field::seq_lens).size(); ++s) {
    const Rows rows = rows_of(plan, s);
    const bool live = static_cast<int64_t>(s) < plan.scalar(field::num_seqs).get();
    if (!live && rows.begin == rows.end)
      ++empty;
    else
      print_sequence(plan, limits, s, out);
  }
  if (empty > 0) out << "  " << empty << (empty == 1 ? " empty sequence\n" : " empty sequences\n");
}

// How a token is drawn; what is off goes without saying.
void print_sampling(const StepPlan& plan, size_t r, std::ostream& out) {
  const float temperature = plan.get(field::temperature)[r];
  if (temperature == 0.0f)
    out << "greedy";
  else
    out << "temperature " << temperature << ", seed " << plan.get(field::seed)[r];
  const auto value = [&](std::string_view name, auto found, auto off) {
    if (found != off) out << ", " << name << ' ' << found;
  };
  value("top-k", plan.get(field::top_k)[r], 0);
  value("top-p", plan.get(field::top_p)[r], 1.0f);
  value("min-p", plan.get(field::min_p)[r], 0.0f);
  value("repetition", plan.get(field::repetition_penalty)[r], 1.0f);
  value("presence", plan.get(field::presence_penalty)[r], 0.0f);
  value("frequency", plan.get(field::frequency_penalty)[r], 0.0f);
  value("penalty slot", plan.get(field::sample_penalty_slots)[r], PenaltySlot(-1));
  value("mask", plan.get(field::mask_slots)[r], -1);
  value("logprobs", plan.get(field::logprobs)[r], -1);
  out << '\n';
}

void print_logits_rows(const StepPlan& plan, std::ostream& out) {
  const auto rows = front(plan.get(field::logits_rows), plan.scalar(field::num_logits_rows).get());
  if (rows.empty()) return;
  out << "  " << Cell{"logits", 8} << Cell{"row", 11} << Cell{"position", 16} << "draw\n";
  for (size_t r = 0; r < rows.size(); ++r) {
    out << "  " << Cell{concat(r), 8} << Cell{concat(rows[r]), 11}
        << Cell{concat(plan.get(field::sample_positions)[r]), 16};
    print_sampling(plan, r, out);
  }
}

void print_lists(const StepPlan& plan, std::ostream& out) {
  for (int32_t g = 0; g < plan.layout().num_groups(); ++g) {
    const GroupId group(g);
    const bool paged = plan.layout().place(FieldId::num_table_edits, group).offset >= 0;
    const auto edits =
        front(plan.get(field::table_edits, group), paged ? plan.scalar(field::num_table_edits, group) : 0);
    if (!edits.empty()) out << "  edits     g" << g << ':';
    for (const TableEdit& edit : edits) out << " (" << edit.row << ")[" << edit.index << "]=" << edit.page;
    if (!edits.empty()) out << '\n';
    const auto copies = front(plan.get(field::copies, group), plan.scalar(field::num_copies, group));
    if (!copies.empty()) out << "  copies    g" << g << ':';
    for (const PageCopy& copy : copies) out << ' ' << copy.source << "->" << copy.target;
    if (!copies.empty()) out << '\n';
  }
}

}  // namespace

void print_plan(const StepPlan& plan, const StepLimits& limits, std::ostream& out) {
  if (plan.layout().bytes() == 0 || plan.image().size() < static_cast<size_t>(plan.layout().bytes())) {
    out << "plan without an image\n";
    return;
  }
  std::ostringstream text;
  print_header(plan, text);
  print_sequences(plan, limits, text);
  print_logits_rows(plan, text);
  print_lists(plan, text);
  std::istringstream lines(std::move(text).str());
  for (std::string line; std::getline(lines, line);)
    out << std::string_view(line).substr(0, line.find_last_not_of(' ') + 1) << '\n';
}

}  // namespace lockstep
