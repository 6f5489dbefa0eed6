// The kernel of embedding: a gather that waits for memory, so one for all instruction sets.
#pragma once

#include "kernels/embedding/embedding.h"

namespace lockstep::reference {
void embedding(const EmbeddingArgs& args, Worker worker);
}  // namespace lockstep::reference
