/* Lockstep's C interface for attention backends made by others. C11, no dependency but <stdint.h>.
 *
 * A backend is a shared module with one entry, lockstep_backend_get. It says what it reads of the step plan
 * (describe), turns one step's plan into a launch (prepare), and does the work of one layer (run). Lockstep
 * hands it exactly the plan fields that it has declared and holds every one to the contract: in graphs, at
 * replays, and under `lockstep doctor --backend ./mine.so`, which runs the conformance suite against it.
 *
 * Lifetimes. Strings and arrays of a description belong to the backend and stay as they are until destroy().
 * Everything that Lockstep passes in belongs to Lockstep and is valid during the call alone, but for the
 * memory behind views: device memory whose addresses hold for as long as the bucket's graphs do.
 * Threads. describe, prepare and destroy are called by one thread at a time. run is called by several at
 * once, one per part; it may touch nothing but what its stage declares.
 * Errors. Each call returns a lockstep_code and may leave a message: one sentence, who, what was given, what
 * was expected. A run that fails makes the step's outputs not a number, so that no token of it is used.
 * No callbacks, no ownership passes. Every struct begins with its size in bytes, set by whoever fills it in,
 * so that later versions may grow at the end. */
#ifndef LOCKSTEP_BACKEND_H
#define LOCKSTEP_BACKEND_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LOCKSTEP_BACKEND_ABI 1u
#define LOCKSTEP_MESSAGE_BYTES 256 /* of a message, its terminator included */
#define LOCKSTEP_NAME_BYTES 64     /* of a name, its terminator included */
#define LOCKSTEP_LAUNCH_BYTES 512  /* of what prepare() leaves for run() */
#define LOCKSTEP_MAX_RANK 8
#define LOCKSTEP_MAX_FIELDS 16
#define LOCKSTEP_MAX_STAGES 4

typedef enum lockstep_code {
  LOCKSTEP_OK = 0,
  LOCKSTEP_INVALID_ARGUMENT = 1,   /* fix the input */
  LOCKSTEP_NOT_FOUND = 2,          /* name something that exists */
  LOCKSTEP_UNIMPLEMENTED = 3,      /* choose another path */
  LOCKSTEP_RESOURCE_EXHAUSTED = 4, /* try later, or configure more */
  LOCKSTEP_DEVICE = 5,             /* this engine is lost */
  LOCKSTEP_INTERNAL = 6            /* report it */
} lockstep_code;

typedef enum lockstep_device { LOCKSTEP_CPU = 0 } lockstep_device;

typedef enum lockstep_dtype {
  LOCKSTEP_F32 = 0,
  LOCKSTEP_F16 = 1,
  LOCKSTEP_BF16 = 2,
  LOCKSTEP_I32 = 3,
  LOCKSTEP_I64 = 4,
  LOCKSTEP_U64 = 5,
  LOCKSTEP_U8 = 6
} lockstep_dtype;

/* Memory with a shape. Strides count elements and are the real ones: nothing may be assumed of them. */
typedef struct lockstep_view {
  void* data;
  int32_t dtype;  /* lockstep_dtype */
  int32_t device; /* lockstep_device */
  int32_t rank;
  int32_t reserved; /* 0 */
  int64_t shape[LOCKSTEP_MAX_RANK];
  int64_t strides[LOCKSTEP_MAX_RANK];
} lockstep_view;

/* --- describe ------------------------------------------------------------------------------------------ */

typedef enum lockstep_feed {
  LOCKSTEP_BY_ADDRESS = 0, /* the kernel reads it when it runs: follows every replay of a graph */
  LOCKSTEP_BY_VALUE = 1    /* prepare() reads numbers on the host: frozen when a graph is captured */
} lockstep_feed;

/* How far a number that a graph has captured may differ from the live one. */
typedef enum lockstep_freeze {
  LOCKSTEP_EXACT = 0,       /* not at all: a key. A live field read so keeps its backend out of graphs */
  LOCKSTEP_UPPER_BOUND = 1, /* the live value may be smaller */
  LOCKSTEP_LOWER_BOUND = 2  /* the live value may be larger */
} lockstep_freeze;

/* One field of the step plan, and what the backend takes it for. docs/fields.md lists all fields; Lockstep
 * refuses a description that mistakes one: lengths for offsets, live counts for padded ones. */
typedef struct lockstep_field {
  uint32_t size;
  int32_t feed;       /* lockstep_feed */
  int32_t freeze;     /* lockstep_freeze; by value only */
  int32_t reserved;   /* 0 */
  const char* name;   /* "seq_lens" */
  const char* unit;   /* "tokens", "rows", "pages", "slots", "states", "sequences", "none" */
  const char* form;   /* "per sequence", "cumulative", "per row", "scalar" */
  const char* extent; /* "live" or "padded" */
  const char* space;  /* "global" or "rank-local" */
} lockstep_field;

typedef enum lockstep_access {
  LOCKSTEP_READ = 0,
  LOCKSTEP_WRITE = 1,
  LOCKSTEP_READ_WRITE = 2
} lockstep_access;

typedef enum lockstep_tensor {
  LOCKSTEP_Q = 0,          /* [T, H, D] f32 */
  LOCKSTEP_K = 1,          /* [T, K, D] f32: this step's keys */
  LOCKSTEP_V = 2,          /* [T, K, D] f32 */
  LOCKSTEP_OUT = 3,        /* [T, H, D] f32: every row is written, pad rows with zeros */
  LOCKSTEP_CACHE = 4,      /* the layer's keys and values; only the slots of live rows are written */
  LOCKSTEP_PAGE_TABLE = 5, /* [R, M] i32: page of each table row and index */
  LOCKSTEP_WORKSPACE = 6,  /* [W] u8 */
  LOCKSTEP_TENSORS = 7     /* how many there are */
} lockstep_tensor;

typedef enum lockstep_strides {
  LOCKSTEP_DENSE = 0,      /* the innermost dimensions lie side by side */
  LOCKSTEP_ANY_STRIDES = 1 /* every dimension's real stride is honoured */
} lockstep_strides;

typedef enum lockstep_pad_rows {
  LOCKSTEP_PADS_ZERO = 0,     /* written as zeros, whatever the inputs held (out) */
  LOCKSTEP_PADS_UNTOUCHED = 1 /* pad rows write nothing (cache) */
} lockstep_pad_rows;

typedef enum lockstep_rows {
  LOCKSTEP_ALL_ROWS = 0,   /* every row of the bucket, pad rows included */
  LOCKSTEP_LIVE_ROWS = 1,  /* what pad rows hold enters nothing */
  LOCKSTEP_OWNED_ROWS = 2, /* the pages and slots that the plan names for live rows */
  LOCKSTEP_NO_ROWS = 3     /* not indexed by row */
} lockstep_rows;

/* One tensor that a stage touches. */
typedef struct lockstep_use {
  uint32_t size;
  int32_t tensor;     /* lockstep_tensor */
  int32_t access;     /* lockstep_access */
  int32_t strides;    /* lockstep_strides */
  int32_t pads;       /* lockstep_pad_rows; of what is written */
  int32_t rows;       /* lockstep_rows: which it touches */
  int32_t index_bits; /* of the widest offset in bytes that it computes, signed: 64 or 32 */
  int32_t reserved;   /* 0 */
} lockstep_use;

/* One launch of a layer. All of a stage is done before the next begins. */
typedef struct lockstep_stage {
  uint32_t size;
  uint32_t num_uses;
  const char* name; /* "store" */
  const lockstep_use* uses;
  int32_t parallel; /* 0: one part does it all; 1: every thread has a part */
  int32_t reserved; /* 0 */
} lockstep_stage;

typedef struct lockstep_description {
  uint32_t size;
  int32_t device;   /* lockstep_device that run() works on */
  const char* name; /* "naive"; letters, digits, '_' and '-' */
  const lockstep_field* fields;
  const lockstep_stage* stages;
  uint32_t num_fields;
  uint32_t num_stages;   /* 1 to LOCKSTEP_MAX_STAGES */
  uint32_t cache_dtypes; /* bit 1 << dtype for each cache that it serves */
  int32_t max_head_dim;  /* 0: any */
  /* Workspace in bytes: threads * (workspace_fixed + workspace_per_dim * D). */
  int64_t workspace_fixed;
  int64_t workspace_per_dim;
  /* What every plan must be before the backend takes it; 0: no such need. */
  int32_t needs_uniform_query_len; /* rows of every live sequence */
  int32_t needs_max_query_len;     /* rows of a sequence at most */
  int32_t needs_min_seq_len;       /* tokens of a live sequence at least */
  int32_t needs_rows_multiple_of;  /* of the padded rows */
} lockstep_description;

/* --- prepare ------------------------------------------------------------------------------------------- */

/* A declared field as this step binds it. */
typedef struct lockstep_bound {
  uint32_t size;
  int32_t feed;           /* as declared */
  lockstep_view view;     /* by address: device memory; read it in run(), not here */
  const int64_t* numbers; /* by value */
  int64_t count;
} lockstep_bound;

typedef struct lockstep_prepare {
  uint32_t size;
  uint32_t num_fields;
  const lockstep_bound* fields; /* in the order of the description */
} lockstep_prepare;

/* --- run ----------------------------------------------------------------------------------------------- */

typedef struct lockstep_run {
  uint32_t size;
  int32_t stage; /* index in the description */
  int32_t part;  /* 0 to parts - 1: no two parts write the same byte */
  int32_t parts;
  int32_t layer;               /* softmax layers, from 0 */
  float scale;                 /* of q . k */
  const void* launch;          /* LOCKSTEP_LAUNCH_BYTES that prepare() left: what a graph captures */
  const lockstep_view* fields; /* [num_fields], as prepare() had them; no memory for those by value */
  lockstep_view q, k, v, out, workspace, page_table;
  /* [P, K, B, D / c, c] each: page, head, token, chunk, element. Page 0 is the reserved pad page. */
  lockstep_view keys, values;
} lockstep_run;

/* --- the backend --------------------------------------------------------------------------------------- */

typedef struct lockstep_backend {
  uint32_t size;  /* set by the caller: room; set by the backend: what it has filled in */
  uint32_t abi;   /* LOCKSTEP_BACKEND_ABI */
  void* instance; /* the backend's own; passed to every call */

  /* What it reads and does. Called once. */
  int (*describe)(void* instance, lockstep_description* out, char message[LOCKSTEP_MESSAGE_BYTES]);
  /* Pure: from the declared fields to `launch`, LOCKSTEP_LAUNCH_BYTES of zeros when called. Called for every
   * step, replays of graphs included; the bytes must come out as captured then. */
  int (*prepare)(void* instance, const lockstep_prepare* step, void* launch,
                 char message[LOCKSTEP_MESSAGE_BYTES]);
  /* One part of one stage of one layer. */
  int (*run)(void* instance, const lockstep_run* run, char message[LOCKSTEP_MESSAGE_BYTES]);
  void (*destroy)(void* instance); /* the last call */
} lockstep_backend;

/* The entry of a module. Fills in *out, which the caller has zeroed but for its size.
 * Errors: LOCKSTEP_UNIMPLEMENTED for an ABI that it does not speak; nothing is destroyed then. */
int lockstep_backend_get(uint32_t abi, lockstep_backend* out);

#ifdef __cplusplus
}
#endif

#endif
