#include "runtime/graph_proof.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "base/digest.h"
#include "base/fault.h"
#include "base/math.h"

namespace lockstep {
namespace {

bool is_paged(const StepLimits& limits, int32_t group) {
  return limits.group(GroupId(group)).kind == GroupKind::kPaged;
}

// Sequences have pages of the same numbers in every paged group.
std::vector<PageTables*> tables_of(const StepLimits& limits, PageTables& pages) {
  std::vector<PageTables*> tables(static_cast<size_t>(limits.num_groups), nullptr);
  for (int32_t g = 0; g < limits.num_groups; ++g) {
    if (is_paged(limits, g)) tables[static_cast<size_t>(g)] = &pages;
  }
  return tables;
}

void set_rows(const StepLimits& limits, TableRow row, SequenceStep& step) {
  for (int32_t g = 0; g < limits.num_groups; ++g) {
    if (is_paged(limits, g)) step.table_rows[static_cast<size_t>(g)] = row;
  }
}

}  // namespace

GraphProof::GraphProof(Executor& executor, Epoch epoch, uint64_t seed)
    : executor_(executor),
      limits_(executor.options().limits),
      epoch_(epoch),
      state_(seed),
      tables_(limits_.group(kKvGroup).table_rows, limits_.group(kKvGroup).max_pages_per_seq),
      builder_(limits_, tables_of(limits_, tables_)),
      validator_(limits_) {}

int32_t GraphProof::pick(int32_t low, int32_t high) {
  state_ = mix64(state_, 0x9E3779B97F4A7C15u);
  return low + static_cast<int32_t>(state_ % static_cast<uint64_t>(high - low + 1));
}

Status GraphProof::take(StepPlan& plan, const StepRequest& request) {
  validator_.forget_states();  // sequences begin in their middle, with the state of another
  LS_TRY(builder_.build(request, plan));
  LS_TRY(validator_.validate(plan));
  builder_.accepted();
  return {};
}

// Runs a prompt through the model, so that the pages and the state which everybody begins with hold what a
// model writes there.
Status GraphProof::fill_source() {
  const CacheGroup& group = limits_.group(kKvGroup);
  const int32_t rows = std::min({group.page_tokens, limits_.max_rows, limits_.max_seq_len, 64});
  tables_.append(TableRow(1), source_page_);
  tokens_.clear();
  for (int32_t i = 0; i < rows; ++i) tokens_.emplace_back(pick(0, limits_.vocab_size - 1));
  SequenceStep step{.tokens = tokens_,
                    .last_token_source = TokenSource::literal(),
                    .computed = TokenCount(0),
                    .prompt_len = TokenCount(rows),
                    .state_slot = source_state_,
                    .wants_logits = true,
                    .sampling = {}};
  set_rows(limits_, TableRow(1), step);
  StepPlan plan;
  epoch_ = Epoch(epoch_.get() + 1);
  LS_TRY(take(plan,
              {.epoch = epoch_,
               .source_epoch = Epoch(0),
               .sequences = {&step, 1},
               .bucket = {.rows = PaddedRows(rows), .seqs = PaddedSeqs(1), .logits_rows = PaddedRows(1)}}));
  Outcome outcome;
  LS_TRY(run(plan, outcome));
  tables_.clear(TableRow(1));
  return {};
}

Status GraphProof::set_up() {
  const CacheGroup& pages = limits_.group(kKvGroup);
  const bool recurrent = limits_.num_groups > kStateGroup.get();
  // One page is its own source: then a step writes again what it wrote before.
  const bool single = pages.num_pages == 2;
  int32_t most = std::min(
      {limits_.max_seqs, pages.table_rows - 1, single ? 1 : pages.num_pages - 2, limits_.max_copies});
  if (recurrent) most = std::min(most, limits_.group(kStateGroup).num_pages - 2);
  if (most < 1) {
    return error(Code::kUnimplemented, "graphs: ", pages.num_pages - 1, " pages and ",
                 recurrent ? limits_.group(kStateGroup).num_pages - 1 : 0,
                 " states leave none for a proof; expected at least 1 page and 2 states");
  }
  source_state_ = StateSlot(recurrent ? limits_.group(kStateGroup).num_pages - 1 : 0);
  LS_TRY(fill_source());
  for (int32_t i = 0; i < most; ++i) {
    Member member{.row = TableRow(i + 1), .pages = 1, .own = single ? source_page_ : PageId(i + 2)};
    const int32_t longest =
        single ? 1 : std::min(pages.max_pages_per_seq, limits_.max_seq_len / pages.page_tokens + 1);
    member.pages = i == 0 ? longest : pick(1, std::min(longest, 6));
    for (int32_t page = 1; page < member.pages; ++page) {
      LS_TRY(push_edits(1));
      tables_.append(member.row, source_page_);
    }
    LS_TRY(push_edits(1));
    tables_.append(member.row, member.own);
    members_.push_back(member);
  }
  return {};
}

// A plan carries at most max_edits edits: a small step takes those that are pending to the device when `room`
// more would not fit.
Status GraphProof::push_edits(int32_t room) {
  if (static_cast<int32_t>(tables_.pending_edits().size()) + room <= limits_.max_edits) return {};
  StepPlan plan;
  LS_TRY(take_idle(1, plan));
  Outcome outcome;
  return run(plan, outcome);
}

// A step without sequences, whose rows are all pads.
Status GraphProof::take_idle(int32_t size, StepPlan& plan) {
  epoch_ = Epoch(epoch_.get() + 1);
  return take(
      plan,
      {.epoch = epoch_,
       .source_epoch = Epoch(0),
       .sequences = {},
       .bucket = {.rows = PaddedRows(size), .seqs = PaddedSeqs(size), .logits_rows = PaddedRows(size)}});
}

// A decode step of the given members in which every one begins with the same page and state. Ragged: at any
// length of its last page, drawn in any way; else at its first token, greedily.
Status GraphProof::build(int32_t size, std::span<const int32_t> members, bool ragged, StepPlan& plan) {
  const CacheGroup& group = limits_.group(kKvGroup);
  std::vector<SequenceStep> steps;
  std::vector<PageCopy> page_copies, state_copies;
  tokens_.clear();
  tokens_.reserve(members.size());
  for (const int32_t index : members) {
    const Member& member = members_[static_cast<size_t>(index)];
    const int32_t before = (member.pages - 1) * group.page_tokens;
    const int32_t room = std::min(group.page_tokens, limits_.max_seq_len - before);
    const int32_t length = before + (ragged ? pick(1, room) : 1);
    tokens_.emplace_back(pick(0, limits_.vocab_size - 1));
    SequenceStep step{.tokens = {&tokens_.back(), 1},
                      .last_token_source = TokenSource::literal(),
                      .computed = TokenCount(length - 1),
                      .prompt_len = TokenCount(std::max(1, length - 1)),
                      .wants_logits = true,
                      .sampling = {}};
    set_rows(limits_, member.row, step);
    if (member.own != source_page_) page_copies.push_back({.source = source_page_, .target = member.own});
    if (limits_.num_groups > kStateGroup.get()) {
      step.state_slot = StateSlot(index + 1);
      state_copies.push_back({.source = PageId(source_state_.get()), .target = PageId(index + 1)});
    }
    if (ragged) {
      step.sampling = {.temperature = static_cast<float>(pick(0, 3)) * 0.5f,
                       .top_k = pick(0, 40),
                       .top_p = 0.5f + 0.1f * static_cast<float>(pick(0, 5)),
                       .seed = static_cast<uint64_t>(pick(0, 1 << 30)),
                       .logprobs = pick(-1, 5)};
    }
    steps.push_back(step);
  }
  epoch_ = Epoch(epoch_.get() + 1);
  StepRequest request{
      .epoch = epoch_,
      .source_epoch = Epoch(0),
      .sequences = steps,
      .bucket = {.rows = PaddedRows(size), .seqs = PaddedSeqs(size), .logits_rows = PaddedRows(size)}};
  for (int32_t g = 0; g < limits_.num_groups; ++g) {
    if (is_paged(limits_, g)) request.copies[static_cast<size_t>(g)] = page_copies;
  }
  if (!state_copies.empty()) request.copies[static_cast<size_t>(kStateGroup.get())] = state_copies;
  return take(plan, request);
}

Status GraphProof::run(const StepPlan& plan, Outcome& outcome) {
  const int32_t rows = plan.scalar(field::num_logits_rows).get();
  const TensorView logits = executor_.logits(plan.bucket().logits_rows.get());
  // What an earlier step left must not pass for this one's.
  outcome.logits.assign(static_cast<size_t>(logits.elements()), std::numeric_limits<float>::quiet_NaN());
  LS_TRY(executor_.stream().write(logits, outcome.logits.data()));
  LS_TRY(executor_.run(plan, outcome.result));
  outcome.logits.resize(static_cast<size_t>(rows * logits.dim(1)));
  return executor_.stream().read(logits.rows(0, rows), outcome.logits.data());
}

Status GraphProof::compare(const StepPlan& plan, const Outcome& eager, const Outcome& replayed) const {
  const size_t bytes = eager.logits.size() * sizeof(float);
  if (std::memcmp(eager.logits.data(), replayed.logits.data(), bytes) == 0 &&
      eager.result.tokens == replayed.result.tokens)
    return {};
  size_t at = 0;
  while (at < eager.logits.size() && std::memcmp(&eager.logits[at], &replayed.logits[at], sizeof(float)) == 0)
    ++at;
  const size_t width = eager.logits.size() / eager.result.tokens.size();
  return broken({.check = "R2",
                 .moment = Moment::kCapture,
                 .consumer = concat("graph of ", describe(graph_key(plan))),
                 .field = at < eager.logits.size() ? "logits" : "tokens",
                 .row = static_cast<int64_t>(at / width),
                 .step = plan.scalar(field::epoch).get(),
                 .expected = at < eager.logits.size() ? concat(eager.logits[at], ", as without the graph")
                                                      : "those without the graph",
                 .found = at < eager.logits.size() ? concat(replayed.logits[at]) : "others"});
}

Status GraphProof::prove_pair(int32_t size, std::span<const int32_t> members) {
  StepPlan plan;
  LS_TRY(build(size, members, true, plan));
  LS_TRY(executor_.recapture(plan));
  Outcome eager, replayed;
  LS_TRY(run(plan, eager));
  executor_.runner().set_eager("");
  const Status status = run(plan, replayed);
  executor_.runner().set_eager(std::string(kGraphProof));
  return status.ok() ? compare(plan, eager, replayed) : status;
}

GraphOutcome GraphProof::prove(int32_t size) {
  executor_.runner().set_eager(std::string(kGraphProof));
  GraphOutcome outcome{.size = size, .status = prove_size(size)};
  executor_.runner().set_eager("");
  return outcome;
}

GraphOutcome GraphProof::prove_idle(int32_t size) {
  executor_.runner().set_eager(std::string(kGraphProof));
  GraphOutcome outcome{.size = size, .status = prove_idle_size(size)};
  executor_.runner().set_eager("");
  return outcome;
}

// Nothing is drawn, so there is nothing to compare but the launches, and what the device says of its plan.
Status GraphProof::prove_idle_size(int32_t size) {
  StepPlan plan;
  LS_TRY(take_idle(size, plan));
  Outcome eager, replayed;
  LS_TRY(run(plan, eager));
  LS_TRY(executor_.capture(plan));
  const GraphKey key = graph_key(plan);
  LS_TRY(take_idle(size, plan));
  Status status = executor_.recapture(plan);
  executor_.runner().set_eager("");
  if (status.ok()) status = run(plan, replayed);
  executor_.runner().set_eager(std::string(kGraphProof));
  if (!status.ok()) executor_.runner().refuse(key, status.message());
  return status;
}

Status GraphProof::prove_size(int32_t size) {
  if (!begun_) set_up_ = set_up();
  begun_ = true;
  LS_TRY(set_up_);
  const int32_t all = std::min(size, static_cast<int32_t>(members_.size()));
  std::vector<int32_t> members(members_.size());
  std::iota(members.begin(), members.end(), 0);
  const auto shuffle = [&] {
    for (size_t i = members.size() - 1; i > 0; --i)
      std::swap(members[i], members[static_cast<size_t>(pick(0, static_cast<int32_t>(i)))]);
  };
  StepPlan minimal;
  const int32_t last = static_cast<int32_t>(members_.size()) - 1;
  LS_TRY(build(size, {&last, 1}, false, minimal));
  Outcome first;  // its edits must reach the device
  LS_TRY(run(minimal, first));
  LS_TRY(executor_.capture(minimal));
  // Everybody, the longest sequence among them; then half, in another order, with pad rows behind.
  Status status = prove_pair(size, std::span(members).first(static_cast<size_t>(all)));
  shuffle();
  if (status.ok()) status = prove_pair(size, std::span(members).first(static_cast<size_t>(ceil_div(all, 2))));
  if (!status.ok()) executor_.runner().refuse(graph_key(minimal), status.message());
  return status;
}

}  // namespace lockstep
