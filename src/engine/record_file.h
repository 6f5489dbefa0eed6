// Record files: a record as a safetensors file, whose metadata entry "lockstep_record" is the index of
// guard/record_index.h and whose tensors are the record's. Two runs of the same work give the same bytes, but
// for the entries under "times".
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "guard/record.h"

namespace lockstep {

inline constexpr std::string_view kRecordMetadata = "lockstep_record";

// "lockstep-0-412.record"; "lockstep-412.merged.record" for the record of several ranks. The step is the
// first fault's, or the newest recorded one.
std::string record_name(const Record& record);

// Writes the record into `folder` under its name, under a temporary name first: a reader sees all or nothing.
// Gives the path. Errors: kInvalidArgument where the system refuses, with its reason.
Result<std::string> write_record(const Record& record, const std::string& folder);

// The bytes of the file that write_record() writes.
Result<std::string> record_bytes(const Record& record);

// Reads a record file. Sizes are held to the file's length before memory is asked for, and each tensor is
// read once, so that memory is bounded by the file.
// Errors: kNotFound when there is no such file; kInvalidArgument for a file that is damaged, is no record, is
// of another version, or holds numbers that no record has.
Result<Record> read_record(const std::string& path);

// The same for a file in memory; `who` begins each refusal.
Result<Record> parse_record(std::span<const uint8_t> file, std::string_view who);

}  // namespace lockstep
