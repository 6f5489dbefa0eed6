#include "base/digest.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace lockstep {
namespace {

std::vector<unsigned char> random_bytes(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<unsigned char> bytes(size);
  for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(random());
  return bytes;
}

TEST(Digest, ChangesWithEveryBit) {
  for (size_t size = 1; size < 200; ++size) {
    std::vector<unsigned char> bytes = random_bytes(size, size);
    std::set<Digest> seen = {digest_bytes(bytes.data(), size)};
    for (size_t bit = 0; bit < 8 * size; ++bit) {
      bytes[bit / 8] ^= static_cast<unsigned char>(1u << (bit % 8));
      EXPECT_TRUE(seen.insert(digest_bytes(bytes.data(), size)).second) << size << " bytes, bit " << bit;
      bytes[bit / 8] ^= static_cast<unsigned char>(1u << (bit % 8));
    }
  }
}

TEST(Digest, TellsLengthsApartThoughAllBytesAreZero) {
  const std::vector<unsigned char> zeros(200);
  std::set<Digest> seen;
  for (size_t size = 0; size <= zeros.size(); ++size) {
    EXPECT_TRUE(seen.insert(digest_bytes(zeros.data(), size)).second) << size << " zeros";
  }
}

TEST(Digest, DependsOnTheOrderOfWords) {
  std::vector<uint64_t> words(45);  // five whole blocks and a rest
  for (size_t i = 0; i < words.size(); ++i) words[i] = i + 1;
  const Digest before = digest_span(std::span<const uint64_t>(words));
  for (size_t i = 0; i < words.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      std::swap(words[i], words[j]);
      EXPECT_NE(digest_span(std::span<const uint64_t>(words)), before) << i << " and " << j;
      std::swap(words[i], words[j]);
    }
  }
}

TEST(Digest, TakesItsLastBytesAsTwoWordsFilledUpWithZeros) {
  const std::vector<unsigned char> bytes = random_bytes(32, 6);
  for (size_t size = 0; size < 16; ++size) {
    uint64_t words[2] = {0, 0};
    std::memcpy(words, bytes.data() + 16, size);
    const DigestTail tail = digest_tail(bytes.data() + 16, size);
    EXPECT_EQ(tail.low, words[0]) << size;
    EXPECT_EQ(tail.high, words[1]) << size;
  }
}

TEST(Digest, ChainsFromItsSeed) {
  const std::vector<unsigned char> bytes = random_bytes(33, 5);
  std::set<Digest> seen;
  for (Digest seed = 0; seed < 1000; ++seed) {
    EXPECT_TRUE(seen.insert(digest_bytes(bytes.data(), bytes.size(), seed)).second) << "seed " << seed;
  }
}

TEST(Digest, DoesNotDependOnWhereTheBytesLie) {
  const std::vector<unsigned char> bytes = random_bytes(61, 6);
  const Digest expected = digest_bytes(bytes.data(), bytes.size());
  for (size_t shift = 1; shift < 16; ++shift) {
    std::vector<unsigned char> moved(bytes.size() + shift);
    std::copy(bytes.begin(), bytes.end(), moved.begin() + static_cast<std::ptrdiff_t>(shift));
    EXPECT_EQ(digest_bytes(moved.data() + shift, bytes.size()), expected) << "shifted by " << shift;
  }
}

// Digests are compared across ranks and stored in records: they are part of the format.
TEST(Digest, StaysWhatItIs) {
  const std::string text = "the quick brown fox jumps over the lazy dog";
  EXPECT_EQ(digest_bytes(nullptr, 0), 0x4F329CADFAF7C73Cu);
  EXPECT_EQ(digest_bytes(text.data(), text.size()), 0x9E1DBCD8327345B9u);
  EXPECT_EQ(digest_bytes(text.data(), text.size(), 42), 0xEA5C0B421AA3B4EBu);
  const std::string longer = text + text + text + text;
  EXPECT_EQ(digest_bytes(longer.data(), longer.size()), 0x6E332E062D21C2C8u);
}

}  // namespace
}  // namespace lockstep
