/* What the example backends share: plain loops of paged attention, every address from real strides, and the
 * stages as they are declared. */
#ifndef LOCKSTEP_EXAMPLES_NAIVE_ATTENTION_H
#define LOCKSTEP_EXAMPLES_NAIVE_ATTENTION_H

#include <float.h>
#include <math.h>
#include <string.h>

#include "lockstep/backend.h"

/* Fields in the order of the descriptions. */
enum { SLOTS, TABLE_ROWS, STARTS, LENGTHS, NUM_ROWS, NUM_SEQS, NUM_FIELDS };
enum { STORE, ATTEND, NUM_STAGES };

#define FIELD(feed, freeze, name, unit, form, extent, space) \
  { sizeof(lockstep_field), feed, freeze, 0, name, unit, form, extent, space }
#define BY_ADDRESS(name, unit, form, extent, space) \
  FIELD(LOCKSTEP_BY_ADDRESS, LOCKSTEP_EXACT, name, unit, form, extent, space)
#define USE(tensor, access, pads, rows) \
  { sizeof(lockstep_use), tensor, access, LOCKSTEP_ANY_STRIDES, pads, rows, 64, 0 }

static const lockstep_use kStore[] = {
    USE(LOCKSTEP_K, LOCKSTEP_READ, 0, LOCKSTEP_LIVE_ROWS),
    USE(LOCKSTEP_V, LOCKSTEP_READ, 0, LOCKSTEP_LIVE_ROWS),
    USE(LOCKSTEP_CACHE, LOCKSTEP_WRITE, LOCKSTEP_PADS_UNTOUCHED, LOCKSTEP_OWNED_ROWS),
};
static const lockstep_use kAttend[] = {
    USE(LOCKSTEP_Q, LOCKSTEP_READ, 0, LOCKSTEP_LIVE_ROWS),
    USE(LOCKSTEP_CACHE, LOCKSTEP_READ, 0, LOCKSTEP_OWNED_ROWS),
    USE(LOCKSTEP_PAGE_TABLE, LOCKSTEP_READ, 0, LOCKSTEP_OWNED_ROWS),
    USE(LOCKSTEP_OUT, LOCKSTEP_WRITE, LOCKSTEP_PADS_ZERO, LOCKSTEP_ALL_ROWS),
    USE(LOCKSTEP_WORKSPACE, LOCKSTEP_WRITE, 0, LOCKSTEP_NO_ROWS),
};
static const lockstep_stage kStages[NUM_STAGES] = {
    [STORE] = {sizeof(lockstep_stage), 3, "store", kStore, 1, 0},
    [ATTEND] = {sizeof(lockstep_stage), 5, "attend", kAttend, 1, 0},
};

static float from_half(uint16_t bits) {
  const uint32_t sign = (uint32_t)(bits & 0x8000u) << 16, mantissa = bits & 0x3FFu;
  const int exponent = bits >> 10 & 31;
  uint32_t word = sign | (uint32_t)(exponent + 112) << 23 | mantissa << 13;
  if (exponent == 31) word = sign | 0x7F800000u | mantissa << 13;
  float value;
  memcpy(&value, &word, sizeof(value));
  if (exponent == 0) value = (sign != 0 ? -1.0f : 1.0f) * (float)mantissa * 0x1p-24f;
  return value;
}

/* Rounds to nearest even. */
static uint16_t to_half(float value) {
  uint32_t word;
  memcpy(&word, &value, sizeof(word));
  const uint16_t sign = (uint16_t)(word >> 16 & 0x8000u);
  const float size = fabsf(value);
  if (isnan(value)) return sign | 0x7E00u;
  if (size >= 65520.0f) return sign | 0x7C00u;
  if (size < 0x1p-14f) return sign | (uint16_t)nearbyintf(size * 0x1p24f);
  memcpy(&word, &size, sizeof(word));
  return sign | (uint16_t)((word + 0xFFFu + (word >> 13 & 1u) - 0x38000000u) >> 13);
}

static uint16_t to_bfloat(float value) {
  uint32_t word;
  memcpy(&word, &value, sizeof(word));
  if (isnan(value)) return (uint16_t)(word >> 16 | 0x40u);
  return (uint16_t)((word + 0x7FFFu + (word >> 16 & 1u)) >> 16);
}

static float load(const lockstep_view* view, int64_t at) {
  if (view->dtype == LOCKSTEP_F32) return ((const float*)view->data)[at];
  const uint16_t bits = ((const uint16_t*)view->data)[at];
  if (view->dtype == LOCKSTEP_F16) return from_half(bits);
  const uint32_t word = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &word, sizeof(value));
  return value;
}

static void save(const lockstep_view* view, int64_t at, float value) {
  if (view->dtype == LOCKSTEP_F32)
    ((float*)view->data)[at] = value;
  else
    ((uint16_t*)view->data)[at] = view->dtype == LOCKSTEP_F16 ? to_half(value) : to_bfloat(value);
}

/* Where element d of a token's head lies in keys or values [P, K, B, D / c, c]. */
static int64_t cache_at(const lockstep_view* cache, int64_t page, int64_t head, int64_t token, int64_t d) {
  const int64_t chunk = cache->shape[4];
  return page * cache->strides[0] + head * cache->strides[1] + token * cache->strides[2] +
         d / chunk * cache->strides[3] + d % chunk * cache->strides[4];
}

static int64_t live_rows(const lockstep_run* run) { return *(const int32_t*)run->fields[NUM_ROWS].data; }

/* Rows part, part + parts, ...: no two parts have a row in common. */
static void store(const lockstep_run* run) {
  const int64_t page_tokens = run->keys.shape[2];
  for (int64_t t = run->part; t < live_rows(run); t += run->parts) {
    const int64_t slot = ((const int64_t*)run->fields[SLOTS].data)[t];
    if (slot < 0) continue;
    for (int64_t h = 0; h < run->k.shape[1]; ++h) {
      for (int64_t d = 0; d < run->k.shape[2]; ++d) {
        const int64_t to = cache_at(&run->keys, slot / page_tokens, h, slot % page_tokens, d);
        const int64_t k = t * run->k.strides[0] + h * run->k.strides[1] + d * run->k.strides[2];
        const int64_t v = t * run->v.strides[0] + h * run->v.strides[1] + d * run->v.strides[2];
        save(&run->keys, to, load(&run->k, k));
        save(&run->values, cache_at(&run->values, slot / page_tokens, h, slot % page_tokens, d),
             load(&run->v, v));
      }
    }
  }
}

/* One head of one row over the first `tokens` tokens of the sequence whose pages are `pages`: a softmax that
 * moves along with its largest score. */
static void attend_row(const lockstep_run* run, int64_t t, int64_t h, const int32_t* pages, int64_t tokens) {
  const int64_t head_dim = run->q.shape[2], page_tokens = run->keys.shape[2];
  const int64_t kv_head = h / (run->q.shape[1] / run->keys.shape[1]);
  double* sum = (double*)run->workspace.data + run->part * head_dim;
  double most = -DBL_MAX, total = 0;
  for (int64_t d = 0; d < head_dim; ++d) sum[d] = 0;
  for (int64_t i = 0; i < tokens; ++i) {
    const int64_t page = pages[i / page_tokens * run->page_table.strides[1]];
    double score = 0;
    for (int64_t d = 0; d < head_dim; ++d) {
      score += (double)load(&run->q, t * run->q.strides[0] + h * run->q.strides[1] + d * run->q.strides[2]) *
               load(&run->keys, cache_at(&run->keys, page, kv_head, i % page_tokens, d));
    }
    score *= run->scale;
    const double before = score > most ? exp(most - score) : 1;
    most = score > most ? score : most;
    const double weight = exp(score - most);
    total = total * before + weight;
    for (int64_t d = 0; d < head_dim; ++d) {
      sum[d] = sum[d] * before +
               weight * load(&run->values, cache_at(&run->values, page, kv_head, i % page_tokens, d));
    }
  }
  for (int64_t d = 0; d < head_dim; ++d) {
    save(&run->out, t * run->out.strides[0] + h * run->out.strides[1] + d * run->out.strides[2],
         (float)(sum[d] / total));
  }
}

/* `lengths` is what the caller knows of them: the tokens of each sequence, this step's rows included. */
static void attend(const lockstep_run* run, const int32_t* lengths) {
  const int32_t* starts = run->fields[STARTS].data;
  const int32_t *rows = run->fields[TABLE_ROWS].data, *table = run->page_table.data;
  const int64_t sequences = *(const int32_t*)run->fields[NUM_SEQS].data;
  for (int64_t s = 0; s < sequences; ++s) {
    for (int64_t t = starts[s]; t < starts[s + 1]; ++t) {
      if (t % run->parts != run->part) continue;
      const int64_t tokens = lengths[s] - (starts[s + 1] - t) + 1;
      for (int64_t h = 0; h < run->q.shape[1]; ++h)
        attend_row(run, t, h, table + rows[s] * run->page_table.strides[0], tokens);
    }
  }
  for (int64_t t = live_rows(run); t < run->out.shape[0]; ++t) {
    if (t % run->parts != run->part) continue;
    for (int64_t h = 0; h < run->out.shape[1]; ++h) {
      for (int64_t d = 0; d < run->out.shape[2]; ++d)
        save(&run->out, t * run->out.strides[0] + h * run->out.strides[1] + d * run->out.strides[2], 0);
    }
  }
}

#endif
