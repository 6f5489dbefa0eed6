// lockstep doctor: does this machine keep the promise?
#include "doctor/doctor.h"

#include <iostream>
#include <memory>

#include "cli/commands.h"

namespace lockstep::cli {
namespace {

constexpr const char* kFooter =
    "Every fault of the gallery happened to somebody, in the open: wrong planners, kernels, graphs, pools "
    "and\n"
    "ranks, rebuilt here in miniature. Each must be named at the moment and by the rule that the entry "
    "states;\n"
    "the same thing done right must pass. Then every backend runs its conformance suite. Exit code 0: "
    "nothing\n"
    "was missed and nobody was accused falsely. docs/checks.md explains the rules.\n"
    "\n"
    "Examples:\n"
    "  lockstep doctor\n"
    "  lockstep doctor --only report/          the five reports that the house was built for\n"
    "  lockstep doctor --only fault/A --all    one line per entry\n"
    "  lockstep doctor --backend ./mine.so     a backend of your own, against the same suite\n"
    "  lockstep doctor --device cuda           the same on a GPU: its memory, streams and graphs\n"
    "  lockstep doctor --json > doctor.json\n";

struct DoctorFlags {
  DoctorOptions options;
  bool all = false;
  bool json = false;
};

Status run(const DoctorFlags& flags) {
  const Diagnosis diagnosis = LS_TRY(examine(flags.options));
  if (flags.json) {
    std::cout << diagnosis_json(diagnosis) << "\n";
  } else {
    std::cout << diagnosis_text(diagnosis, flags.all);
  }
  if (diagnosis.ok()) return {};
  return error(Code::kInternal, "doctor: ", diagnosis.missed, " missed, ", diagnosis.false_alarms,
               " false alarms; expected none");
}

}  // namespace

Command add_doctor(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand("doctor", "Show that faults of the field are named on this machine");
  const auto flags = std::make_shared<DoctorFlags>();
  app->footer(kFooter);
  app->add_option("--only", flags->options.only, "Entries whose id contains this text");
  app->add_option("--backend", flags->options.backend, "A shared module with a backend of your own");
  app->add_option("--device", flags->options.device, "Where entries and backends run: cpu, cuda or cuda:N")
      ->capture_default_str();
  app->add_flag("--all", flags->all, "A line per entry");
  app->add_flag("--json", flags->json, "One JSON document instead of tables");
  return {.app = app, .run = [flags](RankSession&) { return run(*flags); }};
}

}  // namespace lockstep::cli
