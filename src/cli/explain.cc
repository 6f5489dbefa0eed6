// lockstep explain: what a record says about a fault.
#include "explain/explain.h"

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <system_error>

#include "cli/commands.h"
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

Status run(const ExplainFlags& flags) {
  std::vector<Record> records;
  for (const std::string& file : flags.files) records.push_back(LS_TRY(read_record(file)));
  const bool alone = records.size() == 1;
  const Record record = alone ? std::move(records.front()) : LS_TRY(merge(std::move(records)));
  const Explanation explanation = LS_TRY(lockstep::explain(record, {.step = flags.step}));
  const std::string name = alone ? std::filesystem::path(flags.files.front()).filename().string()
                                 : concat(flags.files.size(), " records");
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
    "step found. Several files are the ranks of one run; they are put side by side.\n"
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
    "  lockstep explain lockstep-0-412.record lockstep-1-412.record --html fault.html\n"
    "  lockstep explain lockstep-0-412.record --step 411 --json\n";

}  // namespace

Command add_explain(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand("explain", "Say what a recorded fault was, and where it began");
  const auto flags = std::make_shared<ExplainFlags>();
  app->footer(kFooter);
  app->add_option("FILE", flags->files, "Record files, one per rank")->required()->type_name("");
  app->add_flag("--json", flags->json, "One JSON document instead of text");
  app->add_option("--html", flags->html, "Write one page to OUT that needs nothing else")->type_name("OUT");
  app->add_option("--step", flags->step, "Look at this step instead of where the fault was");
  return {.app = app, .run = [flags](RankSession&) { return run(*flags); }};
}

}  // namespace lockstep::cli
