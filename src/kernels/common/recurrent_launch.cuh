// Which kernels compute a recurrent op on the device: sequences of one row, those of several, and those that
// matrix units take. Each kernel leaves alone what is not its own, so that a sequence's bits depend on the
// sequence alone; the grids depend on shapes and on query_len.
#pragma once

#include "kernels/common/recurrent_rows.cuh"
#include "kernels/common/recurrent_scan.cuh"
#include "kernels/common/recurrent_singles.cuh"
#include "kernels/linear/linear.h"

namespace lockstep::cuda {

// Whether matrix units take the op's sequences of several rows.
inline bool suits_chunks(const RecurrentArgs& args, MatmulInput input) {
  const int64_t keys = args.q.dim(2), values = args.v.dim(2);
  return input == MatmulInput::kBF16 && (keys == 64 || keys == 128) && values % kScanColumns == 0 &&
         has_vectors(args.q) && has_vectors(args.k) && has_vectors(args.v) && args.out.strides[0] % 2 == 0 &&
         args.out.strides[1] % 2 == 0 && reinterpret_cast<uintptr_t>(args.out.data) % 8 == 0;
}

template <typename Op, int Q>
void launch_recurrent_of(const RecurrentArgs& args, int32_t query_len, const Worker& worker) {
  launch_singles<Op, Q>(args, worker);
  if (query_len == 1) return;
  launch_rows<Op, Q>(args, worker);
  if (!args.in_chunks) return;
  if (args.q.dim(2) == 64) launch_chunks<Op, 64>(args, worker);
  if (args.q.dim(2) == 128) launch_chunks<Op, 128>(args, worker);
}

// `workspace`: of the op's Args, whose sizes `shape` says.
template <typename Op, typename Args>
void launch_recurrent(RecurrentArgs recurrent, const Args& args, const ChunkShape& shape,
                      const Worker& worker) {
  auto& queue = *static_cast<CudaQueue*>(worker.queue);
  recurrent.in_chunks = suits_chunks(recurrent, args.input) && args.query_len != 1;
  recurrent.at = chunk_scratch(shape);
  recurrent.scratch = static_cast<unsigned char*>(args.workspace.data);
  if (recurrent.in_chunks && (args.workspace.elements() < recurrent.at.bytes ||
                              reinterpret_cast<uintptr_t>(recurrent.scratch) % 16 != 0)) {
    return queue.note(cudaErrorInvalidValue, "a recurrent op: the workspace of its chunks");
  }
  const int64_t keys = args.q.dim(2);
  if (keys <= 64) return launch_recurrent_of<Op, 1>(recurrent, args.query_len, worker);
  if (keys <= 128) return launch_recurrent_of<Op, 2>(recurrent, args.query_len, worker);
  if (keys <= 256) return launch_recurrent_of<Op, 4>(recurrent, args.query_len, worker);
  queue.note(cudaErrorInvalidValue, "a recurrent op: more than 256 keys");
}

}  // namespace lockstep::cuda
