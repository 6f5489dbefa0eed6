// One entry of the fault gallery: a fault of the field, done the way the field did it, and its right twin.
// The gallery knows the checks only through what they say; no check knows an entry.
#pragma once

#include <span>
#include <string_view>

#include "base/fault.h"

namespace lockstep::faults {

// What must be said, and when. Empty texts and negative rows: anything.
struct Expectation {
  Moment moment = Moment::kPlan;
  std::string_view check;     // "R2"
  std::string_view field;     // "seq_lens"
  std::string_view consumer;  // "paged_attention"
  int64_t row = -1;
  std::string_view expected;  // part of Fault::expected
  std::string_view found;     // part of Fault::found
};

struct Entry {
  std::string_view id;      // "A6", as in docs/faults.md; "X1": invented; "report/1"
  char fault_class = 'a';   // (a) to (n)
  std::string_view title;   // "the longest key length is a host number, frozen by capture"
  std::string_view thread;  // the public thread: "owner/repo#1"; empty: invented
  Expectation expect;
  Status (*wrong)() = nullptr;  // what was named, or ok: nobody noticed
  Status (*twin)() = nullptr;   // the same done right: must be ok
};

// What a class of faults is about, in a few words; empty for an unknown letter.
std::string_view class_name(char fault_class);

// Every entry that is named as it should be, by id.
std::span<const Entry* const> all_entries();
// Those that no check names: the wrong ones go unnoticed, as far as the contract is concerned.
std::span<const Entry* const> unnamed_entries();

// Empty when `status` is what `expect` says; else what is missing, in words.
std::string unmet(const Expectation& expect, const Status& status);
// ok when nothing is unmet. For entries of several parts: a failure without a fault, saying what is missing.
Status must_say(const Expectation& expect, const Status& status);

}  // namespace lockstep::faults
