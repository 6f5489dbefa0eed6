#include "guard/poison.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>

namespace lockstep {
namespace {

constexpr int kRounds = 2;

// What is written over an element, as its bits. Poison and fill differ, so that an output which kept its fill
// is told from one that poison reached.
uint64_t float_bits(DType dtype, int round, bool fill) {
  const uint64_t mark = fill ? 1 : 0;
  switch (dtype) {
    case DType::kF64: return round == 0 ? 0x7FF8DEAD00000000u + mark : 0x7FEFFFFFFFFFFFFFu - mark;
    case DType::kBF16: return round == 0 ? 0x7FC2u + mark : 0x7F7Fu - mark;
    case DType::kF16: return round == 0 ? 0x7E02u + mark : 0x7BFFu - mark;
    default: return round == 0 ? 0x7FC0DEA0u + mark : 0x7F7FFFFFu - mark;
  }
}

bool is_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF64 || dtype == DType::kBF16 || dtype == DType::kF16;
}

// Integers: just past the end, then below zero. Fills: numbers that nobody computes.
uint64_t pattern(const NamedOperand& operand, int round, bool fill) {
  if (is_float(operand.dtype)) return float_bits(operand.dtype, round, fill);
  if (fill || size_of(operand.dtype) == 1) return round == 0 ? 0xFFFFFFFFFFFFFFFFu : 0x7F7F7F7F7F7F7F7Fu;
  return round == 0 ? static_cast<uint64_t>(operand.bad_id) : static_cast<uint64_t>(-2);
}

uint64_t element_at(const std::byte* bytes, DType dtype) {
  uint64_t value = 0;
  std::memcpy(&value, bytes, static_cast<size_t>(size_of(dtype)));
  return value;
}

uint64_t low_bits(uint64_t value, DType dtype) {
  const int64_t bits = size_of(dtype) * 8;
  return bits == 64 ? value : value & ((uint64_t{1} << bits) - 1);
}

// The shortest text that is this number and no other.
template <typename T>
std::string shortest(T value) {
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return {text.data(), end};
}

std::string print(uint64_t bits, DType dtype) {
  switch (dtype) {
    case DType::kF32: return shortest(std::bit_cast<float>(static_cast<uint32_t>(bits)));
    case DType::kF64: return shortest(std::bit_cast<double>(bits));
    case DType::kBF16: {
      BFloat16 value;
      value.bits = static_cast<uint16_t>(bits);
      return shortest(static_cast<float>(value));
    }
    case DType::kF16: return shortest(Float16::from_bits(static_cast<uint16_t>(bits)));
    case DType::kI32: return concat(static_cast<int32_t>(bits));
    default: return concat(static_cast<int64_t>(bits));
  }
}

constexpr std::array<const char*, kRounds> kPoisons = {"NaN", "the largest number"};

}  // namespace

void Poison::before(const StepView& step, const LaunchRecord& launch) {
  read_launch(step, launch, memory_);
  take(memory_.saved, step.memory, before_);
}

Status Poison::after(const StepView& step, const LaunchRecord& launch) {
  take(memory_.saved, step.memory, after_);
  Status status = untouched(step, launch, before_, after_);
  const Snapshot* now = &after_;
  for (int round = 0; round < kRounds && status.ok(); ++round) {
    spoiled_ = before_;
    spoil(round);
    restore(memory_.saved, step.memory, *now, spoiled_);
    launch.rerun(launch.again);
    take(memory_.saved, step.memory, reruns_[round]);
    now = &reruns_[round];
    status = check_round(step, launch, round);
  }
  if (status.ok()) status = check_workspace(step, launch);
  restore(memory_.saved, step.memory, *now, after_);
  return status;
}

// Fills first: a pad row of an argument that is read and written in place is poison in the end.
void Poison::spoil(int round) {
  for (const bool fill : {true, false}) {
    for (const Run& run : memory_.runs) {
      if (!run.is(fill ? kStartsFresh : kEntersNothing)) continue;
      const NamedOperand& operand = memory_.operands[static_cast<size_t>(run.operand)];
      const uint64_t bits = pattern(operand, round, fill);
      const auto size = static_cast<size_t>(size_of(operand.dtype));
      std::byte* target = spoiled_.data() + memory_.saved.place(run.begin);
      for (size_t at = 0; at < static_cast<size_t>(run.bytes); at += size)
        std::memcpy(target + at, &bits, size);
    }
  }
}

Status Poison::check_round(const StepView& step, const LaunchRecord& launch, int round) {
  for (const Run& run : memory_.runs) {
    if (run.is(kStaysSame) || run.is(kIsZero) || run.is(kIsSkip)) LS_TRY(check_run(step, launch, run, round));
  }
  return untouched(step, launch, spoiled_, reruns_[round]);
}

Status Poison::check_run(const StepView& step, const LaunchRecord& launch, const Run& run, int round) {
  const NamedOperand& operand = memory_.operands[static_cast<size_t>(run.operand)];
  if (operand.workspace) return {};
  const auto place = static_cast<size_t>(memory_.saved.place(run.begin));
  const std::byte* real = after_.data() + place;
  const std::byte* rerun = reruns_[round].data() + place;
  const int64_t size = size_of(operand.dtype);
  if (run.is(kStaysSame) && std::memcmp(real, rerun, static_cast<size_t>(run.bytes)) == 0) return {};
  for (int64_t at = 0; at < run.bytes; at += size) {
    const uint64_t found = element_at(rerun + at, operand.dtype);
    const uint64_t seen = element_at(real + at, operand.dtype);
    const uint64_t pad = run.is(kIsSkip) ? low_bits(~uint64_t{0}, operand.dtype) : 0;
    const uint64_t want = run.is(kStaysSame) ? seen : pad;
    if (found == want) continue;
    Report report{.field = std::string(operand.arg->name), .row = run.row, .expected = {}, .found = {}};
    const bool unwritten =
        run.is(kStartsFresh) && found == low_bits(pattern(operand, round, true), operand.dtype);
    const std::string zero = run.is(kIsSkip) ? "-1 in rows of nobody" : "0 in rows of nobody";
    if (unwritten) {
      report.check = "L3";
      report.found = concat("not written at element ", at / size, " of ", run.bytes / size);
      report.expected = run.is(kStaysSame) ? "every element written" : zero;
    } else if (run.is(kStaysSame)) {
      report.check = "N1";
      report.found = concat(print(found, operand.dtype), " when what must not enter is ",
                            kPoisons[static_cast<size_t>(round)]);
      report.expected = print(want, operand.dtype);
    } else {
      const bool always = seen == found;
      report.check = always ? "L3" : "N1";
      report.found = always ? print(found, operand.dtype)
                            : concat(print(found, operand.dtype), " when what must not enter is ",
                                     kPoisons[static_cast<size_t>(round)]);
      report.expected = zero;
    }
    return name(step, launch, std::move(report));
  }
  return {};
}

// What a launch leaves in a workspace for the next one, byte by byte: the same in both reruns and in the
// launch itself, or its fill in both.
Status Poison::check_workspace(const StepView& step, const LaunchRecord& launch) {
  for (const Run& run : memory_.runs) {
    const NamedOperand& operand = memory_.operands[static_cast<size_t>(run.operand)];
    if (!operand.workspace || !run.is(kStaysSame)) continue;
    const auto place = static_cast<size_t>(memory_.saved.place(run.begin));
    const auto bytes = static_cast<size_t>(run.bytes);
    const std::byte* real = after_.data() + place;
    const bool same = std::memcmp(real, reruns_[0].data() + place, bytes) == 0 &&
                      std::memcmp(real, reruns_[1].data() + place, bytes) == 0;
    const auto size = static_cast<size_t>(size_of(operand.dtype));
    for (size_t at = 0; !same && at < bytes; ++at) {
      const std::byte first = reruns_[0][place + at], second = reruns_[1][place + at];
      if (first == real[at] && second == real[at]) continue;
      const uint64_t shift = at % size * 8;
      const auto fill = [&](int round) {
        return static_cast<std::byte>((pattern(operand, round, true) >> shift) & 0xFFu);
      };
      if (run.is(kStartsFresh) && first == fill(0) && second == fill(1)) continue;
      return name(step, launch,
                  {.check = "N1",
                   .field = std::string(operand.arg->name),
                   .row = -1,
                   .expected = concat("byte ", at, " to be ", static_cast<int>(real[at])),
                   .found = concat(static_cast<int>(first), " when what must not enter is NaN and ",
                                   static_cast<int>(second), " when it is the largest number")});
    }
  }
  return {};
}

Status Poison::untouched(const StepView& step, const LaunchRecord& launch, const Snapshot& then,
                         const Snapshot& now) const {
  const uintptr_t at = first_difference_outside(memory_.saved, memory_.written, then, now);
  if (at == 0) return {};
  const auto place = static_cast<size_t>(memory_.saved.place(at));
  Report report{.check = "L4",
                .field = {},
                .expected = concat("unchanged, ", static_cast<int>(then[place])),
                .found = concat("overwritten with byte ", static_cast<int>(now[place]))};
  if (const int32_t index = memory_.operand_at(at); index >= 0) {
    const NamedOperand& operand = memory_.operands[static_cast<size_t>(index)];
    report.field = std::string(operand.arg->name);
    if (operand.row_bytes != 0 && at >= operand.base)
      report.row = static_cast<int64_t>(at - operand.base) / operand.row_bytes;
  } else {
    report.field = step.map.describe(reinterpret_cast<const void*>(at));
  }
  return name(step, launch, std::move(report));
}

Status Poison::name(const StepView& step, const LaunchRecord& launch, Report report) {
  return broken({.check = report.check,
                 .moment = Moment::kPoison,
                 .consumer = consumer_of(launch),
                 .field = std::move(report.field),
                 .row = report.row,
                 .step = step.plan.scalar(field::epoch).get(),
                 .expected = std::move(report.expected),
                 .found = std::move(report.found)});
}

}  // namespace lockstep
