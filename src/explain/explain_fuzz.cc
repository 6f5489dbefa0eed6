// Any record at all, and one whose plans and tables are broken in any way: each is explained, in every form.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "engine/record_file.h"
#include "explain/explain.h"
#include "explain/field_report.h"

namespace lockstep {
namespace {

void explain_in_every_form(const Record& record) {
  const Result<Explanation> explanation = explain(record, {});
  LS_CHECK(explanation.ok(), explanation.status().message());
  LS_CHECK(explanation->answers.size() == 14, explanation->answers.size());
  LS_CHECK(!explanation_text(*explanation, "fuzz").empty(), "no text");
  LS_CHECK(!explanation_json(*explanation, "fuzz").empty(), "no JSON");
  LS_CHECK(explanation_html(*explanation, "fuzz").find("<script") == std::string::npos, "text became markup");
}

// Four bytes change one: which step, where in its plan, to what.
Record with_broken_plans(const uint8_t* data, size_t size) {
  static const Record kWhole = field_report::record();
  Record record = kWhole;
  for (size_t i = 0; i + 4 <= size; i += 4) {
    std::vector<std::byte>& image = record.steps[data[i] % record.steps.size()].plan.bytes;
    image[(data[i + 1] | size_t{data[i + 2]} << 8) % image.size()] = std::byte{data[i + 3]};
  }
  return record;
}

}  // namespace
}  // namespace lockstep

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lockstep;
  const Result<Record> record = parse_record({data, size}, "fuzz");
  explain_in_every_form(record.ok() ? *record : with_broken_plans(data, size));
  return 0;
}
