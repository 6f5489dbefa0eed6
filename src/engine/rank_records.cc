#include "engine/rank_records.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>

#include "engine/record_file.h"
#include "guard/record_merge.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

// "lockstep-<rank>-<step>.record" and nothing else: a merged record's name has no rank.
std::optional<RankRecordFile> as_rank_record(const fs::directory_entry& file) {
  const std::string name = file.path().filename().string();
  constexpr std::string_view kPrefix = "lockstep-", kSuffix = ".record";
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) return std::nullopt;
  const char* end = name.data() + name.size() - kSuffix.size();
  RankRecordFile record{.path = file.path().string(), .written = {}};
  const auto rank = std::from_chars(name.data() + kPrefix.size(), end, record.rank);
  if (rank.ec != std::errc() || rank.ptr == end || *rank.ptr != '-' || record.rank < 0) return std::nullopt;
  const auto step = std::from_chars(rank.ptr + 1, end, record.step);
  if (step.ec != std::errc() || step.ptr != end) return std::nullopt;
  std::error_code failed;
  record.written = file.last_write_time(failed);
  if (failed) return std::nullopt;
  return record;
}

}  // namespace

std::vector<RankRecordFiles> rank_records_in(const std::string& folder, fs::file_time_type since) {
  RankRecordFiles all;
  std::error_code failed;
  for (fs::directory_iterator at(folder.empty() ? "." : folder, failed), end; !failed && at != end;
       at.increment(failed)) {
    std::optional<RankRecordFile> record = as_rank_record(*at);
    if (record && (since == fs::file_time_type{} || record->written >= since))
      all.push_back(*std::move(record));
  }
  std::sort(all.begin(), all.end(), [](const RankRecordFile& a, const RankRecordFile& b) {
    return std::tie(a.step, a.rank) < std::tie(b.step, b.rank);
  });
  std::vector<RankRecordFiles> moments;
  std::set<int32_t> ranks;
  for (RankRecordFile& record : all) {
    const bool another = moments.empty() || record.step - moments.back().front().step > kStepsApart ||
                         ranks.count(record.rank) > 0;
    if (another) {
      moments.emplace_back();
      ranks.clear();
    }
    ranks.insert(record.rank);
    moments.back().push_back(std::move(record));
  }
  for (RankRecordFiles& moment : moments) {
    std::sort(moment.begin(), moment.end(),
              [](const RankRecordFile& a, const RankRecordFile& b) { return a.rank < b.rank; });
  }
  return moments;
}

Result<Record> read_records(const std::vector<std::string>& paths) {
  std::vector<Record> records;
  for (const std::string& path : paths) records.push_back(LS_TRY(read_record(path)));
  if (records.size() == 1) return std::move(records.front());
  return merge(std::move(records));
}

Result<std::vector<std::string>> merge_rank_records(const std::string& folder, fs::file_time_type since) {
  std::vector<std::string> paths;
  for (const RankRecordFiles& moment : rank_records_in(folder, since)) {
    if (moment.size() < 2) continue;
    std::vector<std::string> files;
    for (const RankRecordFile& file : moment) files.push_back(file.path);
    const Record record = LS_TRY(read_records(files));
    paths.push_back(LS_TRY(write_record(record, folder)));
  }
  return paths;
}

}  // namespace lockstep
