// Stories: prompts and what came of them, as a command collects them, from one engine or from several ranks.
#pragma once

#include <string>
#include <vector>

#include "comm/communicator.h"
#include "engine/request.h"

namespace lockstep::cli {

// One prompt and what came of it.
struct Story {
  std::string prompt;
  std::string text;
  size_t shown = 0;  // bytes of text that stdout has
  std::vector<int32_t> tokens;
  std::vector<TokenLogprobs> logprobs;
  FinishReason finish = FinishReason::kNone;
  std::string error;
  Status failure;  // of the step that ended it
};

// Puts one step's output behind what the story has.
void take(RequestOutput& output, Story& story);

// Story i is told by rank i % size() of the group; afterwards every rank has all of them, but for what broke
// elsewhere, which stays words. All ranks call it with as many stories. Errors: as Communicator; kInternal
// for what another rank sent that is no story.
Status gather_stories(Communicator& group, std::vector<Story>& stories);

// The first failure among them.
Status outcome_of(const std::vector<Story>& stories);

}  // namespace lockstep::cli
