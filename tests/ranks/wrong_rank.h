// Ranks of an engine, one of which does one wrong thing, as ranks of the field did: for drills over threads
// and over processes. Everything is the engine's own, up to the moment at which that rank goes its own way.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "comm/control.h"
#include "comm/mesh.h"

namespace lockstep::testing {

struct WrongRank;

struct RankDrill {
  std::string_view name;                     // "own row count"
  std::string_view fault;                    // of the gallery or a field report: "G1f"; empty: invented
  int32_t rank = -1;                         // that does it; -1: nobody
  Status (*act)(WrongRank& self) = nullptr;  // instead of a step; null: the engine's own steps
  std::string_view kv_layout;                // that this rank is configured with; empty: as the others
  bool crosses_groups = false;  // ranks wait in different groups: only who watches over all can see that
};

// Two replicas of two tensor-parallel ranks, whose experts are shared by all: the second field report's.
inline constexpr MeshShape kDrillShape{.tp = 2, .dp = 2, .expert_parallel = true};

// The first one has nothing wrong with it.
std::span<const RankDrill> rank_drills();

// What a rank plays with.
struct RankStage {
  const RankDrill& drill;
  Mesh& mesh;
  RankPulse* pulse = nullptr;
  std::string model;                 // folder of a checkpoint with experts
  std::string device = "cpu";        // of this rank
  std::function<void()> goes_wrong;  // called on the wrong rank, right before
};

// Serves three requests of the first replica, while the second has none, until the end or the first failure,
// which closes the mesh. ok: nobody has noticed anything.
Status play_rank(const RankStage& stage);

}  // namespace lockstep::testing
