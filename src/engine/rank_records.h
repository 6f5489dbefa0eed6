// Record files of several ranks in one folder: which of them belong together, and all of those as one file.
//
// Each rank writes lockstep-<rank>-<step>.record by itself: on a fault there is nobody left to send it to.
// Who puts them together is whoever is left: the front of a job when its ranks have ended, or `lockstep
// explain`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/status.h"
#include "guard/record.h"

namespace lockstep {

// A record's file, as its name says.
struct RankRecordFile {
  std::string path;
  int32_t rank = 0;
  uint64_t step = 0;
  std::filesystem::file_time_type written;
};

// The records of one moment of a job: of each rank one at most, by rank. Ranks that stop each other are never
// more than a step apart, and ranks that are asked one after the other have run on: no further than that what
// their recorders keep has steps in common.
inline constexpr uint64_t kStepsApart = 63;
using RankRecordFiles = std::vector<RankRecordFile>;

// What was written in `folder` since then, by step. A folder that cannot be read has none.
std::vector<RankRecordFiles> rank_records_in(const std::string& folder,
                                             std::filesystem::file_time_type since = {});

// One file as it is, several as one record. Errors: those of read_record() and merge().
Result<Record> read_records(const std::vector<std::string>& paths);

// Writes one merged file for each moment of which more than one rank has a record, beside them. Gives the
// paths. Errors: those of read_records() and write_record().
Result<std::vector<std::string>> merge_rank_records(const std::string& folder,
                                                    std::filesystem::file_time_type since);

}  // namespace lockstep
