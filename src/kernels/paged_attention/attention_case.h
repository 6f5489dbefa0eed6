// A ragged batch for tests and benches of the cache and of attention: sequences with known keys and values,
// stored through the real ops into a cache of any layout, with poison in every byte that no sequence owns.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <random>
#include <vector>

#include "base/math.h"
#include "device/arena.h"
#include "kernels/common/test_support.h"
#include "kernels/kv_cache/kv_layout.h"
#include "kernels/paged_attention/paged_attention.h"

namespace lockstep {

struct HeadShape {
  int32_t heads = 1;
  int32_t kv_heads = 1;
  int32_t head_dim = 16;
};

// `rows` query rows of a sequence behind `cached` tokens. What a sequence holds depends on its seed alone.
struct SequenceShape {
  int64_t rows = 1;
  int64_t cached = 0;
  uint32_t seed = 1;
  int64_t tokens() const { return rows + cached; }
};

// Contents of one sequence, token by token: [tokens, heads or kv_heads, D], uniform in [-2, 2). A shorter
// sequence of the same seed holds the beginning of a longer one.
struct SequenceValues {
  std::vector<float> q, k, v;

  static SequenceValues make(const HeadShape& shape, const SequenceShape& sequence) {
    const auto draw = [&](uint32_t which, int64_t heads) {
      std::minstd_rand random(sequence.seed * 7919u + which);
      std::vector<float> values(static_cast<size_t>(sequence.tokens() * heads * shape.head_dim));
      for (float& value : values) value = static_cast<float>(random() % 65536u) * 0x1p-14f - 2.0f;
      return values;
    };
    return {.q = draw(1, shape.heads), .k = draw(2, shape.kv_heads), .v = draw(3, shape.kv_heads)};
  }
};

// A batch before it lies anywhere.
struct AttentionBatch {
  HeadShape shape;
  std::vector<SequenceShape> sequences;
  std::vector<SequenceValues> values;

  static AttentionBatch make(const HeadShape& shape, std::vector<SequenceShape> sequences) {
    AttentionBatch batch{.shape = shape, .sequences = std::move(sequences), .values = {}};
    for (const SequenceShape& sequence : batch.sequences) {
      batch.values.push_back(SequenceValues::make(shape, sequence));
    }
    return batch;
  }
};

// How a batch lies in memory; nothing here may change a result.
struct Placement {
  KvLayout layout;
  DType dtype = DType::kF32;
  int32_t page_tokens = 16;
  int64_t pad_rows = 0;
  int64_t pad_sequences = 0;
  uint32_t seed = 1;  // of the order of pages and table rows
};

class AttentionCase {
 public:
  // Borrows the batch.
  AttentionCase(const AttentionBatch& batch, const Placement& placement)
      : shape_(batch.shape), sequences_(batch.sequences), values_(batch.values), placement_(placement) {
    place_pages();
    fill_queries();
  }

  // Stores all tokens, then attends. The result is [rows + pad rows, H, D].
  std::vector<float> run(const KernelTable& table, Stream& stream) {
    std::vector<float> out(q_.size(), testing::kNan);
    const Launcher on{table, stream};
    Status status = store(on);
    if (status.ok()) status = paged_attention(on, args(out, stream.threads()), "test");
    LS_CHECK(status.ok(), status.message());
    return out;
  }

  // The arguments of an attention call that writes `out`; valid while the case and `out` live.
  PagedAttentionArgs args(std::vector<float>& out, int threads) {
    const int64_t rows = rows_total(), bytes = paged_attention_workspace_bytes(
                                           threads, shape_.heads, shape_.kv_heads, shape_.head_dim);
    workspace_.assign(static_cast<size_t>(bytes), 0xFF);
    return {.q = view(q_, {rows, shape_.heads, shape_.head_dim}),
            .cache = cache_,
            .page_table = view(page_table_, {table_height(), table_width_}),
            .table_rows = view(table_rows_, {sequences_padded()}),
            .query_start_loc = view(starts_, {sequences_padded() + 1}),
            .seq_lens = view(seq_lens_, {sequences_padded()}),
            .out = view(out, {rows, shape_.heads, shape_.head_dim}),
            .workspace = view(workspace_, {bytes}),
            .num_rows = &num_rows_,
            .num_seqs = &num_seqs_,
            .scale = scale()};
  }

  // Writes every token of every sequence into the cache.
  Status store(const Launcher& on) {
    for (size_t s = 0; s < sequences_.size(); ++s) {
      SequenceValues values = values_[s];
      // One pad row behind the live ones: its keys are poison and its slot is SKIP.
      std::vector<int64_t> slots = slots_of(s);
      slots.push_back(-1);
      const int64_t tokens = sequences_[s].tokens();
      const auto row = static_cast<size_t>(shape_.kv_heads * shape_.head_dim);
      values.k.resize(values.k.size() + row, testing::kNan);
      values.v.resize(values.v.size() + row, testing::kNan);
      const LiveRows live(tokens);
      LS_TRY(store_kv(on,
                      {.k = view(values.k, {tokens + 1, shape_.kv_heads, shape_.head_dim}),
                       .v = view(values.v, {tokens + 1, shape_.kv_heads, shape_.head_dim}),
                       .slot_mapping = view(slots, {tokens + 1}),
                       .cache = cache_,
                       .num_rows = &live},
                      "test"));
    }
    return {};
  }

  float scale() const { return 1.0f / std::sqrt(static_cast<float>(shape_.head_dim)); }
  int64_t first_row(size_t s) const { return starts_[s]; }
  int64_t live_rows() const { return num_rows_.get(); }
  int64_t rows_total() const { return num_rows_.get() + placement_.pad_rows; }
  int64_t row_elements() const { return int64_t{shape_.heads} * shape_.head_dim; }
  const KvView& cache() const { return cache_; }
  const std::vector<SequenceShape>& sequences() const { return sequences_; }
  const HeadShape& shape() const { return shape_; }
  // Bytes of keys and values that one attention call has to read.
  int64_t cache_bytes() const {
    int64_t tokens = 0;
    for (const SequenceShape& sequence : sequences_) tokens += sequence.tokens();
    return 2 * tokens * shape_.kv_heads * shape_.head_dim * size_of(placement_.dtype);
  }

  // Slot of each token of sequence s.
  std::vector<int64_t> slots_of(size_t s) const {
    std::vector<int64_t> slots;
    const int32_t* pages = page_table_.data() + table_rows_[s] * table_width_;
    for (int64_t i = 0; i < sequences_[s].tokens(); ++i) {
      slots.push_back(int64_t{pages[i / placement_.page_tokens]} * placement_.page_tokens +
                      i % placement_.page_tokens);
    }
    return slots;
  }

 private:
  int64_t sequences_padded() const {
    return static_cast<int64_t>(sequences_.size()) + placement_.pad_sequences;
  }
  int64_t table_height() const { return sequences_padded() + 2; }
  int64_t pages_of(const SequenceShape& sequence) const {
    return ceil_div<int64_t>(sequence.tokens(), placement_.page_tokens);
  }

  // Page 0 and two more stay unowned; every byte of the cache begins as 0xFF, which is NaN in every type.
  void place_pages() {
    int64_t pages = 0;
    for (const SequenceShape& sequence : sequences_) {
      pages += pages_of(sequence);
      table_width_ = std::max(table_width_, pages_of(sequence));
    }
    table_width_ += 1;
    std::vector<int32_t> free(static_cast<size_t>(pages + 2));
    std::iota(free.begin(), free.end(), 1);
    std::mt19937 random(placement_.seed);
    std::shuffle(free.begin(), free.end(), random);

    std::vector<int32_t> rows(static_cast<size_t>(table_height()));
    std::iota(rows.begin(), rows.end(), 0);
    std::shuffle(rows.begin(), rows.end(), random);
    table_rows_.assign(rows.begin(), rows.begin() + sequences_padded());
    // Entries that no sequence owns would be far outside of the cache.
    page_table_.assign(static_cast<size_t>(table_height() * table_width_), 0x3FFFFFFF);
    for (size_t s = 0; s < sequences_.size(); ++s) {
      for (int64_t i = 0; i < pages_of(sequences_[s]); ++i) {
        page_table_[static_cast<size_t>(table_rows_[s] * table_width_ + i)] = free.back();
        free.pop_back();
      }
    }
    KvGeometry geometry{.dtype = placement_.dtype,
                        .num_pages = static_cast<int32_t>(pages + 3),
                        .page_tokens = placement_.page_tokens,
                        .heads = shape_.kv_heads,
                        .head_dim = shape_.head_dim};
    if (placement_.layout.pool == KvPool::kShared) {
      geometry.shared_page_bytes = kv_page_bytes(placement_.layout, geometry) + 192;
    }
    const int64_t bytes = kv_cache_bytes(placement_.layout, geometry);
    memory_.emplace(Arena::create("cache", bytes).value());
    const TensorView memory = memory_->allocate("pages", DType::kU8, {bytes}).value();
    std::memset(memory.data, 0xFF, static_cast<size_t>(bytes));
    cache_ = make_kv_view(memory.data, placement_.layout, geometry);
  }

  // Queries of the sequences' last rows; pad rows are poison, pad sequences empty.
  void fill_queries() {
    starts_.push_back(0);
    for (size_t s = 0; s < sequences_.size(); ++s) {
      const SequenceShape& sequence = sequences_[s];
      const std::vector<float>& q = values_[s].q;
      q_.insert(q_.end(), q.end() - sequence.rows * row_elements(), q.end());
      starts_.push_back(starts_.back() + static_cast<int32_t>(sequence.rows));
      seq_lens_.push_back(static_cast<int32_t>(sequence.tokens()));
    }
    num_rows_ = LiveRows(starts_.back());
    num_seqs_ = LiveSeqs(sequences_.size());
    q_.resize(q_.size() + static_cast<size_t>(placement_.pad_rows * row_elements()), testing::kNan);
    for (int64_t s = 0; s < placement_.pad_sequences; ++s) {
      starts_.push_back(starts_.back() + (s == 0 ? static_cast<int32_t>(placement_.pad_rows) : 0));
      seq_lens_.push_back(s == 0 ? static_cast<int32_t>(placement_.pad_rows) : 0);
    }
  }

  HeadShape shape_;
  const std::vector<SequenceShape>& sequences_;
  const std::vector<SequenceValues>& values_;
  Placement placement_;
  int64_t table_width_ = 0;
  std::optional<Arena> memory_;
  std::vector<unsigned char> workspace_;
  std::vector<float> q_;
  std::vector<int32_t> page_table_, table_rows_, starts_, seq_lens_;
  KvView cache_;
  LiveRows num_rows_;
  LiveSeqs num_seqs_;
};

}  // namespace lockstep
