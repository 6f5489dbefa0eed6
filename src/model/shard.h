// A shard of a model: what one rank computes of it, as a DecoderSpec with fewer heads, narrower mlps, fewer
// experts and fewer rows of the vocabulary. Blocks run on it unchanged; where a result is a part of a sum
// they say so to the mesh.
//
// What is cut, over tp ranks (n of them, rank r):
//   query heads                     H / n, r-th part
//   key and value heads             K / n, r-th part; with n > K each head is held by n / K ranks, and a
//   rank's
//                                   query heads are those of its one key head
//   delta heads                     key heads / n, each with its value heads
//   dense, shared, expert widths    F / n (experts stay whole where they are parallel)
//   embedding and head              ceil(V / n) rows each; the last rank's end in rows of zeros
// and, where experts are parallel, over all expert ranks: X / ranks whole experts each. Norms, the router and
// the shared expert's gate are on every rank.
#pragma once

#include "base/status.h"
#include "comm/mesh.h"
#include "model/decoder_spec.h"

namespace lockstep {

// Which shard. A rank that is alone has the whole model.
struct ShardSpec {
  int32_t tp_rank = 0;
  int32_t tp = 1;
  int32_t expert_rank = 0;
  int32_t expert_ranks = 1;      // tp * dp where experts are parallel, else 1
  bool expert_parallel = false;  // whole experts to expert ranks; else every expert is cut over tp
  bool operator==(const ShardSpec&) const = default;
};

// The shard of the rank at `place`.
ShardSpec shard_of(const MeshShape& shape, const MeshPlace& place);

// Errors: kInvalidArgument, naming the flag, what it does not divide, and the sizes that would fit:
// "--tensor-parallel-size is 3; expected a divisor of num_attention_heads = 16; choose 1, 2 or 4".
Result<DecoderSpec> shard(const DecoderSpec& whole, const ShardSpec& place);

}  // namespace lockstep
