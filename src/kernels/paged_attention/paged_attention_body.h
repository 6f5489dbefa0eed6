// paged_attention over a vector type: the body of the AVX2 and AVX-512 kernels.
#pragma once

#include "kernels/paged_attention/attention_tile.h"
#include "kernels/paged_attention/paged_attention_kernels.h"

namespace lockstep {

template <typename V>
void paged_attention_body(const PagedAttentionArgs& args, Worker worker) {
  zero_idle_rows<V>(args, worker);
  const AttentionScratch scratch =
      AttentionScratch::of(args.workspace.data, args.cache.head_dim, worker.index);
  with_float_type(args.cache.dtype, [&]<typename T>() {
    AttentionTile now{};
    bool any = false;
    for_attention_tiles(args, worker, [&](const AttentionTile& tile) {
      if (any) AttentionTileWork<V, T, PagedAttentionArgs>(args, scratch, now).run(&tile);
      now = tile;
      any = true;
    });
    if (any) AttentionTileWork<V, T, PagedAttentionArgs>(args, scratch, now).run(nullptr);
  });
}

}  // namespace lockstep
