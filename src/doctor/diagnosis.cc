#include <algorithm>
#include <map>

#include "diag/table.h"
#include "doctor/doctor.h"
#include "faults/entry.h"
#include "json/json_writer.h"

namespace lockstep {
namespace {

// How a group of entries went: "12 of 12".
struct Tally {
  int all = 0;
  int named = 0;
  int skipped = 0;
  int accused = 0;
  double seconds = 0;
  std::map<std::string, int> moments;

  void take(const Examination& e) {
    ++all;
    named += e.named ? 1 : 0;
    skipped += e.skipped ? 1 : 0;
    accused += e.twin_ok ? 0 : 1;
    seconds += e.seconds;
    if (e.named && e.got.fault() != nullptr) ++moments[std::string(name_of(e.got.fault()->moment))];
  }
  std::string share() const { return concat(named, " of ", all - skipped); }
  std::string when() const {
    std::string text;
    for (const auto& [moment, count] : moments) text += concat(text.empty() ? "" : ", ", moment, " ", count);
    return text;
  }
};

std::string place(const Fault& fault) {
  return fault.row >= 0 ? concat(fault.field, "[", fault.row, "]") : fault.field;
}

void reports(const Diagnosis& diagnosis, std::string& text) {
  Table table({{"report", Align::kLeft},
               {"what happened in the field", Align::kLeft},
               {"named", Align::kLeft},
               {"at", Align::kLeft},
               {"rule", Align::kLeft},
               {"field", Align::kLeft},
               {"s"}});
  bool any = false;
  for (const Examination& e : diagnosis.entries) {
    if (e.kind != Examination::Kind::kReport) continue;
    any = true;
    const Fault* fault = e.got.fault();
    table.row({e.id, e.title,
               e.skipped              ? "not here"
               : e.named && e.twin_ok ? "yes"
                                      : "NO",
               fault ? std::string(name_of(fault->moment)) : "", fault ? fault->check : "",
               fault ? place(*fault) : "", fixed(e.seconds, 1)});
  }
  if (any) text += "\n" + table.text();
}

void classes(const Diagnosis& diagnosis, std::string& text) {
  std::map<char, Tally> tallies;
  for (const Examination& e : diagnosis.entries) {
    if (e.kind == Examination::Kind::kFault) tallies[e.fault_class].take(e);
  }
  if (tallies.empty()) return;
  Table table({{"class", Align::kLeft},
               {"faults of the field", Align::kLeft},
               {"named"},
               {"twins accused"},
               {"named at", Align::kLeft},
               {"s"}});
  for (const auto& [letter, tally] : tallies) {
    table.row({concat("(", letter, ")"), std::string(faults::class_name(letter)), tally.share(),
               concat(tally.accused), tally.when(), fixed(tally.seconds, 1)});
  }
  text += "\n" + table.text();
}

void backends(const Diagnosis& diagnosis, std::string& text) {
  std::map<std::string, Tally> tallies;
  for (const Examination& e : diagnosis.entries) {
    if (e.kind == Examination::Kind::kConformance) tallies[e.backend].take(e);
  }
  if (tallies.empty()) return;
  Table table({{"backend", Align::kLeft}, {"conformance cases passed"}, {"not served"}, {"s"}});
  for (const auto& [backend, tally] : tallies)
    table.row({backend, tally.share(), concat(tally.skipped), fixed(tally.seconds, 1)});
  text += "\n" + table.text();
}

void every_entry(const Diagnosis& diagnosis, std::string& text) {
  Table table({{"entry", Align::kLeft},
               {"result", Align::kLeft},
               {"at", Align::kLeft},
               {"rule", Align::kLeft},
               {"consumer", Align::kLeft},
               {"field", Align::kLeft},
               {"what it is", Align::kLeft},
               {"thread", Align::kLeft}});
  for (const Examination& e : diagnosis.entries) {
    const Fault* fault = e.got.fault();
    const bool fine = e.named && e.twin_ok;
    const std::string result = e.skipped                                   ? "not served"
                               : e.kind == Examination::Kind::kConformance ? fine ? "passed" : "FAILED"
                               : !e.twin_ok                                ? "TWIN ACCUSED"
                               : fine                                      ? "named"
                                                                           : "MISSED";
    table.row({e.id, result, fault ? std::string(name_of(fault->moment)) : "", fault ? fault->check : "",
               fault ? fault->consumer : "", fault ? place(*fault) : "", e.title, e.thread});
  }
  text += "\n" + table.text();
}

void write_entry(const Examination& e, std::string_view device, JsonWriter& json) {
  json.begin_object().member("id", e.id).member("kind", name_of(e.kind));
  json.member("device", e.on_host ? "cpu" : device);
  json.member("backend", e.backend).member("thread", e.thread).member("title", e.title);
  if (e.kind != Examination::Kind::kConformance) {
    json.key("expect")
        .begin_object()
        .member("moment", name_of(e.expect.moment))
        .member("check", e.expect.check)
        .end_object();
  }
  json.key("got").begin_object();
  if (const Fault* fault = e.got.fault()) {
    json.member("moment", name_of(fault->moment)).member("check", fault->check).member("field", fault->field);
    json.member("consumer", fault->consumer).member("row", fault->row).member("rank", fault->rank);
    json.member("step", fault->step).member("expected", fault->expected).member("found", fault->found);
  }
  json.member("message", e.got.message()).end_object();
  json.member("named", e.named).member("twin_ok", e.twin_ok).member("skipped", e.skipped);
  json.member("why", e.why).member("seconds", e.seconds).end_object();
}

// The reports among them by name: what they show of a device is little.
std::string on_host(const Diagnosis& diagnosis) {
  int count = 0;
  std::string reports;
  for (const Examination& e : diagnosis.entries) {
    count += e.on_host ? 1 : 0;
    if (e.on_host && e.kind == Examination::Kind::kReport)
      reports += concat(reports.empty() ? ", among them " : ", ", e.id);
  }
  if (count == 0) return "";
  return concat("\n", count,
                " are about the host, where plans are made, pages are handed out and ranks agree", reports,
                ": no device was needed.\n");
}

}  // namespace

std::string diagnosis_text(const Diagnosis& diagnosis, bool all) {
  const auto faults =
      std::count_if(diagnosis.entries.begin(), diagnosis.entries.end(),
                    [](const Examination& e) { return e.kind != Examination::Kind::kConformance; });
  const auto cases = static_cast<int64_t>(diagnosis.entries.size()) - faults;
  std::string text =
      concat(diagnosis.ok() ? "healthy" : "NOT HEALTHY", ": ", faults, " faults of the field and ", cases,
             " conformance cases; ", diagnosis.missed, " missed, ", diagnosis.false_alarms, " false alarms, ",
             diagnosis.skipped, " not served, ", fixed(diagnosis.seconds, 1), " s\n");
  if (all) {
    every_entry(diagnosis, text);
  } else {
    reports(diagnosis, text);
    classes(diagnosis, text);
    backends(diagnosis, text);
  }
  if (!diagnosis.unnamed.empty()) {
    text += "\nKnown to go unnamed, with no rule that would say so yet:\n";
    for (const std::string& fault : diagnosis.unnamed) text += concat("  ", fault, "\n");
  }
  if (diagnosis.device != "cpu") text += on_host(diagnosis);
  std::map<std::string, int> reasons;
  for (const Examination& e : diagnosis.entries) reasons[e.why] += e.skipped ? 1 : 0;
  for (const auto& [reason, count] : reasons) {
    if (count > 0) text += concat("\n", count, " not served: ", reason, "\n");
  }
  for (const Examination& e : diagnosis.entries) {
    if ((!e.named && !e.skipped) || !e.twin_ok) text += concat("\n", e.id, ": ", e.why, "\n");
  }
  return text;
}

std::string diagnosis_json(const Diagnosis& diagnosis) {
  JsonWriter json;
  json.begin_object().member("schema", "lockstep.doctor/1").member("ok", diagnosis.ok());
  json.key("summary").begin_object().member("named", diagnosis.named).member("missed", diagnosis.missed);
  json.member("false_alarms", diagnosis.false_alarms).member("skipped", diagnosis.skipped);
  json.member("seconds", diagnosis.seconds).end_object();
  json.key("unnamed").begin_array();
  for (const std::string& fault : diagnosis.unnamed) json.value(fault);
  json.end_array();
  json.key("entries").begin_array();
  for (const Examination& e : diagnosis.entries) write_entry(e, diagnosis.device, json);
  json.end_array().end_object();
  return std::move(json).take();
}

}  // namespace lockstep
