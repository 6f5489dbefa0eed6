// The fifth report: pages are selected inside the graph, and a kernel there writes the real sums to the
// memory that the planner was given; the next step plans from what it left. Refused at the capture; where
// nothing is captured, named at the first commit at which the sums differ. The right one writes derived
// fields of its own: 20,000 replays with changing batches leave every byte of the plan as it was, before and
// after each. OpenBMB SGLang fork, branch minicpm_sala, PR 2 and 3.
#include "conformance/attention_cases.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

using conformance::Mode;

// Eagerly it is not refused: then the commit names the field that was overwritten.
Status wrong(const Where& where) {
  const Status captured = conformance::sparse_sums_in_the_plan(Mode::kGraph, where.device);
  const Status eager = conformance::sparse_sums_in_the_plan(Mode::kEager, where.device);
  const bool named =
      eager.fault() != nullptr && eager.fault()->check == "R4" && eager.fault()->field == "query_start_loc";
  return named || captured.fault() == nullptr ? captured
                                              : error(Code::kInternal, "eagerly: \"", eager.message(), "\"");
}

Status twin(const Where& where) {
  for (const conformance::Case& each : conformance::sparse_cases(where.device)) {
    if (each.id.ends_with("/many_replays") || each.id.ends_with("/sizes_in_a_row")) LS_TRY(each.run());
  }
  return {};
}

}  // namespace

const Entry kReport5 = {
    .id = "report/5",
    .fault_class = 'r',
    .title = "a graph overwrites the plan that its next replay is made from",
    .thread = "OpenBMB SGLang fork, minicpm_sala#2",
    .expect = {.moment = Moment::kCapture,
               .check = "L4",
               .field = "selected_starts",
               .consumer = "select_pages (select_pages, layer 0)",
               .expected = "no launch to write to the plan",
               .found = "the plan's query_start_loc"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
