// An explanation as one page that needs no network, no script and no other file.
#include <algorithm>
#include <array>

#include "base/status.h"
#include "explain/explain_picture.h"
#include "explain/explain_style.h"
#include "explain/explanation.h"

namespace lockstep {
namespace {

std::string chip(Source source) {
  const std::string_view css = source == Source::kSeen    ? "seen"
                               : source == Source::kRerun ? "rerun"
                                                          : "unknown";
  return concat("<span class=\"chip ", css, "\">", name_of(source), "</span>");
}

// A verdict's sentence ends with its source in brackets; on a page the source is a chip.
std::string verdict_item(const std::string& line) {
  for (const Source source : {Source::kSeen, Source::kRerun}) {
    const std::string mark = concat(" [", name_of(source), "]");
    if (line.ends_with(mark))
      return concat("<li>", escaped(line.substr(0, line.size() - mark.size())), " ", chip(source), "</li>\n");
  }
  return concat("<li>", escaped(line), "</li>\n");
}

std::string table_html(const EvidenceTable& table) {
  std::string out = concat("<h3>", escaped(table.title), "</h3>\n<div class=\"scroll\"><table><thead><tr>");
  const auto css = [&table](size_t c) {
    return c < table.right.size() && table.right[c] ? " class=\"r\"" : "";
  };
  for (size_t c = 0; c < table.columns.size(); ++c)
    out += concat("<th", css(c), ">", escaped(table.columns[c]), "</th>");
  out += "</tr></thead><tbody>\n";
  for (const std::vector<std::string>& row : table.rows) {
    out += "<tr>";
    for (size_t c = 0; c < table.columns.size(); ++c)
      out += concat("<td", css(c), ">", c < row.size() ? escaped(row[c]) : "", "</td>");
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string answer_html(const Answer& answer, int number) {
  std::string out =
      concat("<section id=\"", escaped(answer.id), "\">\n<div class=\"q\"><span class=\"n\">", number,
             "</span><h2>", escaped(answer.question), "</h2>", chip(answer.source), "</div>\n");
  if (answer.source != Source::kNotRecorded)
    out += concat("<p class=\"a\">", escaped(answer.answer), "</p>\n");
  if (!answer.evidence.empty()) {
    out += "<ul class=\"ev\">";
    for (const std::string& line : answer.evidence) out += concat("<li>", escaped(line), "</li>");
    out += "</ul>\n";
  }
  for (const EvidenceTable& table : answer.tables) out += table_html(table);
  if (!answer.listing.empty()) out += concat("<pre>", escaped(answer.listing), "</pre>\n");
  return out + "</section>\n";
}

std::string meetings_html(const std::vector<MeetingMark>& meetings) {
  if (meetings.empty()) return "";
  constexpr std::array<std::string_view, 6> kGroups = {"world", "tp", "cp", "dp", "experts", "replica"};
  std::string legend;
  for (size_t g = 0; g < kGroups.size(); ++g) {
    const bool met = std::any_of(meetings.begin(), meetings.end(),
                                 [&](const MeetingMark& mark) { return mark.group == kGroups[g]; });
    if (met) legend += concat("<span style=\"--c:var(--g", g, ")\">", kGroups[g], "</span>");
  }
  return concat(
      "<section>\n<h2>Ranks, side by side</h2>\n<p class=\"note\">The last ", meetings.size(),
      " collectives, in order. A line joins the ranks that met in one; of two that stand close together "
      "neither was first.</p>\n",
      meeting_picture(meetings), "<div class=\"legend\">", legend,
      "<span style=\"--c:var(--first)\">ringed: did not come, or said something else</span></div>\n"
      "</section>\n");
}

// "rank 2 (dp 1 of 2, tp 0 of 2), step 4"
std::string title_of(int32_t rank, const std::string& place, uint64_t step) {
  return concat("rank ", rank, place.empty() ? "" : concat(" (", escaped(place), ")"), ", step ", step);
}

std::string pictures_html(const Explanation& explanation) {
  std::string out = meetings_html(explanation.meetings);
  if (!explanation.launches.empty()) {
    out += "<section>\n<h2>Launches, layer by layer</h2>\n<div class=\"strips\">\n";
    for (const LaunchStrip& strip : explanation.launches) {
      out += concat("<figure><h3>", title_of(strip.rank, strip.place, strip.step), "</h3>\n",
                    launch_picture(strip), "<figcaption>", escaped(launch_caption(strip)),
                    "</figcaption></figure>\n");
    }
    out += "</div>\n";
    out +=
        "<div class=\"legend\"><span style=\"--c:var(--good)\">clean</span><span "
        "style=\"--c:var(--first)\">the "
        "first that is not finite</span><span style=\"--c:var(--accent)\">received from another "
        "rank</span><span style=\"--c:var(--bad)\">not finite after it</span>"
        "<span style=\"--c:#7a5af5\">softmax attention</span><span style=\"--c:#12a0a8\">Gated "
        "DeltaNet</span>"
        "</div>\n</section>\n";
  }
  if (!explanation.rows.empty()) {
    out += "<section>\n<h2>Rows, by owner</h2>\n";
    for (const RowStrip& strip : explanation.rows) {
      const auto unowned = std::count_if(strip.rows.begin(), strip.rows.end(),
                                         [](const RowMark& row) { return row.owner == Owner::kUnowned; });
      out += concat("<h3>", title_of(strip.rank, strip.place, strip.step), ": ", strip.rows.size(), " rows, ",
                    unowned == 0 ? std::string("each with an owner") : concat(unowned, " of them nobody's"),
                    "</h3>\n", row_picture(strip));
    }
    out +=
        "<div class=\"legend\"><span style=\"--c:var(--live)\">live, even sequences</span><span "
        "style=\"--c:var(--live2)\">live, odd sequences</span><span style=\"--c:var(--pad)\">pad</span><span "
        "style=\"--c:var(--none)\">nobody's</span><span style=\"--c:var(--first)\">crossed: not "
        "finite</span></div>\n</section>\n";
  }
  return out;
}

}  // namespace

std::string explanation_html(const Explanation& explanation, std::string_view file) {
  std::string out = concat(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta "
      "name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>",
      escaped(file), " - lockstep explain</title>\n<style>", kExplainStyle,
      "</style></head>\n<body><main>\n<div class=\"brand\">lockstep explain</div>\n<h1>", escaped(file),
      "</h1>\n<p class=\"sub\">", escaped(explanation.title), "</p>\n");
  const bool fine = explanation.verdict.empty() || explanation.verdict.front().starts_with("no fault");
  out += concat("<section class=\"verdict", fine ? " fine" : "", "\"><ul>\n");
  for (const std::string& line : explanation.verdict) out += verdict_item(line);
  out += "</ul></section>\n" + pictures_html(explanation);
  int number = 0;
  for (const Answer& answer : explanation.answers) out += answer_html(answer, ++number);
  return out +
         "<footer><b>seen</b>: recorded as it happened. <b>from the rerun</b>: found by running the step "
         "again "
         "after the fault. <b>not recorded</b>: this record cannot say.</footer>\n</main></body></html>\n";
}

}  // namespace lockstep
