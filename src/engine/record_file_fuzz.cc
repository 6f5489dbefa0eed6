// Any bytes at all: what the reader accepts is a record that can be written, and read again to the same
// bytes.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "engine/record_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lockstep;
  const Result<Record> record = parse_record({data, size}, "fuzz");
  if (!record.ok()) {
    LS_CHECK(record.status().message().starts_with("fuzz: "), record.status().message());
    LS_CHECK(record.status().code() != Code::kInternal, record.status().message());
    return 0;
  }
  for (const StepEntry& step : record->steps) {
    const std::optional<StepPlan> plan = plan_of(*record, step);
    LS_CHECK(!plan || plan->image().size() == step.plan.bytes.size(), "step ", step.epoch);
  }
  const Result<std::string> written = record_bytes(*record);
  LS_CHECK(written.ok(), written.status().message());
  const Result<Record> again =
      parse_record({reinterpret_cast<const uint8_t*>(written->data()), written->size()}, "again");
  LS_CHECK(again.ok(), again.status().message());
  const Result<std::string> twice = record_bytes(*again);
  LS_CHECK(twice.ok() && *twice == *written, "a record changes as it is written");
  return 0;
}
