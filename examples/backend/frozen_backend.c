/* A backend that freezes a length, as a vendor's op does that takes context lengths from host memory in its
 * set-up phase: prepare() bakes them into the launch, and a captured graph repeats the launch. Two ways to
 * declare it, neither of which serves wrong tokens:
 *   LENGTHS_ARE LOCKSTEP_EXACT        the truth: decode steps with it are not captured, and run eagerly
 *   LENGTHS_ARE LOCKSTEP_UPPER_BOUND  a lie: the first replay with a longer sequence is refused, by name */
#include "naive_attention.h"

#ifndef LENGTHS_ARE
#define LENGTHS_ARE LOCKSTEP_EXACT
#endif

static const lockstep_field kFields[NUM_FIELDS] = {
    [SLOTS] = BY_ADDRESS("slot_mapping", "slots", "per row", "padded", "rank-local"),
    [TABLE_ROWS] = BY_ADDRESS("table_rows", "rows", "per sequence", "padded", "rank-local"),
    [STARTS] = BY_ADDRESS("query_start_loc", "rows", "cumulative", "padded", "global"),
    [LENGTHS] =
        FIELD(LOCKSTEP_BY_VALUE, LENGTHS_ARE, "seq_lens", "tokens", "per sequence", "padded", "global"),
    [NUM_ROWS] = BY_ADDRESS("num_rows", "rows", "scalar", "live", "global"),
    [NUM_SEQS] = BY_ADDRESS("num_seqs", "sequences", "scalar", "live", "global"),
};
enum { MOST_SEQUENCES = LOCKSTEP_LAUNCH_BYTES / sizeof(int32_t) };

static int describe(void* instance, lockstep_description* out, char* message) {
  (void)instance, (void)message;
  out->size = sizeof(*out);
  out->device = LOCKSTEP_CPU;
  out->name = "frozen";
  out->fields = kFields;
  out->num_fields = NUM_FIELDS;
  out->stages = kStages;
  out->num_stages = NUM_STAGES;
  out->cache_dtypes = 1u << LOCKSTEP_F32 | 1u << LOCKSTEP_F16 | 1u << LOCKSTEP_BF16;
  out->workspace_per_dim = sizeof(double); /* the running sum of one row */
  return LOCKSTEP_OK;
}

static int prepare(void* instance, const lockstep_prepare* step, void* launch, char* message) {
  (void)instance;
  const lockstep_bound* lengths = &step->fields[LENGTHS];
  if (lengths->count > MOST_SEQUENCES) {
    strcpy(message, "frozen: more sequences than a launch has room for; expected at most 128");
    return LOCKSTEP_RESOURCE_EXHAUSTED;
  }
  for (int64_t s = 0; s < lengths->count; ++s) ((int32_t*)launch)[s] = (int32_t)lengths->numbers[s];
  return LOCKSTEP_OK;
}

static int run(void* instance, const lockstep_run* args, char* message) {
  (void)instance, (void)message;
  if (args->stage == STORE)
    store(args);
  else
    attend(args, args->launch);
  return LOCKSTEP_OK;
}

static void destroy(void* instance) { (void)instance; }

int lockstep_backend_get(uint32_t abi, lockstep_backend* out) {
  if (abi != LOCKSTEP_BACKEND_ABI || out->size < sizeof(*out)) return LOCKSTEP_UNIMPLEMENTED;
  *out = (lockstep_backend){sizeof(*out), LOCKSTEP_BACKEND_ABI, 0, describe, prepare, run, destroy};
  return LOCKSTEP_OK;
}
