#include "plan/head_shares.h"

#include <algorithm>

namespace lockstep {
namespace {

Status refuse(const HeadMap& map, int32_t row, std::string expected, std::string found) {
  return broken({.check = "P7",
                 .moment = Moment::kBind,
                 .consumer = "",
                 .field = std::string(map.name),
                 .row = row,
                 .rank = 0,
                 .step = 0,
                 .expected = std::move(expected),
                 .found = std::move(found)});
}

std::string columns_of(const HeadShare& share) {
  return concat("columns ", share.first, "..", share.first + share.count - 1, " in rank ", share.rank);
}

Status check_share(const HeadMap& map, const HeadShare& share) {
  if (share.count == 0)
    return refuse(map, share.rank, "at least one head in every rank", concat("none in rank ", share.rank));
  if (share.first < 0 || share.count < 0 || share.first + share.count > int64_t{map.heads} * map.head_size) {
    return refuse(map, share.rank, concat("columns of ", map.heads, " heads of ", map.head_size),
                  columns_of(share));
  }
  if (share.first % map.head_size != 0 || share.count % map.head_size != 0)
    return refuse(map, share.rank, concat("whole heads of ", map.head_size, " columns"), columns_of(share));
  if (share.count != map.shares[0].count) {
    return refuse(map, share.rank,
                  concat(map.shares[0].count / map.head_size, " heads, as in rank ", map.shares[0].rank),
                  concat(share.count / map.head_size, " heads in rank ", share.rank));
  }
  return {};
}

}  // namespace

Status check_head_map(const HeadMap& map) {
  for (const HeadShare& share : map.shares) LS_TRY(check_share(map, share));
  for (int32_t head = 0; head < map.heads; ++head) {
    const int64_t column = int64_t{head} * map.head_size;
    const auto holders = std::count_if(map.shares.begin(), map.shares.end(), [&](const HeadShare& share) {
      return share.first <= column && column < share.first + share.count;
    });
    if (holders != map.copies) {
      return refuse(map, head, concat("held by ", map.copies, " of ", map.shares.size(), " ranks"),
                    concat("head ", head, ", held by ", holders));
    }
  }
  return {};
}

}  // namespace lockstep
