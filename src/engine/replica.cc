#include "engine/replica.h"

#include <algorithm>
#include <cstring>

#include "base/fault.h"

namespace lockstep {
namespace {

// What travels in one exchange; longer plans take a second one.
constexpr int64_t kFirstBytes = 16384;

template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  return std::as_bytes(std::span(&value, 1));
}

// One value of each rank of a group, in order of ranks. `what` is how faults name it: static storage.
template <typename T>
Result<std::vector<T>> gather(Communicator& group, const T& own, std::string_view what) {
  std::vector<T> all(static_cast<size_t>(group.size()));
  LS_TRY(
      group.all_gather(bytes_of(own), std::as_writable_bytes(std::span(all)), DType::kU8, {.stage = what}));
  return all;
}

constexpr CallSite kPlan{.stage = "plan"}, kRestOfPlan{.stage = "rest_of_plan"};

bool image_fits(const StepLimits& limits, const Bucket& bucket) {
  const auto within = [](int32_t value, int32_t most) { return value >= 0 && value <= most; };
  return within(bucket.rows.get(), limits.max_rows) && within(bucket.seqs.get(), limits.max_seqs) &&
         within(bucket.logits_rows.get(), limits.max_logits_rows);
}

}  // namespace

Replica::Replica(Mesh& mesh, const StepLimits& limits, bool meets)
    : mesh_(mesh), limits_(limits), meets_(meets && mesh.dp().size() > 1) {
  const int64_t largest = image_bytes(limits, {.rows = PaddedRows(limits.max_rows),
                                               .seqs = PaddedSeqs(limits.max_seqs),
                                               .logits_rows = PaddedRows(limits.max_logits_rows)});
  const int64_t bytes = static_cast<int64_t>(sizeof(Header)) + int64_t{8} * limits.max_seqs +
                        limits.cp_ranks * (static_cast<int64_t>(sizeof(Digest)) + largest);
  envelope_.resize(static_cast<size_t>(std::max(bytes, kFirstBytes)));
}

Result<AgreedShape> Replica::agree_on_shape(const OwnShape& own) {
  struct Words {
    int32_t rows, has_work, decode, unused;
    NotedFault noted;
  };
  const Words words{own.rows, own.has_work ? 1 : 0, own.decode ? 1 : 0, 0, noted_};
  const std::vector<Words> all = LS_TRY(gather(mesh_.dp(), words, "shape"));
  AgreedShape agreed{.decode = true};
  for (const Words& each : all) {
    agreed.rows = std::max(agreed.rows, each.rows);
    agreed.has_work = agreed.has_work || each.has_work != 0;
    agreed.decode = agreed.decode && each.decode != 0;
    note(each.noted);
  }
  return agreed;
}

// The first bytes have a fixed size, so that the others know it; the header says whether there are more.
Status Replica::broadcast(int64_t bytes) {
  const std::span<std::byte> all(envelope_);
  LS_TRY(mesh_.replica().broadcast(all.first(kFirstBytes), 0, DType::kU8, kPlan));
  if (bytes <= kFirstBytes) return {};
  return mesh_.replica().broadcast(all.subspan(kFirstBytes, static_cast<size_t>(bytes - kFirstBytes)), 0,
                                   DType::kU8, kRestOfPlan);
}

Status Replica::send(std::span<const StepPlan> plans, std::span<const uint64_t> ids) {
  const StepPlan& first = plans.front();
  const Header header{.epoch = first.scalar(field::epoch).get(),
                      .image_bytes = static_cast<int64_t>(first.image().size()),
                      .ids = static_cast<int64_t>(ids.size()),
                      .rows = first.bucket().rows,
                      .seqs = first.bucket().seqs,
                      .logits_rows = first.bucket().logits_rows,
                      .plans = static_cast<int32_t>(plans.size()),
                      .noted = noted_};
  auto at = std::copy_n(bytes_of(header).begin(), sizeof(header), envelope_.begin());
  at = std::copy_n(std::as_bytes(ids).begin(), ids.size_bytes(), at);
  for (const StepPlan& plan : plans) {
    const Digest digest = plan.digest();
    at = std::copy_n(bytes_of(digest).begin(), sizeof(digest), at);
    at = std::copy_n(plan.image().begin(), plan.image().size(), at);
  }
  return broadcast(at - envelope_.begin());
}

Status Replica::send_end() {
  const Header header{.noted = noted_};
  std::copy_n(bytes_of(header).begin(), sizeof(header), envelope_.begin());
  return broadcast(sizeof(header));
}

Result<bool> Replica::receive(StepPlan& plan, std::vector<uint64_t>& ids) {
  const std::span<std::byte> all(envelope_);
  LS_TRY(mesh_.replica().broadcast(all.first(kFirstBytes), 0, DType::kU8, kPlan));
  Header header;
  std::memcpy(&header, all.data(), sizeof(header));
  note(header.noted);
  if (header.image_bytes < 0) return false;
  const Bucket bucket{.rows = header.rows, .seqs = header.seqs, .logits_rows = header.logits_rows};
  const bool fits = image_fits(limits_, bucket) && header.ids >= 0 && header.ids <= limits_.max_seqs &&
                    (header.plans == 1 || header.plans == limits_.cp_ranks) &&
                    header.image_bytes == image_bytes(limits_, bucket);
  const auto each = static_cast<int64_t>(sizeof(Digest)) + header.image_bytes;
  const int64_t ids_at = sizeof(header), plans_at = ids_at + 8 * header.ids;
  if (fits && plans_at + header.plans * each > kFirstBytes) {
    const auto rest = static_cast<size_t>(plans_at + header.plans * each - kFirstBytes);
    LS_TRY(mesh_.replica().broadcast(all.subspan(kFirstBytes, rest), 0, DType::kU8, kRestOfPlan));
  }
  Digest digest = 0;
  if (fits) {
    ids.resize(static_cast<size_t>(header.ids));
    std::memcpy(ids.data(), all.data() + ids_at, ids.size() * sizeof(uint64_t));
    const auto own =
        all.subspan(static_cast<size_t>(plans_at + (header.plans == 1 ? 0 : mesh_.place().cp) * each),
                    static_cast<size_t>(each));
    std::memcpy(&digest, own.data(), sizeof(digest));
    LS_TRY(plan.load(limits_, bucket, own.subspan(sizeof(digest))));
    if (plan.digest() == digest) return true;
  }
  Status status = broken(
      {.check = "G1",
       .moment = Moment::kGroup,
       .consumer = "replica",
       .field = "plan",
       .rank = mesh_.rank(),
       .step = header.epoch,
       .expected = concat("digest ", digest, ", as the leader sent it"),
       .found = fits ? concat("digest ", plan.digest())
                     : concat(header.plans, " plans of ", header.image_bytes, " bytes for other limits")});
  if (!status.ok()) return status;
  return true;
}

Status Replica::agree(const StepPlan& plan, const Said& said) {
  RankFacts facts = facts_of(plan, mesh_.rank());
  facts.config = said.config;
  facts.graph_key = said.graph_key;
  facts.sampled_tokens = said.sampled;
  LS_TRY(agree_in(mesh_.tp(), mesh_.tp(), RankGroup::kTensor, facts));
  LS_TRY(agree_in(mesh_.cp(), mesh_.cp(), RankGroup::kContext, facts));
  if (!meets_) return {};
  facts.graph_key = said.graph_shape;
  // What has got so far is the same on the tensor ranks of a replica, so when one of them finds that replicas
  // differ, all do: they look closer together, and come to one table.
  return agree_in(mesh_.dp(), mesh_.experts(), RankGroup::kData, facts);
}

// Digests first: everybody sees the same ones, so either all look closer or none does. All of `witnesses` do.
Status Replica::agree_in(Communicator& group, Communicator& witnesses, RankGroup kind,
                         const RankFacts& facts) {
  if (group.size() == 1) return {};
  // Context-parallel ranks that share no rows run the same plan.
  const auto ties = [kind](const RankFacts& each) {
    return kind == RankGroup::kContext && each.field(FieldId::cp_ranks) <= 1 ? RankGroup::kTensor : kind;
  };
  const Digest own = agreement_digest(facts, ties(facts));
  const std::vector<Digest> digests = LS_TRY(gather(group, own, "agreement"));
  if (std::all_of(digests.begin(), digests.end(), [&](Digest each) { return each == digests[0]; })) return {};
  const std::vector<RankFacts> all = LS_TRY(gather(witnesses, facts, "facts"));
  return lockstep::agree(all, ties(all.front()));
}

Result<int64_t> least_of_ranks(Communicator& group, int64_t own) {
  const std::vector<int64_t> all = LS_TRY(gather(group, own, "least"));
  return *std::min_element(all.begin(), all.end());
}

}  // namespace lockstep
