// An explanation for machines.
#include "explain/explanation.h"
#include "json/json_writer.h"

namespace lockstep {
namespace {

void write_strings(JsonWriter& json, std::string_view key, const std::vector<std::string>& strings) {
  json.key(key).begin_array();
  for (const std::string& text : strings) json.value(text);
  json.end_array();
}

void write_table(JsonWriter& json, const EvidenceTable& table) {
  json.begin_object().member("title", table.title);
  write_strings(json, "columns", table.columns);
  json.key("rows").begin_array();
  for (const std::vector<std::string>& row : table.rows) {
    json.begin_array();
    for (const std::string& cell : row) json.value(cell);
    json.end_array();
  }
  json.end_array().end_object();
}

void write_answer(JsonWriter& json, const Answer& answer) {
  json.begin_object()
      .member("id", answer.id)
      .member("question", answer.question)
      .member("answer", answer.answer);
  json.member("source", name_of(answer.source));
  write_strings(json, "evidence", answer.evidence);
  json.key("tables").begin_array();
  for (const EvidenceTable& table : answer.tables) write_table(json, table);
  json.end_array();
  if (!answer.listing.empty()) json.member("listing", answer.listing);
  json.end_object();
}

std::string_view state_of(LaunchMark::State state) {
  if (state == LaunchMark::State::kClean) return "clean";
  return state == LaunchMark::State::kBad ? "bad" : "first";
}

void write_launches(JsonWriter& json, const LaunchStrip& strip) {
  json.begin_object().member("rank", strip.rank).member("step", strip.step);
  json.member("received", strip.received).key("launches").begin_array();
  for (const LaunchMark& mark : strip.launches) {
    json.begin_object()
        .member("order", mark.order)
        .member("layer", mark.layer)
        .member("kind", name_of(mark.kind));
    json.member("stage", mark.stage).member("op", mark.op).member("state", state_of(mark.state)).end_object();
  }
  json.end_array().end_object();
}

void write_rows(JsonWriter& json, const RowStrip& strip) {
  json.begin_object().member("rank", strip.rank).member("step", strip.step).key("rows").begin_array();
  for (const RowMark& row : strip.rows) {
    json.begin_object().member("owner", name_of(row.owner)).member("sequence", row.sequence);
    json.member("bad", row.bad).end_object();
  }
  json.end_array().end_object();
}

void write_ranks(JsonWriter& json, std::string_view key, const std::vector<int32_t>& ranks) {
  json.key(key).begin_array();
  for (const int32_t rank : ranks) json.value(rank);
  json.end_array();
}

void write_meeting(JsonWriter& json, const MeetingMark& mark) {
  json.begin_object().member("order", mark.order).member("step", mark.step).member("group", mark.group);
  json.member("number", mark.number).member("what", mark.what).member("where", mark.where);
  write_ranks(json, "ranks", mark.ranks);
  write_ranks(json, "missing", mark.missing);
  json.member("differs", mark.differs).end_object();
}

}  // namespace

std::string explanation_json(const Explanation& explanation, std::string_view file) {
  JsonWriter json;
  json.begin_object()
      .member("schema", "lockstep.explain/1")
      .member("file", file)
      .member("title", explanation.title);
  write_strings(json, "verdict", explanation.verdict);
  json.key("answers").begin_array();
  for (const Answer& answer : explanation.answers) write_answer(json, answer);
  json.end_array().key("launches").begin_array();
  for (const LaunchStrip& strip : explanation.launches) write_launches(json, strip);
  json.end_array().key("rows").begin_array();
  for (const RowStrip& strip : explanation.rows) write_rows(json, strip);
  json.end_array().key("collectives").begin_array();
  for (const MeetingMark& mark : explanation.meetings) write_meeting(json, mark);
  json.end_array().end_object();
  return std::move(json).take() + "\n";
}

}  // namespace lockstep
