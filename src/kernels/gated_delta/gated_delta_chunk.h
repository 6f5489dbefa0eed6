// The chunked form of gated_delta for one value head of one sequence, over a vector type. With K, Q, V the
// rows of a chunk, S the state before it, G the running sums of log decays:
//   D[i, j] = e^(G[i] - G[j]) for i >= j, else 0
//   (I + A) V' = diag(beta) (V - diag(e^G) K S),   A = strictly lower(diag(beta) K Kᵀ ⊙ D)
//   out = diag(e^G) Q S + (Q Kᵀ ⊙ D) V'
//   S <- e^G[last] S + (diag(e^(G[last] - G)) K)ᵀ V'
// The columns of V', out and S do not meet, so each panel of them goes through a whole chunk by itself.
#pragma once

#include "kernels/common/simd_math.h"
#include "kernels/gated_delta/gated_delta_tile.h"

namespace lockstep {

template <typename V>
class DeltaChunks {
 public:
  DeltaChunks(const GatedDeltaArgs& args, int64_t value_head, char* scratch)
      : args_(args),
        value_head_(value_head),
        key_head_(value_head / (args.v.dim(1) / args.q.dim(1))),
        keys_(args.q.dim(2)),
        values_(args.v.dim(2)),
        key_stride_((keys_ + 15) / 16 * 16) {
    const GatedDeltaScratch at = gated_delta_scratch(keys_, values_);
    state_ = reinterpret_cast<float*>(scratch + at.state);
    key_ = reinterpret_cast<float*>(scratch + at.key);
    query_ = reinterpret_cast<float*>(scratch + at.query);
    key_t_ = reinterpret_cast<float*>(scratch + at.key_t);
    value_ = reinterpret_cast<float*>(scratch + at.value);
    lower_ = reinterpret_cast<float*>(scratch + at.lower);
    scores_ = reinterpret_cast<float*>(scratch + at.scores);
  }

  // Rows [begin, end) from the state at `from` (null: zeros); the state after them goes to `to` (null:
  // nowhere), which may be `from`.
  void run(int64_t begin, int64_t end, const float* from, float* to) {
    load_state(from);
    for (int64_t t = begin; t < end; t += kDeltaChunk) {
      begin_ = t;
      count_ = end - t < kDeltaChunk ? end - t : kDeltaChunk;
      padded_ = (count_ + 15) / 16 * 16;
      delta_gates(args_, value_head_, begin_, count_, gates_);
      load_rows();
      score();
      for (int64_t c = 0; c < values_; c += Tile::kColumns) {
        solve(c);
        update(c);
      }
    }
    if (to != nullptr) store_state(to);
  }

 private:
  using Reg = typename V::Reg;
  using Tile = DeltaTile<V>;

  float* panel(int64_t column) { return state_ + column * key_stride_; }
  template <typename T>
  T* row_of(const TensorView& tensor, int64_t row, int64_t head) {
    return static_cast<T*>(tensor.data) + (begin_ + row) * tensor.stride(0) + head * tensor.stride(1);
  }

  void load_state(const float* from) {
    for (int64_t c = 0; c < values_; c += Tile::kColumns) {
      for (int64_t d = 0; d < key_stride_; ++d) {
        for (int h = 0; h < 2; ++h) {
          const int64_t n = from != nullptr && d < keys_ ? Tile::lanes(c, h, values_) : 0;
          const Reg part = n > 0 ? load_lanes<V>(from + d * values_ + c + h * V::kWidth, n) : V::zero();
          V::store(panel(c) + d * Tile::kColumns + h * V::kWidth, part);
        }
      }
    }
  }

  void store_state(float* to) {
    for (int64_t c = 0; c < values_; c += Tile::kColumns) {
      for (int64_t d = 0; d < keys_; ++d) {
        for (int h = 0; h < 2; ++h) {
          const int64_t n = Tile::lanes(c, h, values_);
          if (n == 0) continue;
          const Reg part = V::load(panel(c) + d * Tile::kColumns + h * V::kWidth);
          store_lanes<V>(to + d * values_ + c + h * V::kWidth, part, n);
        }
      }
    }
  }

  // Keys and queries, normalised; rows past the chunk's last and columns past Dk are zero.
  void load_rows() {
    const Reg root = V::div(V::set1(1.0f), V::sqrt(V::set1(static_cast<float>(keys_))));
    const float scale = V::reduce_max(root);
    for (int64_t i = 0; i < padded_; ++i) {
      float* key = key_ + i * key_stride_;
      float* query = query_ + i * key_stride_;
      for (int64_t d = i < count_ ? keys_ / V::kWidth * V::kWidth : 0; d < key_stride_; d += V::kWidth) {
        V::store(key + d, V::zero());
        V::store(query + d, V::zero());
      }
      if (i >= count_) continue;
      l2_normalise<V>(row_of<const float>(args_.k, i, key_head_), keys_, 1.0f, key);
      l2_normalise<V>(row_of<const float>(args_.q, i, key_head_), keys_, scale, query);
    }
    for (int64_t i = 0; i < padded_; i += V::kWidth) {
      for (int64_t d = 0; d < key_stride_; d += V::kWidth) {
        Reg block[V::kWidth];
#pragma GCC unroll 16
        for (int r = 0; r < V::kWidth; ++r) block[r] = V::load(key_ + (i + r) * key_stride_ + d);
        V::transpose(block);
#pragma GCC unroll 16
        for (int r = 0; r < V::kWidth; ++r) V::store(key_t_ + (d + r) * kDeltaChunk + i, block[r]);
      }
    }
  }

  // D[i, j..j + kWidth), with `inside` of its lanes at or below the diagonal. The mask comes before the
  // exponential, which overflows above the diagonal.
  [[gnu::always_inline]] Reg decays(int64_t i, int64_t j, typename V::Mask inside) {
    const Reg high = V::sub(V::set1(gates_.sum_high[i]), V::load(gates_.sum_high + j));
    const Reg low = V::sub(V::set1(gates_.sum_low[i]), V::load(gates_.sum_low + j));
    return simd_exp<V>(V::select(inside, V::add(high, low), V::zero()));
  }

  // lower_ = -A and scores_ = Q Kᵀ ⊙ D, both zero above the diagonal of each tile.
  void score() {
    for (int64_t i = 0; i < padded_; i += Tile::kRows) {
      for (int64_t j = 0; j < i + Tile::kRows; j += Tile::kColumns) {
        Tile by_key, by_query;
        by_key.clear();
        by_key.multiply(key_ + i * key_stride_, key_stride_, key_t_ + j, kDeltaChunk, keys_);
        store_scores(by_key, i, j, lower_, true);
        by_query.clear();
        by_query.multiply(query_ + i * key_stride_, key_stride_, key_t_ + j, kDeltaChunk, keys_);
        store_scores(by_query, i, j, scores_, false);
      }
    }
  }

  [[gnu::always_inline]] void store_scores(const Tile& tile, int64_t begin, int64_t column, float* to,
                                           bool strictly_lower) {
#pragma GCC unroll 8
    for (int r = 0; r < Tile::kRows; ++r) {
      for (int h = 0; h < 2; ++h) {
        const int64_t i = begin + r;
        const int64_t j = column + h * V::kWidth;
        const auto inside = V::first(clamp(i < count_ ? i + 1 - j : 0));
        const auto kept = strictly_lower ? V::first(clamp(i < count_ ? i - j : 0)) : inside;
        const Reg factor = V::set1(strictly_lower ? -gates_.beta[i < count_ ? i : 0] : 1.0f);
        const Reg score = V::mul(V::mul(tile.sum[r][h], decays(i, j, inside)), factor);
        V::store(to + i * kDeltaChunk + j, V::select(kept, score, V::zero()));
      }
    }
  }
  [[gnu::always_inline]] static int64_t clamp(int64_t lanes) {
    return lanes < 0 ? 0 : lanes < V::kWidth ? lanes : V::kWidth;
  }

  // V' and out of one panel of columns: forward substitution, tile by tile.
  void solve(int64_t column) {
    const float* state = panel(column);
    for (int64_t i = 0; i < padded_; i += Tile::kRows) {
      Tile tile;
      tile.clear();
      tile.multiply(key_ + i * key_stride_, key_stride_, state, Tile::kColumns, keys_);
      subtract_memory(tile, i, column);
      tile.multiply(lower_ + i * kDeltaChunk, kDeltaChunk, value_, Tile::kColumns, i);
      tile.substitute(lower_ + i * kDeltaChunk + i, kDeltaChunk);
      store_values(tile, i);
      Tile out;
      out.clear();
      out.multiply(query_ + i * key_stride_, key_stride_, state, Tile::kColumns, keys_);
      scale_rows(out, i);
      out.multiply(scores_ + i * kDeltaChunk, kDeltaChunk, value_, Tile::kColumns, i);
      out.add_lower(scores_ + i * kDeltaChunk + i, kDeltaChunk, value_ + i * Tile::kColumns);
      store_out(out, i, column);
    }
  }

  // tile = beta (v - e^G tile): from what the decayed memory predicts to what it lacks.
  [[gnu::always_inline]] void subtract_memory(Tile& tile, int64_t begin, int64_t column) {
#pragma GCC unroll 8
    for (int r = 0; r < Tile::kRows; ++r) {
      const int64_t i = begin + r;
      const bool live = i < count_;
      const Reg decay = V::set1(live ? gates_.decay_in[i] : 0.0f);
      const Reg beta = V::set1(live ? gates_.beta[i] : 0.0f);
      const float* v = row_of<const float>(args_.v, live ? i : 0, value_head_) + column;
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        const int64_t n = live ? Tile::lanes(column, h, values_) : 0;
        const Reg value = n > 0 ? load_lanes<V>(v + h * V::kWidth, n) : V::zero();
        tile.sum[r][h] = V::mul(beta, V::fnma(decay, tile.sum[r][h], value));
      }
    }
  }

  [[gnu::always_inline]] void scale_rows(Tile& tile, int64_t begin) {
#pragma GCC unroll 8
    for (int r = 0; r < Tile::kRows; ++r) {
      const Reg decay = V::set1(begin + r < count_ ? gates_.decay_in[begin + r] : 0.0f);
      tile.sum[r][0] = V::mul(decay, tile.sum[r][0]);
      tile.sum[r][1] = V::mul(decay, tile.sum[r][1]);
    }
  }

  [[gnu::always_inline]] void store_values(const Tile& tile, int64_t begin) {
#pragma GCC unroll 8
    for (int r = 0; r < Tile::kRows; ++r) {
      V::store(value_ + (begin + r) * Tile::kColumns, tile.sum[r][0]);
      V::store(value_ + (begin + r) * Tile::kColumns + V::kWidth, tile.sum[r][1]);
    }
  }

  [[gnu::always_inline]] void store_out(const Tile& tile, int64_t begin, int64_t column) {
#pragma GCC unroll 8
    for (int r = 0; r < Tile::kRows; ++r) {
      if (begin + r >= count_) return;
      float* out = row_of<float>(args_.out, begin + r, value_head_) + column;
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        const int64_t n = Tile::lanes(column, h, values_);
        if (n > 0) store_lanes<V>(out + h * V::kWidth, tile.sum[r][h], n);
      }
    }
  }

  // The panel of the state after the chunk. V' is scaled in place: nobody reads it after this.
  void update(int64_t column) {
    for (int64_t i = 0; i < count_; ++i) {
      for (int h = 0; h < 2; ++h) {
        float* value = value_ + i * Tile::kColumns + h * V::kWidth;
        V::store(value, V::mul(V::set1(gates_.decay_out[i]), V::load(value)));
      }
    }
    const Reg decay = V::set1(gates_.decay_all);
    float* state = panel(column);
    for (int64_t d = 0; d < keys_; d += Tile::kRows) {
      Tile tile;
#pragma GCC unroll 8
      for (int r = 0; r < Tile::kRows; ++r) {
        tile.sum[r][0] = V::mul(decay, V::load(state + (d + r) * Tile::kColumns));
        tile.sum[r][1] = V::mul(decay, V::load(state + (d + r) * Tile::kColumns + V::kWidth));
      }
      tile.multiply(key_t_ + d * kDeltaChunk, kDeltaChunk, value_, Tile::kColumns, count_);
#pragma GCC unroll 8
      for (int r = 0; r < Tile::kRows; ++r) {
        V::store(state + (d + r) * Tile::kColumns, tile.sum[r][0]);
        V::store(state + (d + r) * Tile::kColumns + V::kWidth, tile.sum[r][1]);
      }
    }
  }

  const GatedDeltaArgs& args_;
  int64_t value_head_;
  int64_t key_head_;
  int64_t keys_;        // Dk
  int64_t values_;      // Dv
  int64_t key_stride_;  // Dk'
  float* state_;        // [Dv' / kColumns][Dk', kColumns]
  float* key_;
  float* query_;
  float* key_t_;
  float* value_;
  float* lower_;
  float* scores_;
  int64_t begin_ = 0;   // first row of the chunk
  int64_t count_ = 0;   // its rows
  int64_t padded_ = 0;  // up to whole tiles and vectors
  DeltaGates gates_{};
};

}  // namespace lockstep
