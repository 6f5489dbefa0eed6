#include "explain/explain_picture.h"

#include <algorithm>
#include <array>
#include <climits>
#include <map>
#include <set>

#include "base/status.h"

namespace lockstep {
namespace {

constexpr int kCell = 18, kStep = 22;  // a square, and from one to the next
constexpr int kTop = 40;               // for layer numbers and the bars of their kinds
constexpr int kRowsPerLine = 40;
constexpr size_t kMostRows = 2000;  // drawn

std::string column_label(const LaunchMark& mark) {
  if (mark.kind == LayerKind::kEmbedding) return "in";
  if (mark.kind == LayerKind::kHead) return "out";
  return mark.layer < 0 ? "-" : concat(mark.layer);
}

std::string_view kind_class(LayerKind kind) {
  if (kind == LayerKind::kSoftmax) return "kind-softmax";
  return kind == LayerKind::kGatedDelta ? "kind-gated_delta" : "kind-other";
}

std::string_view state_class(LaunchMark::State state) {
  if (state == LaunchMark::State::kClean) return "good";
  return state == LaunchMark::State::kBad ? "badc" : "firstc";
}

std::string_view state_word(LaunchMark::State state) {
  if (state == LaunchMark::State::kClean) return "clean";
  return state == LaunchMark::State::kBad ? "not finite" : "the first that is not finite";
}

std::string square(int x, int y, std::string_view css, const std::string& title) {
  return concat("<rect class=\"", css, "\" x=\"", x, "\" y=\"", y, "\" width=\"", kCell, "\" height=\"",
                kCell, "\" rx=\"4\"><title>", escaped(title), "</title></rect>");
}

std::string label(int x, int y, std::string_view anchor, std::string_view text, std::string_view css = "") {
  return concat("<text class=\"", css, "\" x=\"", x, "\" y=\"", y, "\" text-anchor=\"", anchor, "\">",
                escaped(text), "</text>");
}

std::string drawing(int width, int height, const std::string& what, const std::string& content) {
  return concat("<div class=\"scroll\"><svg width=\"", width, "\" height=\"", height, "\" viewBox=\"0 0 ",
                width, ' ', height, "\" role=\"img\" aria-label=\"", escaped(what), "\">", content,
                "</svg></div>\n");
}

// Groups that are not known have the colour of the world.
std::string_view group_class(std::string_view group) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kClasses = {
      {{"tp", "g1"}, {"cp", "g2"}, {"dp", "g3"}, {"experts", "g4"}, {"replica", "g5"}}};
  for (const auto& [name, css] : kClasses) {
    if (group == name) return css;
  }
  return "g0";
}

constexpr int kLane = 30, kMeeting = 13;  // from one rank to the next, from one collective to the next
constexpr int kLaneLeft = 60, kLaneTop = 30;

// One collective at x: dots on the lanes of its ranks, and a line that joins them.
std::string meeting_mark(const MeetingMark& mark, int x, const std::map<int32_t, int>& lanes) {
  const std::string_view css = group_class(mark.group);
  int top = INT_MAX, bottom = 0;
  std::string dots;
  const auto dot = [&](int32_t rank, bool came) {
    const int y = lanes.at(rank);
    top = std::min(top, y);
    bottom = std::max(bottom, y);
    if (came) dots += concat("<circle class=\"", css, "\" cx=\"", x, "\" cy=\"", y, "\" r=\"4.5\"/>");
    if (!came || mark.differs)
      dots += concat("<circle class=\"ring\" cx=\"", x, "\" cy=\"", y, "\" r=\"7\"/>");
  };
  for (const int32_t rank : mark.ranks) dot(rank, true);
  for (const int32_t rank : mark.missing) dot(rank, false);
  std::string title =
      concat("step ", mark.step, ", collective ", mark.number, " of ", mark.group, ": ", mark.what);
  if (!mark.where.empty()) title += ", " + mark.where;
  if (mark.differs) title += ", and others say something else";
  for (const int32_t rank : mark.missing) title += concat("; rank ", rank, " did not come");
  return concat("<g><title>", escaped(title), "</title><path class=\"", css, "\" d=\"M", x, ' ', top, "V",
                bottom, "\"/>", dots, "</g>");
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string launch_caption(const LaunchStrip& strip) {
  for (const LaunchMark& mark : strip.launches) {
    if (mark.state != LaunchMark::State::kFirst) continue;
    return concat(strip.received ? "received: layer " : "first: layer ", column_label(mark), ", ", mark.stage,
                  ": ", mark.op);
  }
  return "";
}

std::string launch_picture(const LaunchStrip& strip) {
  std::string content;
  const std::string_view ring = strip.received ? "ring recvd" : "ring";
  int column = -1, line = 0, lines = 0;
  const LaunchMark* before = nullptr;
  for (const LaunchMark& mark : strip.launches) {
    const bool begins = before == nullptr || before->layer != mark.layer;
    line = begins ? 0 : line + 1;
    column += begins ? 1 : 0;
    lines = std::max(lines, line + 1);
    const int x = 4 + column * kStep, y = kTop + line * kStep;
    if (begins) {
      content += label(x + kCell / 2, 14, "middle", column_label(mark));
      content += concat("<rect class=\"", kind_class(mark.kind), "\" x=\"", x, "\" y=\"22\" width=\"", kCell,
                        "\" height=\"5\" rx=\"2\"><title>", escaped(name_of(mark.kind)), "</title></rect>");
    }
    const bool brought = strip.received && mark.state == LaunchMark::State::kFirst;
    content += square(x, y, brought ? "recvc" : state_class(mark.state),
                      concat("launch ", mark.order, ", layer ", column_label(mark), ", ", mark.stage, " (",
                             mark.op, "): ", state_word(mark.state)));
    if (mark.state == LaunchMark::State::kFirst)
      content += concat("<rect class=\"", ring, "\" x=\"", x - 3, "\" y=\"", y - 3, "\" width=\"", kCell + 6,
                        "\" height=\"", kCell + 6, "\" rx=\"6\"/>");
    before = &mark;
  }
  const int width = 12 + (column + 1) * kStep, height = kTop + lines * kStep + 4;
  return drawing(width, height, "launches of the step by layer; the first bad one is marked", content);
}

std::string row_picture(const RowStrip& strip) {
  constexpr int kLeft = 44;
  std::string content;
  const size_t drawn = std::min(strip.rows.size(), kMostRows);
  for (size_t r = 0; r < drawn; ++r) {
    const RowMark& row = strip.rows[r];
    const int x = kLeft + static_cast<int>(r % kRowsPerLine) * kStep;
    const int y = 4 + static_cast<int>(r / kRowsPerLine) * kStep;
    if (r % kRowsPerLine == 0) content += label(kLeft - 10, y + 13, "end", concat(r));
    const std::string_view css = row.owner == Owner::kUnowned ? "none"
                                 : row.owner == Owner::kPad   ? "padc"
                                 : row.sequence % 2 == 0      ? "live"
                                                              : "live2";
    const std::string whose = row.owner == Owner::kUnowned
                                  ? "nobody owns it"
                                  : concat(name_of(row.owner), ", sequence ", row.sequence);
    content += square(x, y, css, concat("row ", r, ": ", whose, row.bad ? ", not finite" : ""));
    if (row.bad) content += concat("<path class=\"x\" d=\"M", x + 5, ' ', y + 5, "l8 8m0 -8l-8 8\"/>");
  }
  const auto lines = static_cast<int>((drawn + kRowsPerLine - 1) / kRowsPerLine);
  const int width = kLeft + static_cast<int>(std::min<size_t>(drawn, kRowsPerLine)) * kStep + 4;
  return drawing(width, 6 + lines * kStep, "rows of the step by owner; those with bad numbers are crossed",
                 content);
}

std::string meeting_picture(const std::vector<MeetingMark>& meetings) {
  std::set<int32_t> ranks;
  for (const MeetingMark& mark : meetings) {
    ranks.insert(mark.ranks.begin(), mark.ranks.end());
    ranks.insert(mark.missing.begin(), mark.missing.end());
  }
  std::map<int32_t, int> lanes;
  for (const int32_t rank : ranks) lanes[rank] = kLaneTop + 12 + static_cast<int>(lanes.size()) * kLane;
  const int foot = kLaneTop + static_cast<int>(lanes.size()) * kLane;
  std::string marks, steps;
  int x = kLaneLeft;
  const MeetingMark* before = nullptr;
  for (const MeetingMark& mark : meetings) {
    // Those of one order stand close together.
    if (before != nullptr) x += mark.order == before->order ? kMeeting - 4 : kMeeting + 4;
    if (before == nullptr || mark.step != before->step) {
      x += before == nullptr ? 0 : kMeeting;
      steps += concat("<path class=\"step\" d=\"M", x - 9, ' ', kLaneTop - 12, "V", foot, "\"/>");
      steps += label(x - 4, kLaneTop - 8, "start", concat("step ", mark.step));
    }
    marks += meeting_mark(mark, x, lanes);
    before = &mark;
  }
  const int width = x + kLane;
  std::string lines;
  for (const auto& [rank, y] : lanes) {
    lines += label(8, y + 4, "start", concat("rank ", rank));
    lines += concat("<path class=\"lane\" d=\"M", kLaneLeft - 9, ' ', y, "H", width - 8, "\"/>");
  }
  return drawing(width, foot + 4, "collectives of all ranks in their order", lines + steps + marks);
}

}  // namespace lockstep
