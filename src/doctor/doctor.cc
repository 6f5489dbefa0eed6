#include "doctor/doctor.h"

#include "base/clock.h"
#include "conformance/conformance.h"
#include "device/registry.h"
#include "faults/entry.h"
#include "faults/twins.h"

namespace lockstep {
namespace {

bool wanted(const DoctorOptions& options, std::string_view id) {
  return options.only.empty() || id.find(options.only) != std::string_view::npos;
}

std::string id_of(const faults::Entry& entry) {
  const bool report = entry.id.starts_with("report/");
  return report ? std::string(entry.id) : concat("fault/", entry.id);
}

Examination examine(const faults::Entry& entry, const faults::Where& where) {
  const int64_t start = now_ns();
  const faults::Expectation& expect = entry.expect;
  Examination result{
      .id = id_of(entry),
      .kind = entry.id.starts_with("report/") ? Examination::Kind::kReport : Examination::Kind::kFault,
      .title = std::string(entry.title),
      .thread = std::string(entry.thread),
      .backend = {},
      .fault_class = entry.fault_class,
      .expect = {.check = std::string(expect.check),
                 .moment = expect.moment,
                 .consumer = std::string(expect.consumer),
                 .field = std::string(expect.field),
                 .row = expect.row,
                 .expected = std::string(expect.expected),
                 .found = std::string(expect.found)},
      .got = {}};
  const faults::Part in_full = faults::twin_in_full(entry);
  const faults::Part& right = in_full ? in_full : entry.twin;
  result.on_host = entry.wrong.on_host() && right.on_host();
  result.got = entry.wrong(where);
  result.why = faults::unmet(expect, result.got);
  result.named = result.why.empty();
  const Status twin = right(where);
  result.twin_ok = twin.ok();
  if (!twin.ok()) result.why = concat("the right twin was accused: ", twin.message());
  result.seconds = static_cast<double>(now_ns() - start) * 1e-9;
  return result;
}

Examination examination_of(const conformance::CaseResult& done) {
  const size_t first = done.id.find('/'), second = done.id.find('/', first + 1);
  Examination result{.id = done.id,
                     .kind = Examination::Kind::kConformance,
                     .title = done.id.substr(second + 1),
                     .thread = {},
                     .backend = done.id.substr(first + 1, second - first - 1),
                     .expect = {},
                     .got = done.status};
  result.skipped = done.status.code() == Code::kUnimplemented;
  result.named = done.status.ok();
  result.why = done.status.message();
  result.seconds = done.seconds;
  return result;
}

void take(Diagnosis& diagnosis, Examination&& result) {
  diagnosis.skipped += result.skipped ? 1 : 0;
  diagnosis.named += result.named ? 1 : 0;
  diagnosis.missed += !result.named && !result.skipped ? 1 : 0;
  diagnosis.false_alarms += result.twin_ok ? 0 : 1;
  diagnosis.entries.push_back(std::move(result));
}

Result<Diagnosis> examine_house(const DoctorOptions& options) {
  std::vector<const faults::Entry*> entries;
  for (const faults::Entry* entry : faults::all_entries()) {
    if (wanted(options, id_of(*entry))) entries.push_back(entry);
  }
  const DevicePtr device = LS_TRY(open_device(options.device));
  std::vector<conformance::Case> cases = conformance::house_cases(device);
  std::erase_if(cases, [&](const conformance::Case& each) { return !wanted(options, each.id); });
  if (entries.empty() && cases.empty()) {
    return error(Code::kInvalidArgument, "doctor: no entry has ", options.only,
                 " in its id; lockstep doctor --all lists them");
  }
  Diagnosis diagnosis;
  for (const faults::Entry* entry : faults::unnamed_entries())
    diagnosis.unnamed.push_back(concat(entry->id, ": ", entry->title));
  Progress progress("doctor", static_cast<int64_t>(entries.size() + cases.size()), ProgressUnit::kItems,
                    options.progress);
  for (const faults::Entry* entry : entries) {
    take(diagnosis, examine(*entry, {.device = device, .name = options.device}));
    progress.advance(1);
  }
  for (const conformance::Case& each : cases) {
    take(diagnosis, examination_of(conformance::run_case(each)));
    progress.advance(1);
  }
  return diagnosis;
}

}  // namespace

std::string_view name_of(Examination::Kind kind) {
  constexpr std::string_view kNames[] = {"report", "fault", "conformance"};
  return kNames[static_cast<size_t>(kind)];
}

Result<Diagnosis> examine(const DoctorOptions& options) {
  const int64_t start = now_ns();
  Diagnosis diagnosis;
  if (!options.backend.empty() && options.device != "cpu") {
    return error(Code::kUnimplemented, "doctor: --backend ", options.backend, " is asked for on device ",
                 options.device, "; expected device cpu, as kernels of modules are functions of the CPU");
  }
  if (options.backend.empty()) {
    diagnosis = LS_TRY(examine_house(options));
  } else {
    for (const conformance::CaseResult& done : LS_TRY(conformance::run_plugin_conformance(options.backend))) {
      if (wanted(options, done.id)) take(diagnosis, examination_of(done));
    }
  }
  diagnosis.device = options.device;
  diagnosis.seconds = static_cast<double>(now_ns() - start) * 1e-9;
  return diagnosis;
}

}  // namespace lockstep
