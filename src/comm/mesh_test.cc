#include "comm/mesh.h"

#include <gtest/gtest.h>

#include "comm/test_cases.h"
#include "comm/thread_fabric.h"

namespace lockstep::comm_test {
namespace {

// Runs `rank(mesh)` on every rank of a world of threads.
template <typename Rank>
void on_mesh(const MeshShape& shape, Rank rank) {
  const auto world = std::make_shared<ThreadWorld>(shape.world(), kPatient);
  on_threads(shape.world(), [&](int32_t r) {
    auto mesh = Mesh::create(shape, std::make_unique<ThreadFabric>(world, r));
    ASSERT_TRUE(mesh.ok()) << mesh.status().message();
    rank(**mesh);
  });
}

// The world ranks of a group, as its members tell each other.
std::vector<int32_t> who_is_in(Communicator& group, int32_t rank) {
  std::vector<int32_t> all(static_cast<size_t>(group.size()));
  EXPECT_TRUE(
      group
          .all_gather(std::as_bytes(std::span(&rank, 1)), std::as_writable_bytes(std::span(all)), DType::kI32)
          .ok());
  return all;
}

constexpr MeshShape kShapes[] = {{.tp = 1},
                                 {.tp = 2},
                                 {.dp = 3},
                                 {.cp = 2},
                                 {.tp = 2, .dp = 2},
                                 {.tp = 2, .cp = 2},
                                 {.tp = 2, .dp = 2, .cp = 2}};

TEST(Mesh, GivesEveryRankOnePlaceAndEveryPlaceOneRank) {
  const MeshShape shape{.tp = 3, .dp = 2, .cp = 4};
  for (int32_t rank = 0; rank < shape.world(); ++rank) EXPECT_EQ(rank_of(shape, place_of(shape, rank)), rank);

  EXPECT_EQ(place_of(shape, 0), (MeshPlace{.tp = 0, .cp = 0, .dp = 0}));
  EXPECT_EQ(place_of(shape, 1), (MeshPlace{.tp = 1, .cp = 0, .dp = 0})) << "tensor ranks are innermost";
  EXPECT_EQ(place_of(shape, 3), (MeshPlace{.tp = 0, .cp = 1, .dp = 0}));
  EXPECT_EQ(place_of(shape, 12), (MeshPlace{.tp = 0, .cp = 0, .dp = 1}));
}

TEST(Mesh, PutsRanksIntoGroupsByTheirPlaces) {
  for (const MeshShape& shape : kShapes) {
    SCOPED_TRACE(describe(shape));
    on_mesh(shape, [&](Mesh& mesh) {
      const auto with = [&](auto same) {
        std::vector<int32_t> ranks;
        for (int32_t r = 0; r < shape.world(); ++r) {
          if (same(place_of(shape, r), mesh.place())) ranks.push_back(r);
        }
        return ranks;
      };
      using P = const MeshPlace&;
      const int32_t rank = mesh.rank();
      EXPECT_EQ(who_is_in(mesh.world(), rank), with([](P, P) { return true; }));
      EXPECT_EQ(who_is_in(mesh.tp(), rank), with([](P a, P b) { return a.dp == b.dp && a.cp == b.cp; }));
      EXPECT_EQ(who_is_in(mesh.cp(), rank), with([](P a, P b) { return a.dp == b.dp && a.tp == b.tp; }));
      EXPECT_EQ(who_is_in(mesh.dp(), rank), with([](P a, P b) { return a.cp == b.cp && a.tp == b.tp; }));
      EXPECT_EQ(who_is_in(mesh.experts(), rank), with([](P a, P b) { return a.cp == b.cp; }));
      EXPECT_EQ(who_is_in(mesh.replica(), rank), with([](P a, P b) { return a.dp == b.dp; }));
      for (Communicator* group :
           {&mesh.world(), &mesh.tp(), &mesh.cp(), &mesh.dp(), &mesh.experts(), &mesh.replica()})
        EXPECT_EQ(group_members(shape, group->name(), rank), who_is_in(*group, rank)) << group->name();
      EXPECT_TRUE(group_members(shape, "pp", rank).empty());
      EXPECT_EQ(mesh.leads(), mesh.replica().rank() == 0);
      const auto members = mesh.dp().members();
      EXPECT_EQ(std::vector<int32_t>(members.begin(), members.end()), who_is_in(mesh.dp(), rank));
    });
  }
}

TEST(Mesh, OfARankThatIsAloneHasGroupsOfOne) {
  Mesh mesh;
  EXPECT_TRUE(mesh.leads());
  EXPECT_EQ(mesh.rank(), 0);
  EXPECT_EQ(mesh.shape(), MeshShape{});
  for (Communicator* group :
       {&mesh.world(), &mesh.tp(), &mesh.cp(), &mesh.dp(), &mesh.experts(), &mesh.replica()}) {
    EXPECT_EQ(who_is_in(*group, 5), std::vector<int32_t>{5});
  }
  EXPECT_EQ(mesh.ledger().entered(), 0u) << "a rank that is alone tells nobody anything";
}

TEST(Mesh, RefusesAShapeThatIsNotTheWorlds) {
  const auto create = [](const MeshShape& shape, int32_t ranks) {
    return Mesh::create(shape,
                        std::make_unique<ThreadFabric>(std::make_shared<ThreadWorld>(ranks, kPatient), 0))
        .status();
  };

  EXPECT_EQ(
      create({.tp = 2, .dp = 2, .expert_parallel = true}, 3).message(),
      "mesh: tp 2, dp 2, cp 1, experts over 4 ranks with 3 ranks started; expected tp * dp * cp of them");
  EXPECT_EQ(create({.tp = 2}, 1).code(), Code::kInvalidArgument);
  EXPECT_EQ(create({.tp = 0}, 1).message(),
            "mesh: tp 0, dp 1, cp 1 with 1 rank started; expected tp * dp * cp of them");
}

TEST(Mesh, OfARankThatNobodyStartedKnowsItsGroupsAndExchangesNothing) {
  for (const MeshShape& shape : kShapes) {
    SCOPED_TRACE(describe(shape));
    on_mesh(shape, [&](Mesh& started) {
      const auto mesh = Mesh::without_ranks(shape, started.rank());
      EXPECT_EQ(mesh->place(), started.place());
      const auto expect_same = [](const Communicator& group, const Communicator& other) {
        EXPECT_EQ(group.rank(), other.rank());
        EXPECT_TRUE(std::equal(group.members().begin(), group.members().end(), other.members().begin(),
                               other.members().end()));
      };
      expect_same(mesh->world(), started.world());
      expect_same(mesh->tp(), started.tp());
      expect_same(mesh->cp(), started.cp());
      expect_same(mesh->dp(), started.dp());
      expect_same(mesh->experts(), started.experts());
      expect_same(mesh->replica(), started.replica());
    });
  }
  std::vector<std::byte> bytes(4);
  EXPECT_EQ(Mesh::without_ranks({.tp = 2}, 1)->tp().broadcast(bytes, 0, DType::kF32).message(),
            "tp: broadcast of 1 f32 among 2 ranks, none of which has been started; expected a mesh of a "
            "fabric");
}

TEST(Mesh, ClosesEveryGroupWithOneReason) {
  on_mesh({.tp = 2, .dp = 2}, [](Mesh& mesh) {
    EXPECT_TRUE(mesh.status().ok());
    who_is_in(mesh.world(), mesh.rank());
    if (mesh.rank() != 3) {
      // Rank 0 shares no tensor group with rank 3, and hears of it in the world.
      std::vector<std::byte> bytes(1);
      EXPECT_EQ(mesh.world().broadcast(bytes, 0, DType::kU8).message(), "rank 3 has had enough");
    } else {
      mesh.fail(error(Code::kDevice, "rank 3 has had enough"));
      EXPECT_EQ(mesh.experts().status().message(), "rank 3 has had enough");
    }
    EXPECT_EQ(mesh.status().message(), "rank 3 has had enough");
  });
}

TEST(Mesh, WritesWhatItsGroupsEnterIntoOneLedger) {
  on_mesh({.tp = 2, .dp = 2}, [](Mesh& mesh) {
    mesh.ledger().begin_step(11);
    who_is_in(mesh.tp(), mesh.rank());
    who_is_in(mesh.cp(), mesh.rank());
    who_is_in(mesh.experts(), mesh.rank());

    const std::vector<CollectiveEntry> entries = mesh.ledger().last(10);
    ASSERT_EQ(entries.size(), 2u) << "a group of one says nothing";
    EXPECT_EQ(entries[0].group, "tp");
    EXPECT_EQ(entries[1].group, "experts");
    EXPECT_EQ(entries[1].sequence, 2u);
    EXPECT_EQ(entries[1].epoch, 11u);
    EXPECT_EQ(entries[1].op, "all_gather");
    EXPECT_EQ(entries[1].dtype, DType::kI32);
    EXPECT_EQ(entries[1].count, 1);
    EXPECT_TRUE(entries[1].finished);
  });
}

}  // namespace
}  // namespace lockstep::comm_test
