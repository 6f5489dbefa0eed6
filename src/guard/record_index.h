// A record in its two parts: the index, a JSON text of everything that people read, and the tensors, which
// the index names. How the two lie in a file is the file's business (engine/record_file.h).
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "guard/record.h"

namespace lockstep {

// A tensor of a record under the name that the index has for it: "steps/412/rank0/plan".
struct NamedTensor {
  std::string name;
  const RecordTensor* values = nullptr;  // of the record
};

struct RecordParts {
  std::string index;  // one JSON object
  std::vector<NamedTensor> tensors;
};

// Equal records give equal parts. The record is borrowed.
RecordParts take_apart(const Record& record);

// Gives the tensor of a name, each once. Errors: its own.
using TensorSource = std::function<Result<RecordTensor>(std::string_view name)>;

// Reads an index back. Every number and name in it is somebody else's: `who` begins each refusal.
// Errors: kInvalidArgument for text that is no index, another version, a member of another kind, numbers out
// of range, too many entries; those of `tensors`.
Result<Record> put_together(std::string_view index, const TensorSource& tensors, std::string_view who);

}  // namespace lockstep
