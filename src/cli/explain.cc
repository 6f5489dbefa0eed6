// lockstep explain: what a record says about a fault.
#include "explain/explain.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <system_error>

#include "cli/commands.h"
#include "engine/rank_records.h"
#include "engine/record_file.h"

namespace lockstep::cli {
namespace {

struct ExplainFlags {
  std::vector<std::string> files;
  bool json = false;
  std::string html;
  std::optional<uint64_t> step;
};

Status write_page(const std::string& path, const std::string& page) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << page;
  out.close();
  if (out) return {};
  return error(Code::kInvalidArgument, path, ": cannot be written (", std::generic_category().message(errno),
               "); expected a file in a folder that may be written to");
}

// A folder stands for the records of several ranks in it that were written last.
Result<std::vector<std::string>> files_of(const std::vector<std::string>& given) {
  std::vector<std::string> files;
  for (const std::string& path : given) {
    std::error_code ignored;
    if (!std::filesystem::is_directory(path, ignored)) {
      files.push_back(path);
      continue;
    }
    const std::vector<RankRecordFiles> moments = rank_records_in(path);
    const auto newest = [](const RankRecordFiles& moment) {
      return std::max_element(
                 moment.begin(), moment.end(),
                 [](const RankRecordFile& a, const RankRecordFile& b) { return a.written < b.written; })
          ->written;
    };
    const auto last = std::max_element(
        moments.begin(), moments.end(),
        [&](const RankRecordFiles& a, const RankRecordFiles& b) { return newest(a) < newest(b); });
    if (last == moments.end())
      return error(Code::kNotFound, path,
                   ": has no lockstep-<rank>-<step>.record; expected a folder of records");
    for (const RankRecordFile& file : *last) files.push_back(file.path);
  }
  return files;
}

Status run(const ExplainFlags& flags) {
  const std::vector<std::string> files = LS_TRY(files_of(flags.files));
  const Record record = LS_TRY(read_records(files));
  const Explanation explanation = LS_TRY(lockstep::explain(record, {.step = flags.step}));
  const std::string name =
      files.size() == 1 ? std::filesystem::path(files.front()).filename().string() : record_name(record);
  if (!flags.html.empty()) LS_TRY(write_page(flags.html, explanation_html(explanation, name)));
  if (flags.json)
    std::cout << explanation_json(explanation, name);
  else if (flags.html.empty())
    std::cout << explanation_text(explanation, name);
  else
    std::cout << flags.html << "\n";
  return {};
}

constexpr const char* kFooter =
    "A record is the file lockstep-<rank>-<step>.record that an engine writes when plan and kernels "
    "disagree:\n"
    "its last steps with their plans, what was bound to what, what the device reported, and what a rerun of "
    "the\n"
    "step found. Several files are the ranks of one run; they are put side by side, in the order that their\n"
    "collectives give. A folder stands for the newest records of a run's ranks in it. A job that lockstep "
    "started\n"
    "leaves them together as well, in lockstep-<step>.merged.record.\n"
    "\n"
    "Every answer says where it comes from:\n"
    "  seen            recorded as it happened\n"
    "  from the rerun  found by running the step again after the fault\n"
    "  not recorded    the record cannot say\n"
    "\n"
    "Exit codes: 0 explained, 1 a file that cannot be read, 2 a wrong command line.\n"
    "\n"
    "Examples:\n"
    "  lockstep explain lockstep-0-412.record\n"
    "  lockstep explain lockstep-412.merged.record --html fault.html\n"
    "  lockstep explain lockstep-0-412.record lockstep-1-412.record\n"
    "  lockstep explain lockstep-0-412.record --step 411 --json\n";

}  // namespace

Command add_explain(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand("explain", "Say what a recorded fault was, and where it began");
  const auto flags = std::make_shared<ExplainFlags>();
  app->footer(kFooter);
  app->add_option("FILE", flags->files, "Record files, one per rank, or a folder of them")
      ->required()
      ->type_name("");
  app->add_flag("--json", flags->json, "One JSON document instead of text");
  app->add_option("--html", flags->html, "Write one page to OUT that needs nothing else")->type_name("OUT");
  app->add_option("--step", flags->step, "Look at this step instead of where the fault was");
  return {.app = app, .run = [flags](RankSession&) { return run(*flags); }};
}

}  // namespace lockstep::cli
