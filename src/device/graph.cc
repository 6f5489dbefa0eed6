#include "device/graph.h"

#include <algorithm>
#include <cstring>
#include <sstream>

#include "base/fault.h"

namespace lockstep {
namespace {

const unsigned char* member(const internal::LaunchNode& node, const OpArg& arg) {
  return node.bytes.data() + arg.offset;
}

// The kernel's address lies behind the Args.
bool same_kernel(const internal::LaunchNode& a, const internal::LaunchNode& b) {
  if (a.thunk != b.thunk || a.bytes.size() != b.bytes.size()) return false;
  const size_t at = a.bytes.size() - sizeof(void*);
  return std::memcmp(a.bytes.data() + at, b.bytes.data() + at, sizeof(void*)) == 0;
}

bool same_site(const LaunchSite& a, const LaunchSite& b) {
  return a.spec == b.spec && a.stage == b.stage && a.layer == b.layer;
}

std::string text_of(const LaunchSite& site) {
  return concat(site.op(), " (", site.stage, ", layer ", site.layer, ")");
}

// A member as a person reads it: numbers by their width, tensors by shape, everything else as words.
std::string text_of(const internal::LaunchNode& node, const OpArg& arg) {
  const unsigned char* bytes = member(node, arg);
  std::ostringstream out;
  if (arg.kind == ArgKind::kTensor) {
    TensorView view;
    std::memcpy(&view, bytes, sizeof(view));
    out << view.shape << " " << view.dtype << " strides "
        << Shape(std::span<const int64_t>(view.strides.data(), static_cast<size_t>(view.shape.rank)))
        << " at " << view.data;
    return out.str();
  }
  if (arg.bytes == 1 || arg.bytes == 2) {
    uint16_t number = 0;
    std::memcpy(&number, bytes, static_cast<size_t>(arg.bytes));
    out << number;
  } else if (arg.bytes == 4) {
    int32_t number = 0;
    std::memcpy(&number, bytes, sizeof(number));
    out << number;
  } else {
    out << std::hex;
    for (int32_t i = 0; i + 8 <= arg.bytes; i += 8) {
      uint64_t word = 0;
      std::memcpy(&word, bytes + i, sizeof(word));
      out << (i == 0 ? "0x" : " 0x") << word;
    }
  }
  return out.str();
}

// Addresses that a member carries: one of most kinds, two of a cache.
struct Addresses {
  const void* address[2] = {nullptr, nullptr};
};

const void* word_at(const unsigned char* bytes) {
  const void* address = nullptr;
  std::memcpy(&address, bytes, sizeof(address));
  return address;
}

Addresses addresses_of(const internal::LaunchNode& node, const OpArg& arg) {
  if (arg.kind == ArgKind::kValue) return {};
  const unsigned char* bytes = member(node, arg);
  return {{word_at(bytes), arg.second_address > 0 ? word_at(bytes + arg.second_address) : nullptr}};
}

}  // namespace

Graph::~Graph() { give_back(); }

void Graph::clear() {
  give_back();
  executable_.reset();
  nodes_.clear();
}

void Graph::give_back() {
  for (const Lease& lease : leases_) lease.arena->give_back(lease.allocation);
  leases_.clear();
  versions_.clear();
}

LaunchRecord Graph::record(size_t launch) const {
  const internal::LaunchNode& node = nodes_[launch];
  return {.site = node.site, .args = node.bytes.data(), .args_bytes = node.args_bytes};
}

LaunchDifference Graph::compare(const Graph& first, const Graph& second) {
  const size_t count = std::min(first.nodes_.size(), second.nodes_.size());
  for (size_t i = 0; i < count; ++i) {
    const internal::LaunchNode& a = first.nodes_[i];
    const internal::LaunchNode& b = second.nodes_[i];
    LaunchDifference difference{.launch = static_cast<int32_t>(i), .site = a.site};
    if (!same_site(a.site, b.site)) {
      difference.first = text_of(a.site);
      difference.second = text_of(b.site);
      return difference;
    }
    if (!same_kernel(a, b) || a.parts != b.parts) {
      difference.first = concat("a kernel of ", text_of(a.site));
      difference.second = "another kernel";
      return difference;
    }
    for (const OpArg& arg : a.site.spec->args) {
      if (std::memcmp(member(a, arg), member(b, arg), static_cast<size_t>(arg.bytes)) == 0) continue;
      difference.argument = arg.name;
      difference.first = text_of(a, arg);
      difference.second = text_of(b, arg);
      return difference;
    }
  }
  if (first.nodes_.size() == second.nodes_.size()) return {};
  const auto& longer = first.nodes_.size() > count ? first.nodes_ : second.nodes_;
  return {.launch = static_cast<int32_t>(count),
          .site = longer[count].site,
          .argument = {},
          .first = concat(first.nodes_.size(), " launches"),
          .second = concat(second.nodes_.size(), " launches")};
}

Status Graph::lease(const MemoryMap& map) {
  give_back();
  for (const Arena* arena : map.arenas()) versions_.push_back({arena, arena->replacements()});
  for (size_t i = 0; i < nodes_.size(); ++i) {
    for (const OpArg& arg : nodes_[i].site.spec->args) {
      for (const void* address : addresses_of(nodes_[i], arg).address) {
        if (address == nullptr) continue;
        LS_TRY(lease_address(map, static_cast<int32_t>(i), arg.name, address));
      }
    }
  }
  return {};
}

Status Graph::lease_address(const MemoryMap& map, int32_t launch, std::string_view argument,
                            const void* address) {
  const std::optional<MemoryMap::Found> found = map.find(address);
  if (!found) {
    return broken({.check = "R1",
                   .moment = Moment::kCapture,
                   .consumer = text_of(nodes_[static_cast<size_t>(launch)].site),
                   .field = std::string(argument),
                   .expected = "memory of an arena, which a graph can lease",
                   .found = "at an address in no arena"});
  }
  for (const Lease& lease : leases_) {
    if (lease.arena == found->arena && lease.allocation == found->allocation) return {};
  }
  found->arena->lease(found->allocation);
  leases_.push_back({.arena = found->arena,
                     .allocation = found->allocation,
                     .generation = found->arena->allocation(found->allocation).generation,
                     .launch = launch,
                     .argument = argument});
  return {};
}

Status Graph::check_leases() const {
  bool same = true;
  for (const Version& version : versions_) same = same && version.arena->replacements() == version.replaced;
  if (same) return {};
  for (const Lease& lease : leases_) {
    const Arena::Allocation& now = lease.arena->allocation(lease.allocation);
    if (now.generation == lease.generation) continue;
    Status status = broken({.check = "R1",
                            .moment = Moment::kReplay,
                            .consumer = text_of(nodes_[static_cast<size_t>(lease.launch)].site),
                            .field = std::string(lease.argument),
                            .expected = concat(lease.arena->name(), "/", now.name, " generation ",
                                               lease.generation, ", as captured"),
                            .found = concat("at generation ", now.generation, ": the memory was replaced")});
    if (!status.ok()) return status;
  }
  return {};
}

}  // namespace lockstep
