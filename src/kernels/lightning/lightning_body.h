// lightning over a vector type: single rows through the state once, runs of rows in chunks by tiles of it.
// Both compute an element of the state as fma(k, v, decay S), and an output as one chain of fma(q, S, sum)
// over the keys in ascending order: the same bits.
#pragma once

#include "kernels/common/live_rows.h"
#include "kernels/common/simd_rows.h"
#include "kernels/lightning/lightning_kernels.h"

namespace lockstep {

// One head of a step, in one thread's scratch.
template <typename V>
class LightningHead {
 public:
  LightningHead(const LightningArgs& args, int64_t head, char* scratch)
      : args_(args),
        head_(head),
        key_head_(head / (args.q.dim(1) / args.k.dim(1))),
        keys_(args.q.dim(2)),
        values_(args.v.dim(2)),
        decay_(static_cast<const float*>(args.decay.data)[head]) {
    const LightningScratch at = lightning_scratch(keys_, values_);
    working_ = reinterpret_cast<float*>(scratch + at.state);
    key_ = reinterpret_cast<float*>(scratch + at.key);
    query_ = reinterpret_cast<float*>(scratch + at.query);
    value_ = reinterpret_cast<float*>(scratch + at.value);
    out_ = reinterpret_cast<float*>(scratch + at.out);
  }

  // Rows [begin, end) from the state at `from` (null: zeros); the state behind them goes to `to` (null:
  // nowhere), which may be `from`.
  void run(int64_t begin, int64_t end, const float* from, float* to) {
    if (end - begin == 1) {
      row(begin, from, to);
      return;
    }
    for (int64_t t = begin; t < end; t += kLightningChunk) {
      const int64_t count = end - t < kLightningChunk ? end - t : kLightningChunk;
      float* behind = to == nullptr && t + count < end ? working_ : to;
      chunk(t, count, from, behind);
      from = behind;
    }
  }

 private:
  using Reg = typename V::Reg;
  // A tile of the state: kKeys x kColumns elements in half of the registers.
  static constexpr int kKeys = V::kRegisters / 4;
  static constexpr int kColumns = 2 * V::kWidth;
  // Columns of a single row's pass: whole rows of a state of 128 columns in AVX-512.
  static constexpr int kRowVectors = V::kRegisters / 4;

  template <typename T>
  T* at_row(const TensorView& tensor, int64_t t, int64_t head) {
    return static_cast<T*>(tensor.data) + t * tensor.stride(0) + head * tensor.stride(1);
  }

  void row(int64_t t, const float* from, float* to) {
    int64_t c = 0;
    for (; c + kRowVectors * V::kWidth <= values_; c += kRowVectors * V::kWidth)
      row_columns<kRowVectors>(t, from, to, c, V::kWidth);
    for (; c < values_; c += V::kWidth)
      row_columns<1>(t, from, to, c, values_ - c < V::kWidth ? values_ - c : V::kWidth);
  }

  // kVectors vectors of columns from `column` on; the last has `lanes` lanes.
  template <int kVectors>
  [[gnu::always_inline]] void row_columns(int64_t t, const float* from, float* to, int64_t column,
                                          int64_t lanes) {
    const float* key = at_row<const float>(args_.k, t, key_head_);
    const float* query = at_row<const float>(args_.q, t, head_);
    const float* value = at_row<const float>(args_.v, t, key_head_) + column;
    const Reg decay = V::set1(decay_), scale = V::set1(args_.scale);
    Reg v[kVectors], sum[kVectors];
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) {
      v[j] = load_lanes<V>(value + j * V::kWidth, lanes);
      sum[j] = V::zero();
    }
    for (int64_t d = 0; d < keys_; ++d) {
      const Reg k = V::set1(key[d]);
      const Reg q = V::mul(V::set1(query[d]), scale);
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) {
        const int64_t at = d * values_ + column + j * V::kWidth;
        const Reg old = from != nullptr ? V::mul(decay, load_lanes<V>(from + at, lanes)) : V::zero();
        const Reg s = V::fma(k, v[j], old);
        if (to != nullptr) store_lanes<V>(to + at, s, lanes);
        sum[j] = V::fma(q, s, sum[j]);
      }
    }
    float* out = at_row<float>(args_.out, t, head_) + column;
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) store_lanes<V>(out + j * V::kWidth, sum[j], lanes);
  }

  // Up to kLightningChunk rows. A panel of values and outputs stays in the first cache while the tiles of its
  // columns pass by.
  void chunk(int64_t begin, int64_t count, const float* from, float* to) {
    pack(begin, count);
    for (int64_t c = 0; c < values_; c += kColumns) {
      int64_t d = 0;
      for (; d + kKeys <= keys_; d += kKeys) tile<kKeys>(count, d, 0, c, from, to);
      for (int64_t r = 0; d + r < keys_; ++r) tile<1>(count, d, r, c, from, to);
    }
    unpack(begin, count);
  }

  // Rows of q, k and v of a fused projection lie a power of two apart, which few sets of a cache hold; they
  // are copied once, in the order in which the tiles read them.
  void pack(int64_t begin, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const float* key = at_row<const float>(args_.k, begin + i, key_head_);
      const float* query = at_row<const float>(args_.q, begin + i, head_);
      const float* value = at_row<const float>(args_.v, begin + i, key_head_);
      for (int64_t d = 0; d < keys_; d += kKeys) {
        const int64_t at = d * kLightningChunk + i * kKeys, n = keys_ - d < kKeys ? keys_ - d : kKeys;
        for (int64_t r = 0; r < n; ++r) {
          key_[at + r] = key[d + r];
          query_[at + r] = query[d + r] * args_.scale;
        }
      }
      for_lanes<V>(values_, [&](int64_t e, int64_t n) {
        V::store(value_ + e / kColumns * kColumns * kLightningChunk + i * kColumns + e % kColumns,
                 load_lanes<V>(value + e, n));
      });
    }
  }

  void unpack(int64_t begin, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      float* out = at_row<float>(args_.out, begin + i, head_);
      for_lanes<V>(values_, [&](int64_t e, int64_t n) {
        const float* sum = out_ + e / kColumns * kColumns * kLightningChunk + i * kColumns + e % kColumns;
        store_lanes<V>(out + e, V::load(sum), n);
      });
    }
  }

  // Lanes of half `h` of a panel that begins at `column`.
  [[gnu::always_inline]] int64_t lanes(int64_t column, int h) const {
    const int64_t left = values_ - column - h * V::kWidth;
    return left < 0 ? 0 : left < V::kWidth ? left : V::kWidth;
  }

  // All rows of the chunk through kRows keys, from number `r` of the packed tile at `d` on.
  template <int kRows>
  [[gnu::always_inline]] void tile(int64_t count, int64_t d, int64_t r, int64_t column, const float* from,
                                   float* to) {
    const float* key = key_ + d * kLightningChunk + r;
    const float* query = query_ + d * kLightningChunk + r;
    const float* value = value_ + column * kLightningChunk;
    float* out = out_ + column * kLightningChunk;
    const Reg decay = V::set1(decay_);
    const bool first = d + r == 0;
    Reg s[kRows][2];
    const int64_t corner = (d + r) * values_ + column;
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        const int64_t n = from != nullptr ? lanes(column, h) : 0;
        s[i][h] = n > 0 ? load_lanes<V>(from + corner + i * values_ + h * V::kWidth, n) : V::zero();
      }
    }
    for (int64_t t = 0; t < count; ++t) {
      const Reg v[2] = {V::load(value + t * kColumns), V::load(value + t * kColumns + V::kWidth)};
      Reg sum[2] = {V::zero(), V::zero()};
      if (!first) {
        sum[0] = V::load(out + t * kColumns);
        sum[1] = V::load(out + t * kColumns + V::kWidth);
      }
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) {
        const Reg k = V::set1(key[t * kKeys + i]), q = V::set1(query[t * kKeys + i]);
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) {
          s[i][h] = V::fma(k, v[h], V::mul(decay, s[i][h]));
          sum[h] = V::fma(q, s[i][h], sum[h]);
        }
      }
      V::store(out + t * kColumns, sum[0]);
      V::store(out + t * kColumns + V::kWidth, sum[1]);
    }
    if (to == nullptr) return;
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        const int64_t n = lanes(column, h);
        if (n > 0) store_lanes<V>(to + corner + i * values_ + h * V::kWidth, s[i][h], n);
      }
    }
  }

  const LightningArgs& args_;
  int64_t head_;
  int64_t key_head_;
  int64_t keys_;    // D
  int64_t values_;  // E
  float decay_;
  float* working_;
  float* key_;
  float* query_;
  float* value_;
  float* out_;
};

template <typename V>
void lightning_body(const LightningArgs& args, Worker worker) {
  const int64_t heads = args.q.dim(1);
  const int64_t rows = args.out.dim(0);
  const int64_t live = live_rows(args.num_rows, rows);
  char* scratch = static_cast<char*>(args.workspace.data) +
                  worker.index * lightning_scratch(args.q.dim(2), args.v.dim(2)).bytes;
  const int64_t sequences = live_seqs(args.num_seqs, args.state_read_slot.dim(0));
  for_own_heads(args.query_start_loc, sequences, heads, worker.share(live * heads),
                [&](int64_t sequence, int64_t head) {
                  LightningHead<V> of(args, head, scratch);
                  for_lightning_runs(args, sequence, head,
                                     [&](int64_t begin, int64_t end, const float* from, float* to) {
                                       of.run(begin, end, from, to);
                                     });
                });
  const Worker::Range pads = worker.share((rows - live) * heads);
  for (int64_t pad = pads.begin; pad < pads.end; ++pad) {
    zero_row<V>(static_cast<float*>(args.out.data) + (live + pad / heads) * args.out.stride(0) +
                    pad % heads * args.out.stride(1),
                args.out.dim(2));
  }
}

}  // namespace lockstep
