#include <algorithm>
#include <cmath>

#include "conformance/attention_rig.h"

namespace lockstep::conformance {
namespace {

// Rounding errors of a sum of n terms grow with sqrt(n) with a probability that nobody sees fail (Higham &
// Mary 2019, A New Approach to Probabilistic Rounding Error Analysis); 4 standard deviations of half an ulp.
double rounding(double terms) { return 4 * 0x1p-24 * (std::sqrt(terms) + 4); }

}  // namespace

// With p the softmax: an error e of a score moves p by a factor of at most exp(2 e), so the output moves by
// 2 e times the largest value, beside what the weighted sum itself loses.
void attend(const AttentionShape& shape, std::span<const float> q, const KeptKv& kv, int32_t n,
            std::span<double> out, std::span<double> bound) {
  const auto size = static_cast<size_t>(shape.head_dim), tokens = static_cast<size_t>(n);
  const auto kv_heads = static_cast<size_t>(shape.kv_heads);
  const size_t per_head = static_cast<size_t>(shape.heads) / kv_heads;
  std::vector<double> scores(tokens);
  for (size_t h = 0; h < static_cast<size_t>(shape.heads); ++h) {
    const size_t begin = h / per_head * size, stride = kv_heads * size;
    double most = -INFINITY, magnitude = 0, largest = 0;
    for (size_t t = 0; t < tokens; ++t) {
      double sum = 0, sizes = 0;
      for (size_t d = 0; d < size; ++d) {
        const double product = static_cast<double>(q[h * size + d]) * kv.keys[t * stride + begin + d];
        sum += product;
        sizes += std::abs(product);
      }
      scores[t] = sum * shape.scale;
      most = std::max(most, scores[t]);
      magnitude = std::max(magnitude, sizes * std::abs(shape.scale));
    }
    double total = 0;
    for (double& score : scores) total += score = std::exp(score - most);
    for (size_t d = 0; d < size; ++d) {
      double sum = 0;
      for (size_t t = 0; t < tokens; ++t) {
        const double value = kv.values[t * stride + begin + d];
        sum += scores[t] * value;
        largest = std::max(largest, std::abs(value));
      }
      out[h * size + d] = sum / total;
    }
    bound[h] = largest *
               (2 * magnitude * rounding(static_cast<double>(size)) + 2 * rounding(static_cast<double>(n)));
  }
}

KeptKv best_pages(const AttentionShape& shape, std::span<const float> q, const KeptKv& kv,
                  int32_t page_tokens, int32_t top) {
  const auto size = static_cast<size_t>(shape.head_dim), kv_heads = static_cast<size_t>(shape.kv_heads);
  const size_t per_head = static_cast<size_t>(shape.heads) / kv_heads, stride = kv_heads * size;
  const size_t tokens = kv.keys.size() / stride, page = static_cast<size_t>(page_tokens);
  std::vector<std::pair<double, size_t>> scored;  // minus the score, and the page's first token
  for (size_t first = 0; first < tokens; first += page) {
    const size_t last = std::min(first + page, tokens);
    double score = 0;
    for (size_t d = 0; d < q.size(); ++d) {
      double mean = 0;
      for (size_t t = first; t < last; ++t)
        mean +=
            kv.keys[t * stride + d / size / per_head * size + d % size] / static_cast<double>(last - first);
      score += q[d] * mean;
    }
    scored.emplace_back(-score, first);
  }
  std::sort(scored.begin(), scored.end());
  scored.resize(std::min(scored.size(), static_cast<size_t>(top)));
  KeptKv best;
  for (const auto& [score, first] : scored) {
    const auto begin = static_cast<int64_t>(first * stride);
    const auto end = static_cast<int64_t>(std::min(first + page, tokens) * stride);
    best.keys.insert(best.keys.end(), kv.keys.begin() + begin, kv.keys.begin() + end);
    best.values.insert(best.values.end(), kv.values.begin() + begin, kv.values.begin() + end);
  }
  return best;
}

namespace {

// Means of `width` keys [n, D], one every half of that, rounded.
std::vector<std::vector<double>> window_means(const KeptKv& kv, size_t size, size_t width, DType dtype) {
  std::vector<std::vector<double>> means;
  for (size_t first = 0; (first + width) * size <= kv.keys.size(); first += width / 2) {
    std::vector<double>& mean = means.emplace_back(size, 0.0);
    for (size_t t = first; t < first + width; ++t) {
      for (size_t d = 0; d < size; ++d) mean[d] += kv.keys[t * size + d];
    }
    for (double& each : mean) {
      const auto value = static_cast<float>(each / static_cast<double>(width));
      each = with_float_type(dtype,
                             [&]<typename T>() { return static_cast<double>(static_cast<float>(T(value))); });
    }
  }
  return means;
}

double product(std::span<const float> q, const std::vector<double>& key, double scale) {
  double sum = 0;
  for (size_t d = 0; d < key.size(); ++d) sum += static_cast<double>(q[d]) * key[d];
  return sum * scale;
}

}  // namespace

KeptKv chosen_blocks(const AttentionShape& shape, std::span<const float> q, const KeptKv& kv, DType dtype,
                     const BlockRule& rule) {
  const auto size = static_cast<size_t>(shape.head_dim);
  const size_t tokens = kv.keys.size() / size;
  const auto fine = window_means(kv, size, 32, dtype), coarse = window_means(kv, size, 128, dtype);
  std::vector<double> scores(fine.size(), 0.0);
  for (size_t h = 0; h < static_cast<size_t>(shape.heads); ++h) {
    const std::span<const float> query = q.subspan(h * size, size);
    double total = 0;
    for (const auto& key : coarse) total += std::exp(product(query, key, shape.scale));
    for (size_t j = 0; j < fine.size(); ++j)
      scores[j] += std::exp(product(query, fine[j], shape.scale)) / total;
  }
  const auto own = static_cast<int64_t>((tokens - 1) / 64);
  std::vector<std::pair<double, int64_t>> ranked;  // minus the score, and the block
  for (int64_t b = 0; b <= own; ++b) {
    double best = 0;
    for (int64_t j = std::max<int64_t>(0, 4 * b - 1); j <= 4 * b + 3 && j < std::ssize(scores); ++j)
      best = std::max(best, scores[static_cast<size_t>(j)]);
    const bool forced = b < rule.init || b >= own - rule.window;
    ranked.emplace_back(forced ? -INFINITY : -best, b);
  }
  std::sort(ranked.begin(), ranked.end());
  ranked.resize(std::min(ranked.size(), static_cast<size_t>(rule.most)));
  KeptKv chosen;
  for (const auto& [score, block] : ranked) {
    const auto begin = static_cast<int64_t>(static_cast<size_t>(block) * 64 * size);
    const auto end = static_cast<int64_t>(std::min(static_cast<size_t>(block + 1) * 64, tokens) * size);
    chosen.keys.insert(chosen.keys.end(), kv.keys.begin() + begin, kv.keys.begin() + end);
    chosen.values.insert(chosen.values.end(), kv.values.begin() + begin, kv.values.begin() + end);
  }
  return chosen;
}

}  // namespace lockstep::conformance
