#include "comm/rank_kernels.h"

#include <algorithm>
#include <limits>

#include "kernels/common/live_rows.h"

namespace lockstep {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// In pieces, so that a piece of the sum stays in the nearest cache until all parts are in.
void add_parts(const AddPartsArgs& args, Worker) {
  constexpr int64_t kPiece = 2048;
  for (int64_t begin = 0; begin < args.count; begin += kPiece) {
    const int64_t count = std::min(kPiece, args.count - begin);
    float* __restrict to = args.sum + begin;
    const float* __restrict from = args.parts + begin;
    std::copy_n(from, count, to);
    for (int64_t part = 1; part < args.ranks; ++part) {
      for (int64_t i = 0; i < count; ++i) to[i] += from[part * args.count + i];
    }
  }
}

void copy_padded(const CopyPaddedArgs& args, Worker) {
  std::copy_n(args.from, args.count, args.to);
  std::fill_n(args.to + args.count, args.room - args.count, 0.0f);
}

void join_columns(const JoinColumnsArgs& args, Worker) {
  for (int64_t rank = 0; rank * args.columns < args.width; ++rank) {
    const int64_t count = std::min(args.columns, args.width - rank * args.columns);
    for (int64_t row = 0; row < args.rows; ++row) {
      std::copy_n(args.parts + (rank * args.rows + row) * args.columns, count,
                  args.out + row * args.width + rank * args.columns);
    }
  }
}

void pack_kv(const PackKvArgs& args, Worker) {
  const int64_t rows = args.k.dim(0), heads = args.k.dim(1), dim = args.k.dim(2);
  const int64_t live = live_rows(args.num_rows, rows);
  float* to = args.to;
  for (int64_t t = 0; t < rows; ++t) {
    for (const TensorView* x : {&args.k, &args.v}) {
      for (int64_t h = 0; h < heads; ++h, to += dim) {
        if (t < live) {
          std::copy_n(x->as<const float>() + t * x->stride(0) + h * x->stride(1), dim, to);
        } else {
          std::fill_n(to, dim, 0.0f);
        }
      }
    }
  }
}

void bring_rows(const BringRowsArgs& args, Worker) {
  const int64_t width = args.x.dim(1), live = live_rows(args.live, args.count);
  for (int64_t r = 0; r < args.count; ++r) {
    float* to = args.to + r * width;
    const int64_t row = r < live ? args.rows[r] : 0;
    if (r >= live || args.places[r] / args.count != args.rank) {
      std::fill_n(to, width, 0.0f);
    } else if (row < 0 || row >= args.x.dim(0)) {
      std::fill_n(to, width, kNaN);
    } else {
      std::copy_n(args.x.as<const float>() + row * args.x.stride(0), width, to);
    }
  }
}

void place_rows(const PlaceRowsArgs& args, Worker) {
  const int64_t live = live_rows(args.live, args.count);
  for (int64_t r = 0; r < args.count; ++r) {
    float* out = args.out + r * args.width;
    const int64_t place = r < live ? args.places[r] : 0;
    if (r < live && place >= 0 && place < args.count * args.ranks) {
      std::copy_n(args.all + place * args.width, args.width, out);
    } else {
      std::fill_n(out, args.width, r < live ? kNaN : 0.0f);
    }
  }
}

constexpr RankKernels kOnHost{.add_parts = add_parts,
                              .copy_padded = copy_padded,
                              .join_columns = join_columns,
                              .pack_kv = pack_kv,
                              .bring_rows = bring_rows,
                              .place_rows = place_rows};

}  // namespace

const RankKernels& host_rank_kernels() { return kOnHost; }

}  // namespace lockstep
