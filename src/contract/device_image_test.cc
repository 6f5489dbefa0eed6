#include "contract/device_image.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "plan/validate/simulation.h"

namespace lockstep {
namespace {

struct Image {
  Arena arena;
  DeviceImage device;

  static Image of(const StepLimits& limits) {
    const ImageLayout largest(limits, {.rows = PaddedRows(limits.max_rows),
                                       .seqs = PaddedSeqs(limits.max_seqs),
                                       .logits_rows = PaddedRows(limits.max_logits_rows)});
    Arena arena = Arena::create("image", largest.bytes()).value();
    DeviceImage device = DeviceImage::create(limits, arena).value();
    return {std::move(arena), device};
  }
  Status refresh(const StepPlan& plan) {
    Stream stream(1);
    StagingRing staging(1, static_cast<int64_t>(plan.image().size()));
    return device.refresh(plan, stream, staging);
  }
};

// What a kernel takes the elements of a field for.
DType dtype_of(Element element) {
  switch (element) {
    case Element::kF32: return DType::kF32;
    case Element::kU64: return DType::kU64;
    case Element::kI64: return DType::kI64;
    default: return DType::kI32;
  }
}

// Calls body(id, group) for every field that the plan has.
template <typename Body>
void for_each_field(const StepPlan& plan, const Body& body) {
  for (const FieldInfo& info : kFields) {
    for (int32_t g = 0; g < kMaxGroups; ++g) {
      if (g < std::max(1, plan.layout().num_groups()) && plan.layout().place(info.id, GroupId(g)).offset >= 0)
        body(info, GroupId(g));
    }
  }
}

TEST(DeviceImage, HoldsEveryFieldsBytesOfRandomPlans) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(concat("seed ", seed));
    Simulation simulation(seed);
    Image image = Image::of(simulation.limits());
    StepPlan plan;
    for (int step = 0; step < 20; ++step) {
      ASSERT_TRUE(simulation.next(plan).ok());
      ASSERT_TRUE(image.refresh(plan).ok());
      int64_t fields = 0;
      for_each_field(plan, [&](const FieldInfo& info, GroupId group) {
        const TensorView view = image.device.view(plan.layout(), info.id, group);
        const ImageLayout::Place& place = plan.layout().place(info.id, group);
        EXPECT_EQ(view.dtype, dtype_of(info.element)) << info.name;
        EXPECT_EQ(view.dim(0), place.count) << info.name;
        ASSERT_EQ(view.bytes(), int64_t{place.count} * info.element_bytes) << info.name;
        EXPECT_TRUE(image.arena.contains(view.data)) << info.name;
        EXPECT_EQ(
            std::memcmp(view.data, plan.image().data() + place.offset, static_cast<size_t>(view.bytes())), 0)
            << info.name << " of group " << group;
        ++fields;
      });
      EXPECT_GE(fields, kNumFields - 6);  // fields of paged groups may be absent
    }
  }
}

TEST(DeviceImage, ReadsAsTheTypesOfTheFieldTable) {
  Simulation simulation(3);
  Image image = Image::of(simulation.limits());
  StepPlan plan;
  do {
    ASSERT_TRUE(simulation.next(plan).ok());
  } while (plan.scalar(field::num_seqs).get() < 2);
  ASSERT_TRUE(image.refresh(plan).ok());

  const auto at = [&](FieldId id) { return image.device.view(plan.layout(), id, GroupId(0)).tensor(); };
  const TensorView positions = at(FieldId::positions), starts = at(FieldId::query_start_loc);
  const TensorView segments = at(FieldId::cp_segments), seeds = at(FieldId::seed);

  for (size_t row = 0; row < plan.get(field::positions).size(); ++row)
    EXPECT_EQ(positions.as<int32_t>()[row], plan.get(field::positions)[row].get()) << "row " << row;
  EXPECT_EQ(starts.dim(0), plan.bucket().seqs.get() + 1);
  EXPECT_EQ(starts.as<int32_t>()[1], plan.get(field::query_start_loc)[1].get());
  EXPECT_EQ(segments.shape, Shape({plan.bucket().seqs.get(), 4}));
  EXPECT_EQ(segments.as<int32_t>()[4 + 2], plan.get(field::cp_segments)[1].next.start.get());
  EXPECT_EQ(seeds.dtype, DType::kU64);
}

TEST(DeviceImage, KeepsEveryFieldAtItsAddressForOneBucket) {
  struct BucketOrder {
    bool operator()(const Bucket& a, const Bucket& b) const {
      return std::tuple(a.rows, a.seqs, a.logits_rows) < std::tuple(b.rows, b.seqs, b.logits_rows);
    }
  };
  int64_t met_again = 0;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(concat("seed ", seed));
    Simulation simulation(seed);
    Image image = Image::of(simulation.limits());
    std::map<Bucket, std::map<std::pair<FieldId, int32_t>, const void*>, BucketOrder> addresses;
    StepPlan plan;
    for (int step = 0; step < 200; ++step) {
      ASSERT_TRUE(simulation.next(plan).ok());
      ASSERT_TRUE(image.refresh(plan).ok());
      auto& known = addresses[plan.bucket()];
      met_again += known.empty() ? 0 : 1;
      for_each_field(plan, [&](const FieldInfo& info, GroupId group) {
        const void* address = image.device.view(plan.layout(), info.id, group).data;
        EXPECT_EQ(known.try_emplace({info.id, group.get()}, address).first->second, address) << info.name;
      });
    }
  }
  EXPECT_GT(met_again, 10);
}

TEST(DeviceImage, RefusesAPlanThatIsLargerThanItsLimits) {
  Simulation simulation(1);
  StepPlan plan;
  ASSERT_TRUE(simulation.next(plan).ok());
  StepLimits small = simulation.limits();
  small.max_edits = 1;
  small.max_copies = 0;
  small.max_rows = small.max_seqs = small.max_logits_rows = 1;
  Image image = Image::of(small);
  const ImageLayout most(small, {.rows = PaddedRows(1), .seqs = PaddedSeqs(1), .logits_rows = PaddedRows(1)});

  const Status status = image.refresh(plan);

  EXPECT_EQ(status.code(), Code::kInternal);
  EXPECT_EQ(status.message(), concat("plan 1: image of ", plan.image().size(), " bytes; expected at most ",
                                     most.bytes(), " as the limits give"));
}

TEST(DeviceImage, RefusesAnArenaThatIsTooSmall) {
  Simulation simulation(1);
  Arena arena = Arena::create("tiny", 1).value();
  (void)*arena.allocate("all of it", DType::kU8, {arena.capacity()});

  const Result<DeviceImage> image = DeviceImage::create(simulation.limits(), arena);

  ASSERT_FALSE(image.ok());
  EXPECT_EQ(image.status().code(), Code::kResourceExhausted);
}

}  // namespace
}  // namespace lockstep
