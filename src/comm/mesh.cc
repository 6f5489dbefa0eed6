#include "comm/mesh.h"

#include <algorithm>

#include "base/check.h"
#include "comm/registry.h"

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
struct Color {
  std::string_view group;
  int32_t color;
};
std::array<Color, 6> colors_of(const MeshShape& shape, const MeshPlace& at) {
  return {{{"world", 0},
           {"tp", at.dp * shape.cp + at.cp},
           {"cp", at.dp * shape.tp + at.tp},
           {"dp", at.cp * shape.tp + at.tp},
           {"experts", at.cp},
           {"replica", at.dp}}};
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

std::vector<int32_t> group_members(const MeshShape& shape, std::string_view group, int32_t rank) {
  const auto color_in = [&](int32_t of) {
    for (const auto& [name, color] : colors_of(shape, place_of(shape, of))) {
      if (name == group) return color;
    }
    return -1;
  };
  std::vector<int32_t> members;
  const int32_t own = color_in(rank);
  for (int32_t other = 0; own >= 0 && other < shape.world(); ++other) {
    if (color_in(other) == own) members.push_back(other);
  }
  return members;
}

Mesh::Mesh() {
  const auto names = colors_of(shape_, place_);
  for (size_t i = 0; i < names.size(); ++i)
    *groups()[i] = std::make_unique<LoneCommunicator>(names[i].group, &ledger_);
}

// In the order of colors_of().
std::array<std::unique_ptr<Communicator>*, 6> Mesh::groups() {
  return {&world_, &tp_, &cp_, &dp_, &experts_, &replica_};
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
  const auto colors = colors_of(shape, mesh->place_);
  for (size_t i = 0; i < colors.size(); ++i)
    *mesh->groups()[i] = LS_TRY(fabric->split(colors[i].group, colors[i].color, &mesh->ledger_));
  // What is computed after an exchange has failed is of no use, so nobody is to hear of it in another group.
  for (std::unique_ptr<Communicator>* group : mesh->groups())
    (*group)->on_fail([all = mesh.get()](const Status& why) { all->fail(why); });
  mesh->fabric_ = std::move(fabric);
  return mesh;
}

std::unique_ptr<Mesh> Mesh::without_ranks(const MeshShape& shape, int32_t rank) {
  LS_CHECK(rank >= 0 && rank < shape.world(), "rank ", rank, " of ", shape.world());
  auto mesh = std::make_unique<Mesh>();
  mesh->shape_ = shape;
  mesh->place_ = place_of(shape, rank);
  const auto colors = colors_of(shape, mesh->place_);
  for (size_t i = 0; i < colors.size(); ++i) {
    Membership group{
        .name = colors[i].group, .rank = 0, .members = group_members(shape, colors[i].group, rank)};
    group.rank = static_cast<int32_t>(std::ranges::find(group.members, rank) - group.members.begin());
    *mesh->groups()[i] = std::make_unique<UnstartedCommunicator>(std::move(group));
  }
  return mesh;
}

Status Mesh::connect(Device& device) {
  for (Communicator* group : {tp_.get(), cp_.get(), dp_.get()}) {
    const bool exchanges = group != dp_.get() || shape_.expert_parallel;
    if (group->size() == 1 || !exchanges || group->connected()) continue;
    group->connect(LS_TRY(make_device_link(*group, device)));
  }
  return {};
}

Status Mesh::settle() {
  for (Communicator* group : {tp_.get(), cp_.get(), dp_.get()}) LS_TRY(group->settle());
  return {};
}

void Mesh::fail(const Status& why) {
  for (const std::unique_ptr<Communicator>* group : groups()) (*group)->fail(why);
}

Status Mesh::status() const {
  for (const Communicator* group :
       {world_.get(), tp_.get(), cp_.get(), dp_.get(), experts_.get(), replica_.get()}) {
    LS_TRY(group->status());
  }
  return {};
}

}  // namespace lockstep
