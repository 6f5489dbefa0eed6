// Graphs: captured under one batch and replayed under others, for long, and never other bits than eager. The
// same cases for every kind of rig: R has Options, Candidate, create(), begin(), end(), step(), out().
#pragma once

#include <cstring>

#include "conformance/conformance.h"
#include "conformance/rig.h"

namespace lockstep::conformance {

// Two rigs that are told the same and must come to the same bits.
template <typename R>
class Pair {
 public:
  static Result<Pair> create(const typename R::Candidate& candidate, const typename R::Options& first,
                             const typename R::Options& second) {
    Pair pair;
    pair.first_ = LS_TRY(R::create(candidate, first));
    pair.second_ = LS_TRY(R::create(candidate, second));
    return pair;
  }

  int32_t begin() {
    first_->begin();
    return second_->begin();
  }
  void end(int32_t sequence) {
    first_->end(sequence);
    second_->end(sequence);
  }
  Status prefill(int32_t sequence, int32_t rows) {
    const RigStep step = prefill_step(sequence, rows);
    LS_TRY(first_->step(step));
    LS_TRY(second_->step(step));
    return same();
  }
  Status decode(std::span<const int32_t> sequences, int32_t bucket, std::array<Mode, 2> modes, bool compare) {
    LS_TRY(first_->decode(sequences, bucket, modes[0], compare));
    LS_TRY(second_->decode(sequences, bucket, modes[1], false));
    return same();
  }

 private:
  Status same() const {
    const std::vector<float>& a = first_->out();
    const std::vector<float>& b = second_->out();
    if (std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0) return {};
    size_t at = 0;
    while (std::memcmp(&a[at], &b[at], sizeof(float)) == 0) ++at;
    return error(Code::kInternal, "step ", first_->plan().scalar(field::epoch), ": output ", at, " is ",
                 a[at], " one way and ", b[at], " the other; expected the same bits");
  }

  std::unique_ptr<R> first_;
  std::unique_ptr<R> second_;
};

// Batches of changing size and members in graphs of 1, 2 and 4 sequences; lengths grow past pages and past
// the kernel's blocks; sequences end and others take what they held.
template <typename R>
Status changing(Pair<R>& pair, std::array<Mode, 2> modes, int32_t steps) {
  std::vector<int32_t> batch = {pair.begin(), pair.begin(), pair.begin()};
  for (size_t i = 0; i < batch.size(); ++i) LS_TRY(pair.prefill(batch[i], 5 + 9 * static_cast<int32_t>(i)));
  for (int32_t step = 0; step < steps; ++step) {
    const auto live = static_cast<size_t>(1 + step % 3);
    const int32_t bucket = live == 3 ? 4 : static_cast<int32_t>(live);
    LS_TRY(pair.decode({batch.data() + (3 - live), live}, bucket, modes, step % 7 == 0));
    if (step % 40 != 39) continue;
    pair.end(batch[0]);
    batch = {batch[1], batch[2], pair.begin()};
    LS_TRY(pair.prefill(batch[2], 1 + step % 33));
  }
  return {};
}

// Captured under one short sequence of a bucket of four, replayed under others.
template <typename R>
Status capture_then_others(const typename R::Candidate& candidate, const typename R::Options& options) {
  const auto rig = LS_TRY(R::create(candidate, options));
  for (int32_t i = 0; i < 4; ++i) {
    const int32_t sequence = rig->begin();
    LS_TRY(rig->step(prefill_step(sequence, 1 + 11 * i)));
  }
  const std::vector<std::vector<int32_t>> batches = {{0}, {3}, {2, 3, 0}, {3, 1, 0, 2}, {2}, {1, 3}};
  for (int32_t round = 0; round < 8; ++round) {
    for (const std::vector<int32_t>& batch : batches) LS_TRY(rig->decode(batch, 4, Mode::kGraph));
  }
  const size_t graphs = rig->rig().runner().graphs();
  if (graphs == 1) return {};
  return error(Code::kInternal, "rig: ", graphs, " graphs; expected one for all batches");
}

// FR5: several sizes captured in a row, each before any of them is replayed.
template <typename R>
Status sizes_in_a_row(const typename R::Candidate& candidate, const typename R::Options& options) {
  const auto rig = LS_TRY(R::create(candidate, options));
  const int32_t all[] = {rig->begin(), rig->begin(), rig->begin(), rig->begin()};
  const std::span<const int32_t> every(all);
  for (int32_t round = 0; round < 20; ++round) {
    for (const int32_t size : {4, 1, 3, 2}) {
      const int32_t live = 1 + (round + size) % size;
      LS_TRY(rig->decode(every.last(static_cast<size_t>(live)), size, Mode::kGraph));
    }
  }
  return {};
}

// What is allocated after a capture moves nothing that the graph holds.
template <typename R>
Status decoy(const typename R::Candidate& candidate, const typename R::Options& options) {
  const auto rig = LS_TRY(R::create(candidate, options));
  const int32_t both[] = {rig->begin(), rig->begin()};
  LS_TRY(rig->decode(both, 2, Mode::kGraph));
  for (int32_t i = 0; i < 20; ++i) {
    const TensorView view = LS_TRY(rig->rig().work().allocate("decoy", DType::kF32, {256}));
    std::vector<float> poison(256);
    fill_poison(Poison::kNan, poison);
    LS_TRY(rig->rig().upload(view, poison.data()));
    LS_TRY(rig->decode(both, 2, Mode::kGraph));
  }
  return {};
}

// Tens of thousands of replays; the plan on the device is looked at before and after each.
template <typename R>
Status many_replays(const typename R::Candidate& candidate, const typename R::Options& options,
                    int32_t replays_to_do) {
  const auto rig = LS_TRY(R::create(candidate, options));
  std::vector<int32_t> batch = {rig->begin(), rig->begin(), rig->begin()};
  for (int32_t step = 0; step < replays_to_do; ++step) {
    for (int32_t& sequence : batch) {
      if (rig->planner().length(sequence) < 20 + 30 * (sequence % 4)) continue;
      rig->end(sequence);
      sequence = rig->begin();
    }
    const auto live = static_cast<size_t>(1 + step % 3);
    LS_TRY(rig->decode({batch.data(), live}, live == 3 ? 4 : 2, Mode::kGraph, step % 101 == 0));
  }
  const int64_t replays = rig->rig().runner().replays();
  if (replays == replays_to_do) return {};
  return error(Code::kInternal, "rig: ", replays, " replays; expected ", replays_to_do);
}

// Two ways to run that must come to the same bits.
template <typename R>
struct OtherWay {
  typename R::Options options;
  std::array<Mode, 2> modes = {Mode::kGraph, Mode::kGraph};
  int32_t steps = 60;
};
template <typename R>
Status same_bits(const typename R::Candidate& candidate, const typename R::Options& options,
                 const OtherWay<R>& other) {
  Pair<R> pair = LS_TRY(Pair<R>::create(candidate, options, other.options));
  return changing(pair, other.modes, other.steps);
}

// All of the above; `tiny` has two layers and room for 4 sequences of 160 tokens.
template <typename R>
std::vector<Case> graph_cases(const typename R::Candidate& candidate, const typename R::Options& tiny) {
  using Options = typename R::Options;
  Options late = tiny, plan = tiny, full = tiny, threads = tiny;
  late.pace = Pace::kLate;
  plan.level = GuardLevel::kPlan;
  full.level = GuardLevel::kFull;
  threads.threads = 3;
  const std::array<Mode, 2> eager = {Mode::kGraph, Mode::kEager};
  std::vector<Case> cases = {
      {"graph_equals_eager",
       [=] { return same_bits<R>(candidate, tiny, {.options = tiny, .modes = eager, .steps = 160}); }},
      {"late", [=] { return same_bits<R>(candidate, tiny, {.options = late}); }},
      {"level_plan", [=] { return same_bits<R>(candidate, tiny, {.options = plan}); }},
      {"level_full", [=] { return same_bits<R>(candidate, tiny, {.options = full}); }},
      {"threads", [=] { return same_bits<R>(candidate, tiny, {.options = threads, .steps = 20}); }}};
  cases.push_back({"capture_then_others", [=] { return capture_then_others<R>(candidate, tiny); }});
  cases.push_back({"sizes_in_a_row", [=] { return sizes_in_a_row<R>(candidate, tiny); }});
  cases.push_back({"decoy", [=] { return decoy<R>(candidate, tiny); }});
  cases.push_back({"many_replays", [=] { return many_replays<R>(candidate, tiny, 30000); }});
  return cases;
}

}  // namespace lockstep::conformance
