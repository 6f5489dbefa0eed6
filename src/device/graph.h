// Graph: launches recorded once and replayed many times, with the bytes of their Args as they were. What a
// launch carries by value, and every address, is frozen; what lies behind the addresses is not.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "device/memory_map.h"
#include "device/stream.h"

namespace lockstep {

// The first thing in which two recordings of one program differ.
struct LaunchDifference {
  int32_t launch = -1;   // index in the recording; -1: they are the same
  LaunchSite site;       // of that launch, in the first recording
  std::string argument;  // of its Args; empty: another launch altogether
  std::string first;     // as a person reads it
  std::string second;
};

// Thread: one owner. Move only; stays where it is while a stream has a replay of it to do.
class Graph {
 public:
  Graph() = default;
  Graph(Graph&&) = default;
  Graph& operator=(Graph&&) = default;
  ~Graph();

  std::span<const internal::LaunchNode> launches() const { return nodes_; }
  LaunchRecord record(size_t launch) const;
  void clear();

  // The first launch at which the recordings differ: which kernel, which op, stage and layer, and every
  // member of its Args as its OpSpec describes them.
  static LaunchDifference compare(const Graph& first, const Graph& second);

  // Takes a lease on the memory behind every address that the launches carry: freeing it is refused by name
  // while the graph lives, and replacing it is seen by check_leases().
  // Errors: kInternal (R1), naming the launch and the argument whose address lies in no arena of `map`.
  Status lease(const MemoryMap& map);
  // Whether all leased memory is what it was. Errors: kInternal (R1), naming launch, argument and both
  // generations. Cost: one comparison per arena unless something was replaced.
  Status check_leases() const;

 private:
  friend class Stream;
  struct Lease {
    const Arena* arena = nullptr;
    int32_t allocation = 0;
    uint64_t generation = 0;
    int32_t launch = 0;  // the first that uses it
    std::string_view argument;
  };
  struct Version {
    const Arena* arena = nullptr;
    uint64_t replaced = 0;
  };
  Status lease_address(const MemoryMap& map, int32_t launch, std::string_view argument, const void* address);
  void give_back();

  std::vector<internal::LaunchNode> nodes_;
  std::unique_ptr<DeviceGraph> executable_;  // null: launched one by one
  std::vector<Lease> leases_;
  std::vector<Version> versions_;
};

}  // namespace lockstep
