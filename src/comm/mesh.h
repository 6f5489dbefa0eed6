// Mesh: where a rank stands among all ranks, and the groups that it belongs to.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "comm/communicator.h"
#include "comm/ledger.h"
#include "device/device.h"

namespace lockstep {

// How many ranks do what. World = dp * cp * tp.
struct MeshShape {
  int32_t tp = 1;                // shares of every layer
  int32_t dp = 1;                // replicas with requests of their own
  int32_t cp = 1;                // shares of a prompt's rows
  bool expert_parallel = false;  // whole experts to the tp * dp ranks; else every expert is cut into tp parts

  int32_t world() const { return tp * dp * cp; }
  bool operator==(const MeshShape&) const = default;
};
std::string describe(const MeshShape& shape);  // "tp 2, dp 2, cp 1, experts over 4 ranks"

struct MeshPlace {
  int32_t tp = 0;
  int32_t cp = 0;
  int32_t dp = 0;
  bool operator==(const MeshPlace&) const = default;
};
// Tensor ranks are innermost: rank = (dp * shape.cp + cp) * shape.tp + tp.
MeshPlace place_of(const MeshShape& shape, int32_t rank);
int32_t rank_of(const MeshShape& shape, const MeshPlace& place);
// The ranks of the group of that name which `rank` is in, in order; empty for a name that no mesh knows.
std::vector<int32_t> group_members(const MeshShape& shape, std::string_view group, int32_t rank);

// Where communicators come from: threads of one process, or MPI.
class Fabric {
 public:
  virtual ~Fabric() = default;
  virtual int32_t rank() const = 0;  // in the world
  virtual int32_t size() const = 0;
  // Splits the world: ranks of one color are one group, in order of world ranks. All ranks call it together.
  virtual Result<std::unique_ptr<Communicator>> split(std::string_view name, int32_t color,
                                                      Ledger* ledger) = 0;
};

// Thread: one owner, as its communicators. Lives longer than whoever computes with it.
class Mesh {
 public:
  // Of a rank that is alone.
  Mesh();
  // All ranks of the fabric call it together. Errors: kInvalidArgument when the shape's world is not the
  // fabric's.
  static Result<std::unique_ptr<Mesh>> create(const MeshShape& shape, std::unique_ptr<Fabric> fabric);
  // Of a rank that nobody has started: for whoever asks what it would hold. Every collective of more than one
  // fails with kUnimplemented. Precondition: a shape of degrees from 1, and one of its ranks.
  static std::unique_ptr<Mesh> without_ranks(const MeshShape& shape, int32_t rank);

  const MeshShape& shape() const { return shape_; }
  const MeshPlace& place() const { return place_; }
  int32_t rank() const { return rank_of(shape_, place_); }
  bool leads() const { return place_.tp == 0 && place_.cp == 0; }  // plans for its replica

  Communicator& world() { return *world_; }
  Communicator& tp() { return *tp_; }
  Communicator& cp() { return *cp_; }
  Communicator& dp() { return *dp_; }            // ranks of the same tp and cp index
  Communicator& experts() { return *experts_; }  // all tp * dp ranks of this cp index
  Communicator& replica() { return *replica_; }  // all tp * cp ranks of this dp index; its rank 0 leads
  Ledger& ledger() { return ledger_; }
  const Ledger& ledger() const { return ledger_; }

  // From now on the groups whose members exchange numbers do so between devices: tp, cp, and dp where experts
  // are shared. Groups that are connected already stay so. All ranks call it together, before anything
  // computes; `device` is this one's. Errors: those of make_device_link.
  Status connect(Device& device);
  // Communicator::settle() of the connected groups: after a step has been enqueued.
  Status settle();

  // Closes every group; so does a group that fails. ok as long as nothing has failed.
  void fail(const Status& why);
  Status status() const;

 private:
  std::array<std::unique_ptr<Communicator>*, 6> groups();

  MeshShape shape_;
  MeshPlace place_;
  Ledger ledger_;
  std::unique_ptr<Fabric> fabric_;
  std::unique_ptr<Communicator> world_, tp_, cp_, dp_, experts_, replica_;
};

}  // namespace lockstep
