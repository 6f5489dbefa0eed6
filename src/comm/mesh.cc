#include "comm/mesh.h"

#include "base/check.h"

namespace lockstep {
namespace {

// The only member of its group: the base class does all that there is to do.
class LoneCommunicator final : public Communicator {
 public:
  LoneCommunicator(std::string_view name, Ledger* ledger) : Communicator(Membership{name, 0, {0}}, ledger) {}

 private:
  Status run(const Exchange&) override { return {}; }
  void close(const Status&) override {}
};

// A member of a group whose others are not there.
class UnstartedCommunicator final : public Communicator {
 public:
  explicit UnstartedCommunicator(Membership group) : Communicator(std::move(group), nullptr) {}

 private:
  Status run(const Exchange& exchange) override {
    return error(Code::kUnimplemented, name(), ": ", describe(exchange.call), " among ", size(),
                 " ranks, none of which has been started; expected a mesh of a fabric");
  }
  void close(const Status&) override {}
};

// Ranks of the same color are one group; in the order of Mesh::groups().
std::array<int32_t, 6> colors_of(const MeshShape& shape, const MeshPlace& at) {
  return {0, at.dp * shape.cp + at.cp, at.dp * shape.tp + at.tp, at.cp * shape.tp + at.tp, at.cp, at.dp};
}

}  // namespace

std::string describe(const MeshShape& shape) {
  std::string text = concat("tp ", shape.tp, ", dp ", shape.dp, ", cp ", shape.cp);
  if (shape.expert_parallel) text += concat(", experts over ", shape.tp * shape.dp, " ranks");
  return text;
}

MeshPlace place_of(const MeshShape& shape, int32_t rank) {
  return {.tp = rank % shape.tp, .cp = rank / shape.tp % shape.cp, .dp = rank / (shape.tp * shape.cp)};
}

int32_t rank_of(const MeshShape& shape, const MeshPlace& place) {
  return (place.dp * shape.cp + place.cp) * shape.tp + place.tp;
}

Mesh::Mesh() {
  for (const auto& [group, name] : groups()) *group = std::make_unique<LoneCommunicator>(name, &ledger_);
}

std::array<Mesh::Named, 6> Mesh::groups() {
  return {{{&world_, "world"},
           {&tp_, "tp"},
           {&cp_, "cp"},
           {&dp_, "dp"},
           {&experts_, "experts"},
           {&replica_, "replica"}}};
}

Result<std::unique_ptr<Mesh>> Mesh::create(const MeshShape& shape, std::unique_ptr<Fabric> fabric) {
  if (shape.tp < 1 || shape.dp < 1 || shape.cp < 1 ||
      int64_t{shape.tp} * shape.dp * shape.cp != fabric->size()) {
    return error(Code::kInvalidArgument, "mesh: ", describe(shape), " with ", fabric->size(),
                 fabric->size() == 1 ? " rank" : " ranks", " started; expected tp * dp * cp of them");
  }
  auto mesh = std::make_unique<Mesh>();
  mesh->shape_ = shape;
  mesh->place_ = place_of(shape, fabric->rank());
  const std::array<int32_t, 6> colors = colors_of(shape, mesh->place_);
  const std::array<Named, 6> groups = mesh->groups();
  for (size_t i = 0; i < groups.size(); ++i) {
    *groups[i].group = LS_TRY(fabric->split(groups[i].name, colors[i], &mesh->ledger_));
  }
  mesh->fabric_ = std::move(fabric);
  return mesh;
}

std::unique_ptr<Mesh> Mesh::without_ranks(const MeshShape& shape, int32_t rank) {
  LS_CHECK(rank >= 0 && rank < shape.world(), "rank ", rank, " of ", shape.world());
  auto mesh = std::make_unique<Mesh>();
  mesh->shape_ = shape;
  mesh->place_ = place_of(shape, rank);
  const std::array<int32_t, 6> colors = colors_of(shape, mesh->place_);
  const std::array<Named, 6> groups = mesh->groups();
  for (size_t i = 0; i < groups.size(); ++i) {
    Membership group{.name = groups[i].name, .rank = 0, .members = {}};
    for (int32_t other = 0; other < shape.world(); ++other) {
      if (colors_of(shape, place_of(shape, other))[i] != colors[i]) continue;
      if (other == rank) group.rank = static_cast<int32_t>(group.members.size());
      group.members.push_back(other);
    }
    *groups[i].group = std::make_unique<UnstartedCommunicator>(std::move(group));
  }
  return mesh;
}

void Mesh::fail(const Status& why) {
  for (const auto& [group, name] : groups()) (*group)->fail(why);
}

Status Mesh::status() const {
  for (const Communicator* group :
       {world_.get(), tp_.get(), cp_.get(), dp_.get(), experts_.get(), replica_.get()}) {
    LS_TRY(group->status());
  }
  return {};
}

}  // namespace lockstep
