#include "engine/record_file.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "guard/record_index.h"
#include "weights/safetensors.h"
#include "weights/safetensors_writer.h"

namespace lockstep {
namespace {

// Copies bytes [offset, offset + bytes) of a file to a place.
using ReadBytes = std::function<Status(int64_t offset, int64_t bytes, void* to)>;

TensorView view_of(const RecordTensor& tensor) {
  // The writer reads through it.
  return dense_view(const_cast<std::byte*>(tensor.bytes.data()), tensor.dtype,
                    Shape{std::span(tensor.shape)});
}

Result<SafetensorsWriter> writer_for(const Record& record, RecordParts& parts) {
  parts = take_apart(record);
  SafetensorsWriter writer;
  writer.set_metadata(std::string(kRecordMetadata), parts.index);
  for (const NamedTensor& tensor : parts.tensors) LS_TRY(writer.add(tensor.name, view_of(*tensor.values)));
  return writer;
}

Result<Record> record_of(const SafetensorsHeader& header, const ReadBytes& read_bytes, std::string_view who) {
  const auto index = header.metadata.find(std::string(kRecordMetadata));
  if (index == header.metadata.end()) {
    return error(Code::kInvalidArgument, who, ": has no ", kRecordMetadata,
                 " in its metadata; expected a record that lockstep wrote");
  }
  std::map<std::string_view, const StoredTensor*> tensors;
  for (const StoredTensor& tensor : header.tensors) tensors.emplace(tensor.name, &tensor);
  const TensorSource source = [&](std::string_view name) -> Result<RecordTensor> {
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      return error(Code::kInvalidArgument, who, ": the index names tensor ", name.substr(0, 100),
                   ", which the file has not, or twice; expected each tensor once");
    }
    const StoredTensor& stored = *found->second;
    RecordTensor tensor{.dtype = stored.dtype,
                        .bytes = std::vector<std::byte>(static_cast<size_t>(stored.bytes))};
    for (int64_t i = 0; i < stored.shape.rank; ++i) tensor.shape.push_back(stored.shape[i]);
    LS_TRY(read_bytes(stored.offset, stored.bytes, tensor.bytes.data()));
    tensors.erase(found);
    return tensor;
  };
  return put_together(index->second, source, who);
}

}  // namespace

std::string record_name(const Record& record) {
  uint64_t step = 0;
  for (const StepEntry& entry : record.steps) step = std::max(step, entry.epoch);
  if (!record.faults.empty()) step = record.faults.front().fault.step;
  if (record.ranks.size() > 1) return concat("lockstep-", step, ".merged.record");
  return concat("lockstep-", record.ranks.empty() ? 0 : record.ranks.front().rank, "-", step, ".record");
}

Result<std::string> write_record(const Record& record, const std::string& folder) {
  RecordParts parts;
  const SafetensorsWriter writer = LS_TRY(writer_for(record, parts));
  std::string path = (folder.empty() ? "" : folder + "/") + record_name(record);
  LS_TRY(writer.write(path));
  return path;
}

Result<std::string> record_bytes(const Record& record) {
  RecordParts parts;
  const SafetensorsWriter writer = LS_TRY(writer_for(record, parts));
  return writer.bytes();
}

Result<Record> read_record(const std::string& path) {
  const InputFile file = LS_TRY(InputFile::open(path));
  const SafetensorsHeader header = LS_TRY(read_safetensors_header(file));
  return record_of(
      header, [&file](int64_t offset, int64_t bytes, void* to) { return file.read(offset, bytes, to); },
      path);
}

Result<Record> parse_record(std::span<const uint8_t> file, std::string_view who) {
  const SafetensorsHeader header = LS_TRY(parse_safetensors(file, who));
  return record_of(
      header,
      [file](int64_t offset, int64_t bytes, void* to) {
        if (bytes > 0) std::memcpy(to, file.data() + offset, static_cast<size_t>(bytes));
        return Status();
      },
      who);
}

}  // namespace lockstep
