/* A naive paged attention, to begin from.
 *   cc -std=c11 -O2 -shared -fPIC -I include examples/backend/good_backend.c -o good_backend.so -lm
 *   lockstep doctor --backend ./good_backend.so */
#include "naive_attention.h"

static const lockstep_field kFields[NUM_FIELDS] = {
    [SLOTS] = BY_ADDRESS("slot_mapping", "slots", "per row", "padded", "rank-local"),
    [TABLE_ROWS] = BY_ADDRESS("table_rows", "rows", "per sequence", "padded", "rank-local"),
    [STARTS] = BY_ADDRESS("query_start_loc", "rows", "cumulative", "padded", "global"),
    [LENGTHS] = BY_ADDRESS("seq_lens", "tokens", "per sequence", "padded", "global"),
    [NUM_ROWS] = BY_ADDRESS("num_rows", "rows", "scalar", "live", "global"),
    [NUM_SEQS] = BY_ADDRESS("num_seqs", "sequences", "scalar", "live", "global"),
};

static int describe(void* instance, lockstep_description* out, char* message) {
  (void)instance, (void)message;
  out->size = sizeof(*out);
  out->device = LOCKSTEP_CPU;
  out->name = "good";
  out->fields = kFields;
  out->num_fields = NUM_FIELDS;
  out->stages = kStages;
  out->num_stages = NUM_STAGES;
  out->cache_dtypes = 1u << LOCKSTEP_F32 | 1u << LOCKSTEP_F16 | 1u << LOCKSTEP_BF16;
  out->workspace_per_dim = sizeof(double); /* the running sum of one row */
  return LOCKSTEP_OK;
}

/* Everything that changes from step to step is read where the kernel runs: there is nothing to prepare. */
static int prepare(void* instance, const lockstep_prepare* step, void* launch, char* message) {
  (void)instance, (void)step, (void)launch, (void)message;
  return LOCKSTEP_OK;
}

static int run(void* instance, const lockstep_run* args, char* message) {
  (void)instance, (void)message;
  if (args->stage == STORE)
    store(args);
  else
    attend(args, args->fields[LENGTHS].data);
  return LOCKSTEP_OK;
}

static void destroy(void* instance) { (void)instance; }

int lockstep_backend_get(uint32_t abi, lockstep_backend* out) {
  if (abi != LOCKSTEP_BACKEND_ABI || out->size < sizeof(*out)) return LOCKSTEP_UNIMPLEMENTED;
  *out = (lockstep_backend){sizeof(*out), LOCKSTEP_BACKEND_ABI, 0, describe, prepare, run, destroy};
  return LOCKSTEP_OK;
}
