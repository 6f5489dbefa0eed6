#include "weights/dequantise.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/math.h"

namespace lockstep {
namespace {

static_assert(std::endian::native == std::endian::little, "words and spread codes are read as bytes");

constexpr int64_t kPerWord = 8;  // codes of 4 bits in an i32
constexpr std::array<int64_t, kPerWord> kAwqOrder = {0, 2, 4, 6, 1, 3, 5, 7};

// A rectangle of a tensor's elements whose rows are `stride` elements apart.
struct Rectangle {
  int64_t base = 0;  // element before its first row
  int64_t stride = 0;
  int64_t row = 0;
  int64_t rows = 0;
  int64_t column = 0;
  int64_t columns = 0;
};

// Reads what a block is made of.
class BlockReader {
 public:
  BlockReader(const Checkpoint& checkpoint, std::atomic<int64_t>& bytes_read, QuantisedBlock& block)
      : checkpoint_(checkpoint),
        bytes_read_(bytes_read),
        block_(block),
        matrix_(block.matrix),
        at_(block.at) {}

  Status read() { return matrix_.as == StoredAs::kFp8 ? read_fp8() : read_int4(); }

 private:
  Status read_bytes(const StoredTensor& tensor, int64_t offset, int64_t bytes, void* destination) {
    bytes_read_.fetch_add(bytes, std::memory_order_relaxed);
    return checkpoint_.read(tensor, offset, bytes, destination);
  }

  Status read_rectangle(const StoredTensor& tensor, const Rectangle& part, void* destination) {
    const int64_t element = size_of(tensor.dtype);
    const int64_t first = part.base + part.row * part.stride + part.column;
    if (part.columns == part.stride)
      return read_bytes(tensor, first * element, part.rows * part.columns * element, destination);
    auto* out = static_cast<char*>(destination);
    for (int64_t i = 0; i < part.rows; ++i, out += part.columns * element)
      LS_TRY(read_bytes(tensor, (first + i * part.stride) * element, part.columns * element, out));
    return {};
  }

  Status read_scales(const Rectangle& part) {
    const StoredTensor& tensor = *matrix_.scales;
    const auto count = static_cast<size_t>(part.rows * part.columns);
    block_.staging.resize(count * static_cast<size_t>(size_of(tensor.dtype)));
    block_.scales.resize(count);
    LS_TRY(read_rectangle(tensor, part, block_.staging.data()));
    with_float_type(tensor.dtype, [&]<typename T>() {
      const auto* stored = reinterpret_cast<const T*>(block_.staging.data());
      for (size_t i = 0; i < count; ++i) block_.scales[i] = static_cast<float>(stored[i]);
    });
    for (size_t i = 0; i < count; ++i) {
      if (std::isfinite(block_.scales[i])) continue;
      const auto entry = static_cast<int64_t>(i);
      return error(Code::kInvalidArgument, "weights: ", tensor.name, "[", part.row + entry / part.columns,
                   ", ", part.column + entry % part.columns, "] is ", block_.scales[i],
                   "; expected a finite scale; fetch the checkpoint again");
    }
    return {};
  }

  Status read_fp8() {
    const Quantisation& by = matrix_.by;
    block_.codes.resize(static_cast<size_t>(at_.rows * at_.columns));
    LS_TRY(read_rectangle(*matrix_.values,
                          {.base = at_.expert * matrix_.rows * matrix_.k,
                           .stride = matrix_.k,
                           .row = at_.row,
                           .rows = at_.rows,
                           .column = at_.column,
                           .columns = at_.columns},
                          block_.codes.data()));
    const int64_t stride = ceil_div(matrix_.k, by.block_columns);
    const int64_t row = at_.row / by.block_rows, column = at_.column / by.block_columns;
    return read_scales({.base = at_.expert * ceil_div(matrix_.rows, by.block_rows) * stride,
                        .stride = stride,
                        .row = row,
                        .rows = (at_.row + at_.rows - 1) / by.block_rows + 1 - row,
                        .column = column,
                        .columns = (at_.column + at_.columns - 1) / by.block_columns + 1 - column});
  }

  Status read_int4() {
    const bool awq = matrix_.as == StoredAs::kAwq;
    const int64_t word_rows = awq ? matrix_.k : matrix_.k / kPerWord;
    const int64_t stride = awq ? matrix_.rows / kPerWord : matrix_.rows;
    const int64_t row_word = at_.row / kPerWord, column_word = at_.column / kPerWord;
    Rectangle words{.base = at_.expert * word_rows * stride, .stride = stride};
    if (awq) {
      words.row = at_.column;
      words.rows = at_.columns;
      words.column = row_word;
      words.columns = (at_.row + at_.rows - 1) / kPerWord + 1 - row_word;
    } else {
      words.row = column_word;
      words.rows = (at_.column + at_.columns - 1) / kPerWord + 1 - column_word;
      words.column = at_.row;
      words.columns = at_.rows;
    }
    block_.raw_words.resize(static_cast<size_t>(words.rows * words.columns));
    block_.words.resize(block_.raw_words.size());
    LS_TRY(read_rectangle(*matrix_.values, words, block_.raw_words.data()));
    turn_words(words.rows, words.columns);
    LS_TRY(read_groups());
    LS_TRY(read_scales({.base = at_.expert * matrix_.groups * matrix_.rows,
                        .stride = matrix_.rows,
                        .row = first_group_,
                        .rows = num_groups_,
                        .column = at_.row,
                        .columns = at_.rows}));
    return read_zeros();
  }

  // Words of one output, or of eight, come to lie side by side: read down a column of the tensor, whose rows
  // are a power of two apart, they would be in the cache's way. Squares of a line each way.
  void turn_words(int64_t rows, int64_t columns) {
    constexpr int64_t kLine = 16;
    for (int64_t top = 0; top < rows; top += kLine) {
      for (int64_t left = 0; left < columns; left += kLine) {
        for (int64_t c = left; c < std::min(left + kLine, columns); ++c) {
          for (int64_t r = top; r < std::min(top + kLine, rows); ++r)
            block_.words[static_cast<size_t>(c * rows + r)] =
                block_.raw_words[static_cast<size_t>(r * columns + c)];
        }
      }
    }
  }

  // Which of the groups the columns are of, and the columns as runs of one group each.
  Status read_groups() {
    const auto columns = static_cast<size_t>(at_.columns);
    std::vector<int32_t> group(columns);
    if (matrix_.group_of != nullptr) {
      LS_TRY(read_bytes(*matrix_.group_of, (at_.expert * matrix_.k + at_.column) * 4, at_.columns * 4,
                        group.data()));
    } else {
      for (size_t i = 0; i < columns; ++i)
        group[i] = static_cast<int32_t>((at_.column + static_cast<int64_t>(i)) / matrix_.group_size);
    }
    for (size_t i = 0; i < columns; ++i) {
      if (group[i] >= 0 && group[i] < matrix_.groups) continue;
      return error(Code::kInvalidArgument, "weights: ", matrix_.group_of->name, "[",
                   at_.column + static_cast<int64_t>(i), "] is ", group[i], "; expected a group in 0..",
                   matrix_.groups - 1, "; fetch the checkpoint again");
    }
    const auto [least, most] = std::minmax_element(group.begin(), group.end());
    first_group_ = *least;
    num_groups_ = *most + 1 - *least;
    block_.runs.clear();
    for (size_t i = 0; i < columns; ++i) {
      const auto column = static_cast<int64_t>(i);
      if (i == 0 || group[i] != group[i - 1])
        block_.runs.push_back({.begin = column, .group = group[i] - first_group_});
      block_.runs.back().end = column + 1;
    }
    return {};
  }

  Status read_zeros() {
    block_.zeros.assign(static_cast<size_t>(num_groups_ * at_.rows), 8);
    if (matrix_.zeros == nullptr) return {};
    const int64_t first = at_.row / kPerWord, stride = matrix_.rows / kPerWord;
    const int64_t words = (at_.row + at_.rows - 1) / kPerWord + 1 - first;
    std::vector<uint32_t> stored(static_cast<size_t>(num_groups_ * words));
    LS_TRY(read_rectangle(*matrix_.zeros,
                          {.base = at_.expert * matrix_.groups * stride,
                           .stride = stride,
                           .row = first_group_,
                           .rows = num_groups_,
                           .column = first,
                           .columns = words},
                          stored.data()));
    const bool awq = matrix_.as == StoredAs::kAwq;
    const uint32_t more = matrix_.by.zeros_less_one ? 1 : 0;
    for (int64_t g = 0; g < num_groups_; ++g) {
      for (int64_t row = at_.row; row < at_.row + at_.rows; ++row) {
        const uint32_t word = stored[static_cast<size_t>(g * words + row / kPerWord - first)];
        const int64_t lane = awq ? awq_bits(row % kPerWord) : row % kPerWord;
        block_.zeros[static_cast<size_t>(g * at_.rows + row - at_.row)] =
            static_cast<uint8_t>(((word >> (4 * lane)) + more) & 15);
      }
    }
    return {};
  }

  // Which four bits of a word hold output 8c + lane.
  static int64_t awq_bits(int64_t lane) {
    return std::find(kAwqOrder.begin(), kAwqOrder.end(), lane) - kAwqOrder.begin();
  }

  const Checkpoint& checkpoint_;
  std::atomic<int64_t>& bytes_read_;
  QuantisedBlock& block_;
  const StoredMatrix& matrix_;
  const BlockPlace& at_;
  int64_t first_group_ = 0;
  int64_t num_groups_ = 0;
};

// Byte i is bits 4i..4i+3 of the word.
uint64_t spread(uint32_t word) {
  uint64_t x = word;
  x = (x | x << 16) & 0x0000FFFF0000FFFFu;
  x = (x | x << 8) & 0x00FF00FF00FF00FFu;
  return (x | x << 4) & 0x0F0F0F0F0F0F0F0Fu;
}

// Byte j of word i becomes byte i of word j.
void transpose(std::array<uint64_t, 8>& bytes) {
  const auto swap = [&](size_t distance, uint64_t mask) {
    const size_t shift = 8 * distance;
    for (size_t i = 0; i < 8; ++i) {
      if ((i & distance) != 0) continue;
      const uint64_t crossed = (bytes[i] >> shift ^ bytes[i + distance]) & mask;
      bytes[i] ^= crossed << shift;
      bytes[i + distance] ^= crossed;
    }
  };
  swap(4, 0x00000000FFFFFFFFu);
  swap(2, 0x0000FFFF0000FFFFu);
  swap(1, 0x00FF00FF00FF00FFu);
}

// The codes of 8 rows, a byte each.
struct Tile {
  int64_t width = 0;  // bytes of a row: a multiple of 8
  std::vector<uint8_t> codes{};
  uint8_t* row(int64_t i) { return codes.data() + i * width; }
};

// Rows 8w..8w+7 of the matrix, w counted from the block's first word.
void unpack_awq(const QuantisedBlock& block, int64_t word, Tile& tile) {
  const int64_t columns = block.at.columns;
  const uint32_t* words = block.words.data() + word * columns;
  for (int64_t column = 0; column < columns; column += kPerWord) {
    std::array<uint64_t, 8> bytes{};
    const int64_t count = std::min(kPerWord, columns - column);
    for (int64_t i = 0; i < count; ++i) bytes[static_cast<size_t>(i)] = spread(words[column + i]);
    transpose(bytes);
    for (size_t i = 0; i < bytes.size(); ++i)
      std::memcpy(tile.row(kAwqOrder[i]) + column, &bytes[i], sizeof(uint64_t));
  }
}

// `count` rows from row `first` of the block on.
void unpack_gptq(const QuantisedBlock& block, int64_t first, int64_t count, Tile& tile) {
  const int64_t words = static_cast<int64_t>(block.words.size()) / block.at.rows;
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t* of_row = block.words.data() + (first + i) * words;
    for (int64_t word = 0; word < words; ++word) {
      const uint64_t bytes = spread(of_row[word]);
      std::memcpy(tile.row(i) + word * kPerWord, &bytes, sizeof(uint64_t));
    }
  }
}

// What each of the 16 codes means to a row and a group.
template <typename T>
struct Meanings {
  Meanings(const QuantisedBlock& block, int64_t row, int64_t group) {
    const auto at = static_cast<size_t>(group * block.at.rows + row);
    for (int32_t q = 0; q < 16; ++q)
      of[static_cast<size_t>(q)] = T(static_cast<float>(q - block.zeros[at]) * block.scales[at]);
  }
  std::array<T, 16> of;
};

// One row of the block from its codes, one byte each.
template <typename T>
void scale_row(const QuantisedBlock& block, int64_t row, const uint8_t* codes, T* out) {
  for (const QuantisedBlock::Run& run : block.runs) {
    const Meanings<T> meanings(block, row, run.group);
    for (int64_t k = run.begin; k < run.end; ++k) out[k] = meanings.of[codes[k]];
  }
}

// Eight rows at a time: those of a word of AWQ, which need not all be wanted.
template <typename T>
void dequantise_int4(const QuantisedBlock& block, int64_t first, int64_t count, T* out) {
  const bool awq = block.matrix.as == StoredAs::kAwq;
  const BlockPlace& at = block.at;
  const int64_t skipped =
      awq ? 0 : at.column % kPerWord;  // codes of the first word that lie before the block
  Tile tile{.width = round_up(at.columns + skipped, kPerWord)};
  tile.codes.resize(static_cast<size_t>(kPerWord * tile.width));
  for (int64_t row = first; row < first + count;) {
    const int64_t lane = awq ? row % kPerWord : 0;
    const int64_t taken = std::min(kPerWord - lane, first + count - row);
    if (awq) {
      unpack_awq(block, row / kPerWord - at.row / kPerWord, tile);
    } else {
      unpack_gptq(block, row - at.row, taken, tile);
    }
    for (int64_t i = 0; i < taken; ++i, ++row, out += at.columns)
      scale_row(block, row - at.row, tile.row(lane + i) + skipped, out);
  }
}

// Rows that share their scales at a time: what each code means there is worked out once.
template <typename T>
void dequantise_fp8(const QuantisedBlock& block, int64_t first, int64_t count, T* out) {
  constexpr int64_t kCodes = 256;
  const BlockPlace& at = block.at;
  const Quantisation& by = block.matrix.by;
  const float* values = fp8_e4m3_values().data();
  const int64_t first_block = at.column / by.block_columns;
  const int64_t blocks = (at.column + at.columns - 1) / by.block_columns + 1 - first_block;
  std::vector<T> meanings(static_cast<size_t>(blocks * kCodes));
  for (int64_t row = first; row < first + count; ++row, out += at.columns) {
    if (row == first || row % by.block_rows == 0) {
      const float* scales = block.scales.data() + (row / by.block_rows - at.row / by.block_rows) * blocks;
      for (int64_t i = 0; i < blocks * kCodes; ++i)
        meanings[static_cast<size_t>(i)] = T(values[i % kCodes] * scales[i / kCodes]);
    }
    const uint8_t* codes = block.codes.data() + (row - at.row) * at.columns;
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t begin = std::max<int64_t>((first_block + b) * by.block_columns - at.column, 0);
      const int64_t end = std::min((first_block + b + 1) * by.block_columns - at.column, at.columns);
      const T* of = meanings.data() + b * kCodes;
      for (int64_t k = begin; k < end; ++k) out[k] = of[codes[k]];
    }
  }
}

}  // namespace

const std::vector<float>& fp8_e4m3_values() {
  static const std::vector<float> values = [] {
    std::vector<float> made(256);
    for (int32_t code = 0; code < 256; ++code) {
      const int32_t exponent = code >> 3 & 15, mantissa = code & 7;
      const float magnitude = exponent == 0
                                  ? std::ldexp(static_cast<float>(mantissa), -9)
                                  : std::ldexp(1.0f + static_cast<float>(mantissa) / 8.0f, exponent - 7);
      made[static_cast<size_t>(code)] = (code & 0x7F) == 0x7F ? std::numeric_limits<float>::quiet_NaN()
                                        : code >= 128         ? -magnitude
                                                              : magnitude;
    }
    return made;
  }();
  return values;
}

Status read_block(const Checkpoint& checkpoint, const StoredMatrix& matrix, const BlockPlace& at,
                  std::atomic<int64_t>& bytes_read, QuantisedBlock& block) {
  block.matrix = matrix;
  block.at = at;
  return BlockReader(checkpoint, bytes_read, block).read();
}

void dequantise(const QuantisedBlock& block, int64_t first, const TensorView& out) {
  const int64_t count = out.dim(0);
  LS_CHECK(first >= block.at.row && first + count <= block.at.row + block.at.rows, "rows ", first, "+", count,
           " of a block of ", block.at.row, "+", block.at.rows);
  with_float_type(out.dtype, [&]<typename T>() {
    if (block.matrix.as == StoredAs::kFp8) {
      dequantise_fp8(block, first, count, out.as<T>());
    } else {
      dequantise_int4(block, first, count, out.as<T>());
    }
  });
}

}  // namespace lockstep
