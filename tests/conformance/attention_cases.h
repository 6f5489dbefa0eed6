// The parts of the attention suite, by file. Ids are without "conformance/<backend>/" here.
#pragma once

#include "conformance/attention_rig.h"
#include "conformance/sparse_pages.h"

namespace lockstep::conformance {

// Capture, replay and the bits that neither may change.
std::vector<Case> attention_graph_cases(const AttentionCandidate& candidate);
// Addresses: strides past 32 bits, and the width of index that a backend declares.
std::vector<Case> attention_reach_cases(const AttentionCandidate& candidate);

// The candidate of sparse_pages.h, and what it comes to when its sums lie in the plan: not ok.
AttentionCandidate sparse_candidate(SumsIn sums, DevicePtr device = nullptr);
Status sparse_sums_in_the_plan(Mode mode, DevicePtr device = nullptr);

Status cross_pages(AttentionRig& rig, int32_t page_tokens);
// Errors: kInternal, naming the first byte of the caches that changed and is in no slot of the last plan.
Status only_owned_slots(AttentionRig& rig, const KvLayout& layout, std::span<const uint8_t> before,
                        std::span<const uint8_t> after);

}  // namespace lockstep::conformance
