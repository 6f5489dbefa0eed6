#include "explain/explain_picture.h"

#include <algorithm>

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

std::string launch_picture(const LaunchStrip& strip) {
  std::string content, call;
  int column = -1, line = 0, lines = 0, first_x = 0, first_y = 0;
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
    content += square(x, y, state_class(mark.state),
                      concat("launch ", mark.order, ", layer ", column_label(mark), ", ", mark.stage, " (",
                             mark.op, "): ", state_word(mark.state)));
    if (mark.state == LaunchMark::State::kFirst) {
      first_x = x;
      first_y = y;
      call = concat("layer ", column_label(mark), ", ", mark.stage, ": ", mark.op);
    }
    before = &mark;
  }
  int width = 12 + (column + 1) * kStep, height = kTop + lines * kStep + 4;
  if (!call.empty()) {
    content += concat("<rect class=\"ring\" x=\"", first_x - 3, "\" y=\"", first_y - 3, "\" width=\"",
                      kCell + 6, "\" height=\"", kCell + 6, "\" rx=\"6\"/>");
    const int foot = height + 14;
    content += concat("<path class=\"ring\" d=\"M", first_x + kCell / 2, ' ', first_y + kCell + 3, "V",
                      height - 2, "\"/>");
    content += label(first_x, foot, "start", "first: " + call, "call");
    width = std::max(width, first_x + 12 + 8 * static_cast<int>(call.size() + 7));
    height = foot + 6;
  }
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

}  // namespace lockstep
