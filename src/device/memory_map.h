// MemoryMap: which arena, and which allocation in it, an address belongs to. Addresses in messages and
// records are (arena, offset, generation), the same in every run.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "device/arena.h"

namespace lockstep {

// An address as a person and another machine can read it.
struct Handle {
  std::string arena;
  std::string allocation;
  int64_t offset = 0;  // bytes from the beginning of the arena
  uint64_t generation = 0;
};

// Borrows its arenas. Thread: one owner.
class MemoryMap {
 public:
  void add(const Arena& arena) { arenas_.push_back(&arena); }
  std::span<const Arena* const> arenas() const { return arenas_; }

  struct Found {
    const Arena* arena = nullptr;
    int32_t allocation = 0;
  };
  // Nothing for an address in no allocation of any arena. Cost: O(arenas + log allocations).
  std::optional<Found> find(const void* address) const;
  Handle handle(const void* address) const;  // arena "?" where find() gives nothing
  // "activations/hidden+128 (generation 2)"
  std::string describe(const void* address) const;

 private:
  std::vector<const Arena*> arenas_;
};

}  // namespace lockstep
