// LaunchMemory: what one launch touches, run by run, and what each run is to the guard: bytes that must enter
// nothing, bytes that the launch writes, bytes that must come out the same.
#pragma once

#include <string>
#include <vector>

#include "guard/snapshot.h"
#include "guard/step_view.h"

namespace lockstep {

// What a run of bytes is; several at once.
enum RunRole : uint8_t {
  kEntersNothing = 1,  // of pads, of nobody, or past what a sequence has: poisoned before the launch is rerun
  kIsWritten = 2,      // by the launch, as its spec declares
  kStartsFresh = 4,    // what it held before does not matter: filled before the launch is rerun
  kStaysSame = 8,      // whatever the poison
  kIsZero = 16,        // after the launch: pads
  kIsSkip = 32,        // after the launch: pads, all -1
};

struct Run {
  uintptr_t begin = 0;
  int64_t bytes = 0;
  int32_t operand = 0;  // LaunchMemory::operands
  int32_t row = -1;     // or page, or slot; -1: none
  uint8_t roles = 0;

  bool is(RunRole role) const { return (roles & role) != 0; }
};

struct NamedOperand {
  const OpArg* arg = nullptr;
  DType dtype = DType::kU8;
  ByteRange bytes;         // of one plane
  uintptr_t base = 0;      // of entry 0
  int64_t row_bytes = 0;   // from one entry of the outermost dimension to the next
  int64_t bad_id = 0;      // integers: just past the largest that a live entry may have
  bool scratch = false;    // a workspace that this launch alone uses
  bool workspace = false;  // an output without rows
};

struct LaunchMemory {
  std::vector<NamedOperand> operands;
  std::vector<Run> runs;
  RangeSet saved;    // everything that is looked at
  RangeSet written;  // everything that the launch may write
  int64_t turn = 0;  // counts launches: which pages and windows of the rest are looked at

  // Which operand an address belongs to; -1: none.
  int32_t operand_at(uintptr_t address) const;
};

// Reads a launch before it runs. `memory` keeps its capacity and its turn. Cost: O(bytes of the rows).
void read_launch(const StepView& step, const LaunchRecord& launch, LaunchMemory& memory);

namespace internal {

// A row of a page of compressed keys.
struct WindowPlace {
  int64_t page = 0;
  int64_t row = 0;
};

// Of a tensor argument with these dimensions; null: none.
const OpArg* find_tensor(const OpSpec& spec, std::string_view dims);

// Of a plan that shares its rows with other ranks, the sequences whose early chunks come first: what they may
// read and write, their late chunks may too.
size_t early_halves(const StepPlan& plan);

// Collects the runs of one launch. The parts live in launch_memory.cc (rows), owned_memory.cc (caches,
// states, tables), compressed_memory.cc (compressed keys) and share this.
class LaunchReader {
 public:
  LaunchReader(const StepView& step, const LaunchRecord& launch, LaunchMemory& memory)
      : step_(step), launch_(launch), memory_(memory), group_(group_of(step, launch)) {}
  void read();

 private:
  int32_t name(const Operand& operand, const ByteRange& bytes, int64_t row_bytes);
  void add(int32_t operand, int64_t row, ByteRange bytes, int roles);
  void save(ByteRange bytes);
  bool overwrites_its_input(const Operand& operand) const;
  bool has_row_outputs() const;
  int64_t bad_id(const Operand& operand) const;
  int32_t turn(int32_t count) const;  // one of `count`, another each time

  void rows(const Operand& operand, std::span<const OwnedEntry> owners);
  void list(const Operand& operand);
  void whole(const Operand& operand);
  void owned(const Operand& operand);
  void cache(const Operand& operand);
  void cache_writes(const Operand& operand, const std::array<int32_t, 2>& planes);
  void cache_reads(const Operand& operand, const std::array<int32_t, 2>& planes);
  void cache_slot(const Operand& operand, const std::array<int32_t, 2>& planes, int64_t slot, int64_t row,
                  int roles);
  void cache_page(const Operand& operand, const std::array<int32_t, 2>& planes, int64_t page, int roles);
  void states(const Operand& operand);
  void counts(const Operand& operand);
  void compressed(const Operand& operand);
  void compressed_row(const Operand& operand, int32_t named, const WindowPlace& place, int roles);
  void page_table(const Operand& operand, GroupId group);
  void page_copies(const Operand& operand);
  void picked_rows(const Operand& operand);
  void slot(const Operand& operand, int32_t named, int64_t slot, int roles);
  int64_t length_of(size_t sequence) const;
  void rest_of_memory();

  const StepView& step_;
  const LaunchRecord& launch_;
  LaunchMemory& memory_;
  GroupId group_;
};

}  // namespace internal

}  // namespace lockstep
