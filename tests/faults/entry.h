// One entry of the fault gallery: a fault of the field, done the way the field did it, and its right twin.
// The gallery knows the checks only through what they say; no check knows an entry.
#pragma once

#include <span>
#include <string_view>

#include "base/fault.h"
#include "device/device.h"

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

// Where the memory, streams and graphs of an entry are.
struct Where {
  DevicePtr device;               // null: the CPU
  std::string_view name = "cpu";  // as open_device() takes it
};

// What an entry does: somewhere, or on the host alone, where plans are made and checked, pages and states
// are handed out, and ranks agree.
class Part {
 public:
  constexpr Part() = default;
  constexpr Part(Status (*part)(const Where&)) : somewhere_(part) {}
  constexpr Part(Status (*part)()) : on_host_(part) {}

  explicit constexpr operator bool() const { return somewhere_ != nullptr || on_host_ != nullptr; }
  constexpr bool on_host() const { return on_host_ != nullptr; }
  Status operator()(const Where& where = {}) const {
    return on_host_ != nullptr ? on_host_() : somewhere_(where);
  }

 private:
  Status (*somewhere_)(const Where&) = nullptr;
  Status (*on_host_)() = nullptr;
};

struct Entry {
  std::string_view id;      // "A6", as in docs/faults.md; "X1": invented; "report/1"
  char fault_class = 'a';   // (a) to (n)
  std::string_view title;   // "the longest key length is a host number, frozen by capture"
  std::string_view thread;  // the public thread: "owner/repo#1"; empty: invented
  Expectation expect;
  Part wrong;  // what was named, or ok: nobody noticed
  Part twin;   // the same done right: must be ok
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
