#include "comm/notice.h"

#include <gtest/gtest.h>

#include "base/fault.h"

namespace lockstep {
namespace {

TEST(Notice, CarriesAFailureWithItsFault) {
  const Fault fault{.check = "G1",
                    .moment = Moment::kGroup,
                    .consumer = "tp",
                    .field = "participation",
                    .row = 4,
                    .rank = 3,
                    .step = 17,
                    .expected = "all 4 ranks",
                    .found = "without rank 3"};

  const Status heard = unpack_notice(
      pack_notice(Status(Code::kDevice, "in so many words", std::make_shared<const Fault>(fault))));

  EXPECT_EQ(heard.code(), Code::kDevice);
  EXPECT_EQ(heard.message(), "in so many words");
  ASSERT_NE(heard.fault(), nullptr);
  EXPECT_EQ(heard.fault()->message(), fault.message());
  EXPECT_EQ(heard.fault()->moment, Moment::kGroup);
  EXPECT_EQ(heard.fault()->rank, 3);
  EXPECT_EQ(heard.fault()->row, 4);
  EXPECT_EQ(heard.fault()->step, 17u);
}

TEST(Notice, CarriesAFailureWithoutAFault) {
  const Status heard = unpack_notice(pack_notice(error(Code::kResourceExhausted, "no pages")));
  EXPECT_EQ(heard.code(), Code::kResourceExhausted);
  EXPECT_EQ(heard.message(), "no pages");
  EXPECT_EQ(heard.fault(), nullptr);
}

TEST(Notice, IsNeverLongerThanItsLimit) {
  const std::string text(10000, 'x');
  const Fault fault{.check = text, .consumer = text, .field = text, .expected = text, .found = text};
  const auto bytes = pack_notice(Status(Code::kInternal, text, std::make_shared<const Fault>(fault)));
  EXPECT_LE(bytes.size(), kNoticeBytes);
  EXPECT_EQ(unpack_notice(bytes).message(), std::string(2048, 'x'));
}

TEST(Notice, ThatCannotBeReadIsAFailureToo) {
  const auto bytes = pack_notice(error(Code::kDevice, "gone"));
  for (size_t count = 0; count < bytes.size(); ++count) {
    EXPECT_EQ(unpack_notice(std::span(bytes).first(count)).message(),
              "comm: a rank has closed the group for a reason that cannot be read")
        << count;
  }
  auto unknown = bytes;
  unknown[0] = std::byte{77};
  EXPECT_EQ(unpack_notice(unknown).code(), Code::kInternal);
}

}  // namespace
}  // namespace lockstep
