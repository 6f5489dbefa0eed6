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
  const MeshPlace& at = mesh->place_;
  const std::array<int32_t, 6> colors = {
      0, at.dp * shape.cp + at.cp, at.dp * shape.tp + at.tp, at.cp * shape.tp + at.tp, at.cp, at.dp};
  const std::array<Named, 6> groups = mesh->groups();
  for (size_t i = 0; i < groups.size(); ++i) {
    *groups[i].group = LS_TRY(fabric->split(groups[i].name, colors[i], &mesh->ledger_));
  }
  mesh->fabric_ = std::move(fabric);
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
