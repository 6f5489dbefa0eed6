#include "device/memory_map.h"

namespace lockstep {

std::optional<MemoryMap::Found> MemoryMap::find(const void* address) const {
  for (const Arena* arena : arenas_) {
    if (!arena->contains(address)) continue;
    const int32_t allocation = arena->allocation_at(address);
    if (allocation < 0) return std::nullopt;
    return Found{arena, allocation};
  }
  return std::nullopt;
}

Handle MemoryMap::handle(const void* address) const {
  const std::optional<Found> found = find(address);
  if (!found) return {.arena = "?", .allocation = "?"};
  const Arena::Allocation& allocation = found->arena->allocation(found->allocation);
  return {.arena = found->arena->name(),
          .allocation = allocation.name,
          .offset = found->arena->offset_of(address),
          .generation = allocation.generation};
}

std::string MemoryMap::describe(const void* address) const {
  const std::optional<Found> found = find(address);
  if (!found) return "an address in no arena";
  const Arena::Allocation& allocation = found->arena->allocation(found->allocation);
  return concat(found->arena->name(), "/", allocation.name, "+",
                found->arena->offset_of(address) - allocation.offset, " (generation ", allocation.generation,
                ")");
}

}  // namespace lockstep
