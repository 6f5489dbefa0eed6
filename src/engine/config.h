// EngineConfig: what a caller may choose, with the defaults that `lockstep --help` prints.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "comm/control.h"
#include "comm/mesh.h"
#include "model/model.h"
#include "runtime/step_runner.h"

namespace lockstep {

// When a step is planned and handed to the device while the one before it is under way.
enum class Overlap : uint8_t {
  kNever,
  kOnDevices,
  kAlways,  // on the CPU too: for tests
};

// Zero means "choose for me" where a comment says so.
struct EngineConfig {
  ModelOptions model;
  MeshShape parallel;                     // the ranks; each is a process of its own
  int32_t ranks_on_host = 1;              // that share this machine's memory
  int32_t threads = 0;                    // of this rank; 0: all CPUs this process may use
  int32_t max_model_len = 0;              // tokens of one sequence; 0: what the model was made for
  int32_t max_num_seqs = 64;              // sequences that run at once
  int32_t max_num_batched_tokens = 2048;  // rows of one step
  int32_t chunk_size = 512;               // rows of a prompt chunk
  int32_t page_size = 64;                 // tokens of a page
  int32_t num_pages = 0;  // pages for keys and values; 0: as many as half of the free memory holds, shared by
                          // the host's ranks, at most what max_num_seqs sequences of max_model_len need
  int32_t num_state_slots = 0;  // recurrent states; 0: one per running sequence, and one
  std::string kv_layout = "apart/token";
  std::vector<int32_t> graph_sizes;  // decode steps are padded to these and replayed as graphs; empty: 1, 2,
                                     // 4, 8 and every multiple of 8 up to max_num_seqs
  bool enforce_eager = false;        // no padding, no graphs
  GuardLevel guard = GuardLevel::kReplay;
  std::string record_dir;     // where faults leave a record, after a rerun of their sequences; empty: nowhere
  Pace pace = Pace::kAtOnce;  // kLate: the device does everything as late as it may, for tests
  Overlap overlap = Overlap::kOnDevices;
  bool batch_invariant = false;  // a row has the same bits whatever shares its batch, as on the CPU always
  std::string device = "cpu";    // or "cuda", "cuda:1": where the model computes
  std::string isa;               // "reference", "avx2", ...; empty: the best this CPU has
  Mesh* mesh = nullptr;          // of the ranks that share the model, borrowed; null: this engine is alone
  RankPulse* pulse = nullptr;    // where the engine says what it does, borrowed; null: nobody watches
};

}  // namespace lockstep
