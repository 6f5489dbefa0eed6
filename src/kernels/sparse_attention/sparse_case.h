// A ragged batch for tests and benches of block-sparse attention: an AttentionCase and, beside its cache, a
// cache of compressed keys in pages and table rows of their own, with NaN in every byte that nobody writes.
#pragma once

#include "kernels/block_selection/block_selection.h"
#include "kernels/common/elements.h"
#include "kernels/compressed_keys/compressed_keys.h"
#include "kernels/paged_attention/attention_case.h"
#include "kernels/sparse_attention/sparse_attention.h"

namespace lockstep {

// Which blocks a row may choose.
struct SelectionRule {
  int32_t init_blocks = 1;
  int32_t window_blocks = 1;
  int32_t most_blocks = 4;
  int32_t dense_len = 0;
};

class SparseCase {
 public:
  // Borrows the batch. `prompts`: the sequences' prompt lengths; without them, all their tokens.
  SparseCase(const AttentionBatch& batch, const Placement& placement, const SelectionRule& rule,
             std::vector<int32_t> prompts = {})
      : batch_(batch), dense_(batch, placement), placement_(placement), rule_(rule) {
    const int64_t rows = dense_.rows_total(), sequences = dense_args().seq_lens.dim(0);
    place_pages(sequences);
    prompts_ = std::move(prompts);
    for (size_t s = prompts_.size(); s < static_cast<size_t>(sequences); ++s)
      prompts_.push_back(s < batch.sequences.size() ? static_cast<int32_t>(batch.sequences[s].tokens()) : 0);
    const auto lists = static_cast<size_t>(rows * batch.shape.kv_heads);
    counts_.assign(lists, -1);
    starts_.assign(lists + 1, -1);
    blocks_.assign(lists * static_cast<size_t>(rule.most_blocks), -1);
  }

  // Compresses the windows that tokens [from, to) of every sequence complete; `to` past the end is its end.
  Status compress(const Launcher& on, int64_t from = 0, int64_t to = INT64_MAX) {
    spans_.assign(2 * compressed_rows_.size(), 0);
    for (size_t s = 0; s < batch_.sequences.size(); ++s) {
      const int64_t end = std::min(to, batch_.sequences[s].tokens());
      spans_[2 * s] = static_cast<int32_t>(std::min(from, end));
      spans_[2 * s + 1] = static_cast<int32_t>(end - std::min(from, end));
    }
    const PagedAttentionArgs dense = dense_args();
    return compress_keys(on,
                         {.cache = dense.cache,
                          .page_table = dense.page_table,
                          .table_rows = dense.table_rows,
                          .compressed_table = table(),
                          .compressed_rows = view(compressed_rows_, {ssize(compressed_rows_)}),
                          .spans = view(spans_, {ssize(compressed_rows_), 2}),
                          .k1 = k1_,
                          .k2 = k2_,
                          .num_seqs = dense.num_seqs},
                         "test");
  }

  Status select(const Launcher& on) {
    const SelectBlocksArgs args = select_args(on.stream.threads());
    return select_blocks(on, args, "test");
  }
  SelectBlocksArgs select_args(int threads) {
    const PagedAttentionArgs dense = dense_args();
    const int64_t bytes =
        select_blocks_workspace_bytes(threads, batch_.shape.head_dim, table_width_ * page_tokens_);
    select_space_.assign(static_cast<size_t>(bytes), 0xFF);
    return {.q = dense.q,
            .k1 = k1_,
            .k2 = k2_,
            .page_table = table(),
            .table_rows = view(compressed_rows_, {ssize(compressed_rows_)}),
            .query_start_loc = dense.query_start_loc,
            .seq_lens = dense.seq_lens,
            .prompt_lens = view(prompts_, {ssize(prompts_)}),
            .counts = view(counts_, {ssize(counts_)}),
            .starts = view(starts_, {ssize(starts_)}),
            .blocks = view(blocks_, {ssize(blocks_)}),
            .workspace = view(select_space_, {bytes}),
            .num_rows = dense.num_rows,
            .num_seqs = dense.num_seqs,
            .init_blocks = rule_.init_blocks,
            .window_blocks = rule_.window_blocks,
            .most_blocks = rule_.most_blocks,
            .dense_len = rule_.dense_len,
            .scale = dense.scale};
  }

  // The arguments of an attention call over the lists; valid while the case and `out` live.
  SparseAttentionArgs attend_args(std::vector<float>& out, int threads) {
    out.assign(static_cast<size_t>(dense_.rows_total() * dense_.row_elements()), testing::kNan);
    const PagedAttentionArgs dense = dense_.args(out, threads);
    return {.q = dense.q,
            .cache = dense.cache,
            .page_table = dense.page_table,
            .table_rows = dense.table_rows,
            .query_start_loc = dense.query_start_loc,
            .seq_lens = dense.seq_lens,
            .starts = view(starts_, {ssize(starts_)}),
            .blocks = view(blocks_, {ssize(blocks_)}),
            .out = dense.out,
            .workspace = dense.workspace,
            .num_rows = dense.num_rows,
            .num_seqs = dense.num_seqs,
            .scale = dense.scale};
  }

  // Stores all tokens, compresses them, selects and attends. The result is [rows + pad rows, H, D].
  std::vector<float> run(const KernelTable& table, Stream& stream) {
    const Launcher on{table, stream};
    std::vector<float> out;
    Status status = dense_.store(on);
    if (status.ok()) status = compress(on);
    if (status.ok()) status = select(on);
    if (status.ok()) status = sparse_attention(on, attend_args(out, stream.threads()), "test");
    LS_CHECK(status.ok(), status.message());
    return out;
  }

  AttentionCase& dense() { return dense_; }
  // The list of a row and kv head, as it was selected.
  std::vector<int32_t> list(int64_t row, int64_t kv_head) const {
    const auto at = static_cast<size_t>(row * batch_.shape.kv_heads + kv_head);
    return {blocks_.begin() + starts_[at], blocks_.begin() + starts_[at + 1]};
  }
  // Replaces all lists: one per row and kv head, live ones in front.
  void set_lists(const std::vector<std::vector<int32_t>>& lists) {
    size_t at = 0;
    for (size_t i = 0; i < counts_.size(); ++i) {
      starts_[i] = static_cast<int32_t>(at);
      if (i < lists.size())
        at = static_cast<size_t>(
            std::copy(lists[i].begin(), lists[i].end(), blocks_.begin() + static_cast<int64_t>(at)) -
            blocks_.begin());
    }
    starts_.back() = static_cast<int32_t>(at);
  }
  std::vector<int32_t>& counts() { return counts_; }
  std::vector<int32_t>& starts() { return starts_; }
  std::vector<int32_t>& blocks() { return blocks_; }
  // All bytes of the compressed keys.
  std::vector<unsigned char>& bytes() { return memory_; }
  // Element d of window j of a sequence and head.
  float window(const TensorView& keys, size_t s, int64_t head, int64_t j, int64_t d) const {
    const int64_t row = j + 1;
    const int64_t page = table_[static_cast<size_t>(compressed_rows_[s] * table_width_ + row / keys.dim(2))];
    return load_element(
        keys.data, keys.dtype,
        page * keys.stride(0) + head * keys.stride(1) + row % keys.dim(2) * keys.stride(2) + d);
  }
  const TensorView& k1() const { return k1_; }
  const TensorView& k2() const { return k2_; }

 private:
  template <typename T>
  static int64_t ssize(const std::vector<T>& values) {
    return static_cast<int64_t>(values.size());
  }
  // What the batch is, as attention reads it; the output is of no use.
  PagedAttentionArgs dense_args() {
    unused_.resize(static_cast<size_t>(dense_.rows_total() * dense_.row_elements()));
    return dense_.args(unused_, 1);
  }
  TensorView table() { return view(table_, {ssize(table_) / table_width_, table_width_}); }

  // Pages in an order of their own, behind one another: the rows of K1 of every head, then those of K2.
  void place_pages(int64_t sequences) {
    page_tokens_ = std::max<int64_t>(64, placement_.page_tokens / 64 * 64);
    int64_t pages = 1;
    for (const SequenceShape& each : batch_.sequences) {
      const int64_t own = ceil_div(each.tokens(), page_tokens_);
      pages += own;
      table_width_ = std::max(table_width_, own);
    }
    std::vector<int32_t> free(static_cast<size_t>(pages - 1));
    std::iota(free.begin(), free.end(), 1);
    std::mt19937 random(placement_.seed + 77);
    std::shuffle(free.begin(), free.end(), random);
    compressed_rows_.resize(static_cast<size_t>(sequences));
    std::iota(compressed_rows_.begin(), compressed_rows_.end(), 1);
    std::shuffle(compressed_rows_.begin(), compressed_rows_.end(), random);
    table_.assign(static_cast<size_t>((sequences + 1) * table_width_), 0x3FFFFFFF);
    for (size_t s = 0; s < batch_.sequences.size(); ++s) {
      for (int64_t i = 0; i < ceil_div(batch_.sequences[s].tokens(), page_tokens_); ++i) {
        table_[static_cast<size_t>(compressed_rows_[s] * table_width_ + i)] = free.back();
        free.pop_back();
      }
    }
    const int64_t heads = batch_.shape.kv_heads, dim = batch_.shape.head_dim,
                  size = size_of(placement_.dtype);
    const int64_t fine = page_tokens_ / 16, coarse = page_tokens_ / 64, page = (fine + coarse) * heads * dim;
    memory_.assign(static_cast<size_t>(pages * page * size), 0xFF);
    k1_ = dense_view(memory_.data(), placement_.dtype, {pages, heads, fine, dim});
    k2_ =
        dense_view(memory_.data() + fine * heads * dim * size, placement_.dtype, {pages, heads, coarse, dim});
    k1_.strides[0] = k2_.strides[0] = page;
  }

  const AttentionBatch& batch_;
  AttentionCase dense_;
  Placement placement_;
  SelectionRule rule_;
  int64_t page_tokens_ = 0, table_width_ = 1;
  std::vector<int32_t> table_, compressed_rows_, spans_, prompts_, counts_, starts_, blocks_;
  std::vector<unsigned char> memory_, select_space_;
  std::vector<float> unused_;
  TensorView k1_, k2_;
};

}  // namespace lockstep
