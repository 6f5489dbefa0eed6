#include "kernels/sample/sample_select.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "kernels/sample/sample_math.h"

namespace lockstep::sampling {
namespace {

// Buckets by distance from the largest value, 1/64 wide; whatever is further than 32 away weighs less than
// half a unit of mass and shares the last.
constexpr int kBuckets = 2048;
constexpr float kBucketsPerUnit = 64.0f;

struct Histogram {
  uint32_t count[kBuckets] = {};
  uint64_t mass[kBuckets] = {};
};

int bucket_of(float distance) {
  return distance < kBuckets / kBucketsPerUnit ? static_cast<int>(distance * kBucketsPerUnit) : kBuckets - 1;
}

bool is_out(float value) { return value < -kLargest; }

void fill(const Candidates& from, bool weigh, Histogram& histogram) {
  for (int64_t v = 0; v < from.count; ++v) {
    if (is_out(from.values[v])) continue;
    const int bucket = bucket_of(from.largest - from.values[v]);
    ++histogram.count[bucket];
    if (weigh) histogram.mass[bucket] += mass_of(from.weights[v]);
  }
}

int64_t token_of(uint64_t key) { return 0xFFFFFFFFu - static_cast<uint32_t>(key); }

// The sort keys of one bucket that are not below `least`, in from.order; returns how many.
int64_t gather(const Candidates& from, int bucket, uint64_t least) {
  int64_t found = 0;
  for (int64_t v = 0; v < from.count; ++v) {
    if (is_out(from.values[v]) || bucket_of(from.largest - from.values[v]) != bucket) continue;
    const uint64_t key =
        uint64_t{order_of(from.values[v] + 0.0f)} << 32 | (0xFFFFFFFFu - static_cast<uint32_t>(v));
    if (key >= least) from.order[found++] = key;
  }
  return found;
}

uint64_t mass_of_keys(const Candidates& from, const uint64_t* begin, const uint64_t* end) {
  uint64_t sum = 0;
  for (const uint64_t* key = begin; key != end; ++key) sum += mass_of(from.weights[token_of(*key)]);
  return sum;
}

// What top-k leaves: keys from `least` on, in buckets up to `bucket`; their mass, where weighed.
struct Kept {
  uint64_t least = 0;
  int bucket = kBuckets - 1;
  uint64_t mass = 0;
};

Kept cut_by_count(const Candidates& from, const Histogram& histogram, int64_t top_k, bool weigh) {
  Kept kept;
  int64_t above = 0;
  for (int b = 0; b < kBuckets; ++b) {
    if (top_k <= 0 || above + histogram.count[b] < top_k) {
      above += histogram.count[b];
      kept.mass += histogram.mass[b];
      continue;
    }
    const int64_t found = gather(from, b, 0);
    uint64_t* const last = from.order + (top_k - above) - 1;
    std::nth_element(from.order, last, from.order + found, std::greater<>());
    if (weigh) kept.mass += mass_of_keys(from, from.order, last + 1);
    kept.least = *last;
    kept.bucket = b;
    break;
  }
  return kept;
}

// The key of the first token, best first, up to which the mass reaches the target.
uint64_t cut_by_mass(const Candidates& from, const Histogram& histogram, const Kept& kept, double target) {
  uint64_t above = 0;
  int b = 0;
  while (b < kept.bucket && static_cast<double>(above + histogram.mass[b]) < target)
    above += histogram.mass[b++];
  int64_t begin = 0;
  int64_t end = gather(from, b, kept.least);
  while (end - begin > 1) {
    const int64_t middle = begin + (end - begin) / 2;
    std::nth_element(from.order + begin, from.order + middle, from.order + end, std::greater<>());
    const uint64_t mass = mass_of_keys(from, from.order + begin, from.order + middle);
    if (static_cast<double>(above + mass) >= target) {
      end = middle;
    } else {
      above += mass;
      begin = middle;
    }
  }
  return from.order[begin];
}

}  // namespace

Cut keep_all() { return {-kLargest, std::numeric_limits<int32_t>::max() - 1}; }

Cut select(const Candidates& candidates, int32_t top_k, float top_p) {
  const bool weigh = top_p < 1;
  Histogram histogram;
  fill(candidates, weigh, histogram);
  const Kept kept = cut_by_count(candidates, histogram, top_k, weigh);
  uint64_t least = kept.least;
  if (weigh) {
    const double target = static_cast<double>(top_p) * static_cast<double>(kept.mass);
    least = cut_by_mass(candidates, histogram, kept, target);
  }
  if (least == 0) return keep_all();
  const int64_t token = token_of(least);
  return {candidates.values[token], static_cast<int32_t>(token)};
}

}  // namespace lockstep::sampling
