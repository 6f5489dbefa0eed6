// The kernels of the cache ops, one per instruction set.
#pragma once

#include "kernels/kv_cache/kv_cache.h"

namespace lockstep::reference {
void store_kv(const StoreKvArgs& args, Worker worker);
// These two move integers and bytes and serve every table.
void table_edits(const TableEditsArgs& args, Worker worker);
void copy_pages(const CopyPagesArgs& args, Worker worker);
}  // namespace lockstep::reference
namespace lockstep::avx2 {
void store_kv(const StoreKvArgs& args, Worker worker);
}
namespace lockstep::avx512 {
void store_kv(const StoreKvArgs& args, Worker worker);
}
