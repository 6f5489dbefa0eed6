#include "text/tokens/bpe.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "base/clock.h"

namespace lockstep {
namespace {

// 256 byte tokens with ids of the bytes, and one more per merge.
struct Model {
  explicit Model(const std::vector<std::pair<std::string, std::string>>& list) {
    for (int byte = 0; byte < 256; ++byte) add(std::string(1, static_cast<char>(byte)));
    bpe.read_bytes(vocabulary);
    for (const auto& [left, right] : list) {
      ids.emplace(left + right, static_cast<int32_t>(ids.size()));
      bpe.add_merge(ids.at(left), ids.at(right), ids.at(left + right));
      merges.push_back({ids.at(left), ids.at(right), ids.at(left + right)});
    }
    bpe.finish();
  }
  void add(const std::string& bytes) {
    const auto id = static_cast<int32_t>(ids.size());
    ids.emplace(bytes, id);
    std::string spelling;
    append_spelling(spelling, bytes);
    EXPECT_TRUE(vocabulary.add(spelling, id, "model").ok());
  }
  std::vector<int32_t> encode(std::string_view piece) const {
    Bpe::Scratch scratch;
    std::vector<int32_t> out;
    EXPECT_TRUE(bpe.encode(piece, scratch, out).ok());
    return out;
  }
  // The definition, word for word: the pair of lowest rank, the leftmost of them, until none is left.
  std::vector<int32_t> encode_naively(std::string_view piece) const {
    std::vector<int32_t> symbols;
    for (const char c : piece) symbols.push_back(static_cast<unsigned char>(c));
    while (true) {
      size_t best = merges.size(), at = 0;
      for (size_t i = 0; i + 1 < symbols.size(); ++i)
        for (size_t rank = 0; rank < best; ++rank)
          if (merges[rank][0] == symbols[i] && merges[rank][1] == symbols[i + 1]) best = rank, at = i;
      if (best == merges.size()) return symbols;
      symbols[at] = merges[best][2];
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
  }

  std::map<std::string, int32_t> ids;
  std::vector<std::array<int32_t, 3>> merges;
  Vocabulary vocabulary;
  Bpe bpe;
};

TEST(Bpe, MergesTheLowestRankFirstAndTheLeftmostAmongEquals) {
  const Model model({{"b", "c"}, {"a", "b"}, {"a", "a"}, {"a", "bc"}});

  EXPECT_EQ(model.encode("abc"), (std::vector<int32_t>{model.ids.at("abc")})) << "b c comes before a b";
  EXPECT_EQ(model.encode("aaa"), (std::vector<int32_t>{model.ids.at("aa"), 'a'}));
  EXPECT_EQ(model.encode("xab"), (std::vector<int32_t>{'x', model.ids.at("ab")}));
  EXPECT_EQ(model.encode(""), std::vector<int32_t>{});
}

TEST(Bpe, AgreesWithTheDefinitionOnRandomModels) {
  const uint32_t seed = 7;
  std::mt19937 random(seed);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::string> tokens = {"a", "b", "c"};
    std::vector<std::pair<std::string, std::string>> merges;
    for (size_t i = random() % 20; i > 0; --i) {
      const auto& left = tokens[random() % tokens.size()];
      const auto& right = tokens[random() % tokens.size()];
      const std::string both = left + right;
      merges.emplace_back(left, right);
      if (std::find(tokens.begin(), tokens.end(), both) == tokens.end()) tokens.push_back(both);
    }
    // A pair given twice takes the later rank; the naive model keeps the first, so give none twice.
    std::sort(merges.begin(), merges.end());
    merges.erase(std::unique(merges.begin(), merges.end()), merges.end());
    std::stable_sort(merges.begin(), merges.end(), [](const auto& a, const auto& b) {
      return a.first.size() + a.second.size() < b.first.size() + b.second.size();
    });
    const Model model(merges);
    std::string piece;
    for (size_t i = random() % 40; i > 0; --i) piece += static_cast<char>('a' + random() % 3);
    ASSERT_EQ(model.encode(piece), model.encode_naively(piece)) << "seed " << seed << ", round " << round;
  }
}

TEST(Bpe, GivesAPairThatComesTwiceItsLaterRank) {
  const Model model({{"a", "b"}, {"b", "c"}, {"a", "b"}});

  EXPECT_EQ(model.encode("abc"), (std::vector<int32_t>{'a', model.ids.at("bc")}));
}

TEST(Bpe, TakesAMegabyteOfOneLetterInTime) {
  std::vector<std::pair<std::string, std::string>> merges;
  for (std::string half = "a"; half.size() <= 64; half += half) merges.emplace_back(half, half);
  const Model model(merges);

  const int64_t start = now_ns();
  const auto ids = model.encode(std::string(1 << 20, 'a'));

  EXPECT_EQ(ids.size(), size_t{1} << 13);
  EXPECT_LT(seconds_since(start), 5.0);
}

TEST(Bpe, NamesAByteThatTheVocabularyLacks) {
  Bpe bpe;
  Vocabulary vocabulary;
  ASSERT_TRUE(vocabulary.add("a", 0, "model").ok());
  bpe.read_bytes(vocabulary);
  bpe.finish();
  Bpe::Scratch scratch;
  std::vector<int32_t> out;

  const Status status = bpe.encode("ab", scratch, out);

  EXPECT_EQ(
      status.message(),
      "the text has byte 98, for which the vocabulary has no token; expected text that the vocabulary can "
      "spell");
}

TEST(Vocabulary, SpellsBytesInTheByteAlphabet) {
  std::string spelling;
  append_spelling(spelling, " \n\x00\xA0\xAD!ab\xFF" + std::string());

  EXPECT_EQ(spelling, "ĠĊ") << "up to the zero byte of the literal";
  for (int byte = 0; byte < 256; ++byte)
    EXPECT_EQ(byte_of_char(char_of_byte(static_cast<uint8_t>(byte))), static_cast<uint8_t>(byte));
  EXPECT_EQ(char_of_byte(0xAD), 0x143u);
  EXPECT_EQ(byte_of_char(U' '), std::nullopt);
  EXPECT_EQ(byte_of_char(0x144), std::nullopt);
}

TEST(Vocabulary, RefusesTwoTokensForOneIdAndTwoIdsForOneToken) {
  Vocabulary vocabulary;
  ASSERT_TRUE(vocabulary.add("a", 3, "t.json").ok());

  EXPECT_EQ(vocabulary.add("b", 3, "t.json").message(),
            "t.json: id 3 is given to a and b; expected one token per id");
  EXPECT_EQ(vocabulary.add("a", 4, "t.json").message(), "t.json: token a has ids 3 and 4; expected one");
  EXPECT_TRUE(vocabulary.add("a", 3, "t.json").ok());
}

TEST(Vocabulary, RefusesIdsThatWouldTakeGigabytes) {
  Vocabulary vocabulary;

  EXPECT_EQ(vocabulary.add("a", int64_t{1} << 40, "t.json").message(),
            "t.json: token a has id 1099511627776; expected an id in 0..2097151");
  EXPECT_EQ(vocabulary.add(std::string(5000, 'x'), 0, "t.json").message(),
            "t.json: token 0 has 5000 bytes; expected at most 4096");
  EXPECT_EQ(vocabulary.size(), 0);
}

TEST(Vocabulary, HasHolesThatNameNoToken) {
  Vocabulary vocabulary;
  ASSERT_TRUE(vocabulary.add("Ġa", 2, "t.json").ok());

  EXPECT_EQ(vocabulary.size(), 3);
  EXPECT_FALSE(vocabulary.contains(1) || vocabulary.contains(-1) || vocabulary.contains(3));
  EXPECT_EQ(vocabulary.bytes(2), " a");
  EXPECT_EQ(vocabulary.bytes(1), "");
}

}  // namespace
}  // namespace lockstep
