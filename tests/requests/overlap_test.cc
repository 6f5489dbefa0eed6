// Steps that begin while the one before is under way: every request brings what it brings where each step
// waits for the one before, and nothing of a step counts that the device read wrongly.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "support/engines.h"
#include "support/model_folder.h"
#include "support/transcript.h"

namespace lockstep::testing {
namespace {

// A request that comes before some step and, perhaps, goes before its end.
struct Visit {
  Request request;
  int64_t comes = 0;
  int64_t goes = -1;  // -1: never
};

std::vector<Visit> random_visits(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto pick = [&random](int32_t least, int32_t most) {
    return std::uniform_int_distribution<int32_t>(least, most)(random);
  };
  std::vector<Visit> visits;
  int64_t now = 0;
  for (int32_t i = 0; i < 24; ++i) {
    Visit visit;
    Request& request = visit.request;
    const int32_t prompt = pick(1, 40);
    for (int32_t t = 0; t < prompt; ++t) request.prompt_ids.push_back(pick(1, 250));
    request.max_tokens = pick(1, 30);
    request.temperature = pick(0, 2) * 0.6f;
    request.logprobs = pick(-1, 2);
    request.seed = static_cast<uint64_t>(pick(0, 1000));
    request.ignore_eos = pick(0, 3) == 0;
    if (pick(0, 3) == 0) request.repetition_penalty = 1.2f;
    if (pick(0, 7) == 0) request.forced = {5, 6, 7, 8};
    visit.comes = now;
    if (pick(0, 4) == 0) visit.goes = now + pick(1, 12);
    if (pick(0, 2) == 0) now += pick(1, 9);
    visits.push_back(visit);
  }
  return visits;
}

struct Brought {
  Transcripts transcripts;
  EngineStats stats;
};

Brought attend(const EngineConfig& config, const std::vector<Visit>& visits) {
  Brought brought;
  const auto engine = make_engine(config);
  if (engine == nullptr) return brought;
  size_t next = 0;
  for (int64_t now = 0; next < visits.size() || engine->has_work(); ++now) {
    if (now > 10'000) {
      ADD_FAILURE() << "requests do not end";
      break;
    }
    for (; next < visits.size() && visits[next].comes <= now; ++next) {
      const Result<uint64_t> id = engine->add(visits[next].request);
      EXPECT_EQ(id.status().message(), "");
      EXPECT_EQ(id.ok() ? *id : 0, next + 1);
    }
    for (size_t i = 0; i < next; ++i) {
      if (visits[i].goes == now) engine->cancel(i + 1);
    }
    step(*engine, brought.transcripts);
  }
  EXPECT_TRUE(engine->idle());
  brought.stats = engine->stats();
  return brought;
}

// Few pages, so that sequences lose theirs; every sixth id ends a text.
EngineConfig crowded(const std::string& folder) {
  EngineConfig config = small_config(folder);
  config.threads = 1;
  config.max_num_seqs = 6;
  config.max_num_batched_tokens = 40;
  config.chunk_size = 16;
  config.max_model_len = 96;
  config.num_pages = 13;
  config.graph_sizes = {2, 4, 6};
  return config;
}

void expect_same(const Brought& alone, const Brought& overlapped, const std::vector<Visit>& visits) {
  for (size_t i = 0; i < visits.size(); ++i) {
    SCOPED_TRACE(concat("request ", i + 1));
    const auto of = [i](const Brought& run) {
      const auto found = run.transcripts.find(i + 1);
      return found == run.transcripts.end() ? Transcript{} : found->second;
    };
    const Transcript one = of(alone), other = of(overlapped);
    EXPECT_EQ(one.error, "");
    EXPECT_EQ(other.error, "");
    size_t tokens = one.tokens.size();
    if (visits[i].goes >= 0) {  // it had as many steps, but perhaps others
      tokens = std::min(tokens, other.tokens.size());
    } else {
      EXPECT_EQ(one.finish, other.finish);
      EXPECT_EQ(one.tokens.size(), other.tokens.size());
    }
    if (other.tokens.size() < tokens) continue;
    for (size_t t = 0; t < tokens; ++t) EXPECT_EQ(one.tokens[t], other.tokens[t]) << "token " << t;
    for (size_t t = 0; t < std::min(one.logprobs.size(), other.logprobs.size()); ++t) {
      EXPECT_EQ(one.logprobs[t].logprob, other.logprobs[t].logprob) << "token " << t;  // bit for bit
      EXPECT_EQ(one.logprobs[t].top, other.logprobs[t].top) << "token " << t;
    }
  }
}

class Overlapped : public ::testing::TestWithParam<std::string_view> {};

TEST_P(Overlapped, BringsTheSameAsStepByStep) {
  const ModelFolder folder(golden_folder(std::string(GetParam())));
  std::string stops = "0";
  for (int32_t id = 6; id < 250; id += 6) stops += concat(", ", id);
  folder.write("generation_config.json", concat(R"({"eos_token_id": [)", stops, "]}"));
  EngineConfig config = crowded(folder.path());
  EngineStats sum;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE(concat("seed ", seed));
    const std::vector<Visit> visits = random_visits(seed);
    config.overlap = Overlap::kNever;
    config.pace = Pace::kAtOnce;
    const Brought alone = attend(config, visits);
    EXPECT_EQ(alone.stats.overlapped, 0);
    for (const Pace pace : {Pace::kAtOnce, Pace::kLate}) {
      SCOPED_TRACE(pace == Pace::kLate ? "late" : "at once");
      config.overlap = Overlap::kAlways;
      config.pace = pace;
      const Brought overlapped = attend(config, visits);
      expect_same(alone, overlapped, visits);
      sum.steps += overlapped.stats.steps;
      sum.overlapped += overlapped.stats.overlapped;
      sum.dropped_rows += overlapped.stats.dropped_rows;
      sum.preemptions += overlapped.stats.preemptions;
      for (const auto& [reason, steps] : overlapped.stats.not_overlapped) sum.not_overlapped[reason] += steps;
    }
  }
  EXPECT_GT(sum.overlapped, sum.steps / 2);
  EXPECT_GT(sum.dropped_rows, 10);
  EXPECT_GT(sum.preemptions, 4);
  for (const std::string_view reason : {"nothing was under way", "a sequence had to give its pages back",
                                        "the scores of given tokens are read from logits",
                                        "the step before was the last of all its sequences"}) {
    EXPECT_GT(sum.not_overlapped[std::string(reason)], 0) << reason;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Overlapped, ::testing::Values("qwen3", "qwen3_next"),
                         [](const auto& info) { return std::string(info.param); });

// Writes to a length in the plan on the device, once, in front of the `skipped + 1`th draw.
struct Vandal {
  Executor& executor;
  int32_t skipped;

  static void before(void* self, const LaunchRecord& launch) {
    auto& [executor, left] = *static_cast<Vandal*>(self);
    if (launch.site.op() != "sample" || left-- != 0) return;
    const ImageLayout layout(executor.options().limits,
                             {.rows = PaddedRows(2), .seqs = PaddedSeqs(2), .logits_rows = PaddedRows(2)});
    const FieldView lens = executor.runner().image().view(layout, FieldId::seq_lens, GroupId(0));
    static_cast<int32_t*>(lens.data)[0] ^= 1 << 20;
  }
};

// The step behind it is on its way by then: its image has taken the place, and its outcome does not count.
TEST(OverlappedSteps, EndWithTheStepThatTheDeviceReadWronglyAndGoOnAfterwards) {
  EngineConfig config = crowded(golden_folder("qwen3"));
  config.overlap = Overlap::kAlways;
  config.pace = Pace::kLate;
  const auto engine = make_engine(config);
  const Transcript alone = run_alone(*engine, greedy({11, 12, 13}, 9));
  ASSERT_EQ(alone.tokens.size(), 9u);
  ASSERT_TRUE(engine->add(greedy({1, 2, 3}, 20)).ok());
  ASSERT_TRUE(engine->add(greedy({4, 5}, 20)).ok());
  Vandal vandal{engine->executor(), 4};
  engine->executor().stream().set_observer({.before = Vandal::before, .after = nullptr, .self = &vandal});
  std::map<uint64_t, std::string> errors;
  std::map<uint64_t, size_t> tokens;
  while (engine->has_work()) {
    for (const RequestOutput& output : engine->step()) {
      tokens[output.id] += output.tokens.size();
      if (output.finish != FinishReason::kNone) errors[output.id] = output.error;
    }
  }
  engine->executor().stream().set_observer({});

  EXPECT_TRUE(engine->idle());
  EXPECT_EQ(tokens, (std::map<uint64_t, size_t>{{2, 4}, {3, 4}}));
  ASSERT_EQ(errors.size(), 2u);
  for (const auto& [id, error] : errors) {
    EXPECT_NE(error.find(": R4 a kernel of the step: seq_lens is digest "), std::string::npos) << error;
  }
  EXPECT_EQ(run_alone(*engine, greedy({11, 12, 13}, 9)).tokens, alone.tokens);
}

TEST(OverlappedSteps, AreNotBegunWhereTheyCouldNotBeHeldToTheirPlans) {
  EngineConfig config = crowded(golden_folder("qwen3"));
  const auto engine = make_engine(config);
  const DecoderSpec& spec = engine->model().spec;
  config.overlap = Overlap::kOnDevices;
  EXPECT_EQ(reason_against_overlap(config, spec), "the CPU computes");
  config.overlap = Overlap::kNever;
  EXPECT_EQ(reason_against_overlap(config, spec), "not asked for");
  config.overlap = Overlap::kAlways;
  EXPECT_EQ(reason_against_overlap(config, spec), "");
  config.guard = GuardLevel::kFull;
  EXPECT_EQ(reason_against_overlap(config, spec), "guard level full");
  config.guard = GuardLevel::kReplay;
  DecoderSpec sparse = spec;
  sparse.softmax.sparse.emplace();
  EXPECT_EQ(reason_against_overlap(config, sparse), "derived fields are checked");
}

}  // namespace
}  // namespace lockstep::testing
