// doctor: what a user's own machine says about the promise of the house. It runs the five reports, the
// gallery of faults (each wrong thing must be named, each right twin left alone) and the conformance suite of
// every backend.
#pragma once

#include <string>
#include <vector>

#include "base/fault.h"
#include "diag/progress.h"

namespace lockstep {

// One entry, and how it went.
struct Examination {
  enum class Kind : uint8_t { kReport, kFault, kConformance };
  std::string id;  // "report/1", "fault/A6", "conformance/paged/gqa_7"
  Kind kind = Kind::kFault;
  std::string title;
  std::string thread;   // the public thread, "owner/repo#1"; empty: none
  std::string backend;  // conformance
  char fault_class = ' ';
  Fault expect;  // check, moment, field, consumer, row and parts of texts; conformance: nothing
  Status got;
  bool named = false;    // as expected; conformance: passed
  bool twin_ok = true;   // the right twin was left alone
  bool skipped = false;  // the backend says that it does not do this
  bool on_host = false;  // a fault of what the host does whatever the device: plans, page tables, ranks
  std::string why;       // what is missing, when not named; what was said, when a twin was accused
  double seconds = 0;
};
std::string_view name_of(Examination::Kind kind);

struct Diagnosis {
  std::vector<Examination> entries;
  int named = 0;
  int missed = 0;        // wrong things that nobody named as they should be; conformance cases that failed
  int false_alarms = 0;  // right twins that were accused
  int skipped = 0;
  std::string device = "cpu";  // "cuda": where all of this ran
  std::vector<std::string>
      unnamed;  // faults that nobody names, known and written down: "X2: memory moved ..."
  double seconds = 0;

  bool ok() const { return missed == 0 && false_alarms == 0; }
};

struct DoctorOptions {
  std::string only;     // ids that contain this; empty: all
  std::string backend;  // a shared module (include/lockstep/backend.h) to hold up to the attention suite;
                        // then nothing else is run
  std::string device = "cpu";
  ProgressOptions progress;
};

// On a device the house's backends are held up to their suites. The gallery is skipped there: what its wrong
// consumers launch are functions of the CPU. Errors: kInvalidArgument when `only` matches nothing; as
// open_device(); as load_plugin() for a module that does not load; kUnimplemented for a module on a device.
// Cost: about a minute.
Result<Diagnosis> examine(const DoctorOptions& options);

// For people: the verdict, a line per report, per class of faults and per backend, then what went wrong.
// `all`: a line per entry instead.
std::string diagnosis_text(const Diagnosis& diagnosis, bool all);
// For machines: schema lockstep.doctor/1.
std::string diagnosis_json(const Diagnosis& diagnosis);

}  // namespace lockstep
