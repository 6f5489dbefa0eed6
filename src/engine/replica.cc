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

// One value of each rank of a group, in order of ranks.
template <typename T>
Result<std::vector<T>> gather(Communicator& group, const T& own) {
  std::vector<T> all(static_cast<size_t>(group.size()));
  LS_TRY(group.all_gather(bytes_of(own), std::as_writable_bytes(std::span(all)), DType::kU8));
  return all;
}

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
  const int64_t bytes = static_cast<int64_t>(sizeof(Header)) + int64_t{8} * limits.max_seqs + largest;
  envelope_.resize(static_cast<size_t>(std::max(bytes, kFirstBytes)));
}

Result<AgreedShape> Replica::agree_on_shape(const OwnShape& own) {
  struct Words {
    int32_t rows, has_work, decode;
  };
  const Words words{own.rows, own.has_work ? 1 : 0, own.decode ? 1 : 0};
  const std::vector<Words> all = LS_TRY(gather(mesh_.dp(), words));
  AgreedShape agreed{.decode = true};
  for (const Words& each : all) {
    agreed.rows = std::max(agreed.rows, each.rows);
    agreed.has_work = agreed.has_work || each.has_work != 0;
    agreed.decode = agreed.decode && each.decode != 0;
  }
  return agreed;
}

// The first bytes have a fixed size, so that the others know it; the header says whether there are more.
Status Replica::broadcast(int64_t bytes) {
  const std::span<std::byte> all(envelope_);
  LS_TRY(mesh_.replica().broadcast(all.first(kFirstBytes), 0, DType::kU8));
  if (bytes <= kFirstBytes) return {};
  return mesh_.replica().broadcast(all.subspan(kFirstBytes, static_cast<size_t>(bytes - kFirstBytes)), 0,
                                   DType::kU8);
}

Status Replica::send(const StepPlan& plan, std::span<const uint64_t> ids) {
  const std::span<const std::byte> image = plan.image();
  const Header header{.epoch = plan.scalar(field::epoch).get(),
                      .image_bytes = static_cast<int64_t>(image.size()),
                      .ids = static_cast<int64_t>(ids.size()),
                      .digest = plan.digest(),
                      .rows = plan.bucket().rows,
                      .seqs = plan.bucket().seqs,
                      .logits_rows = plan.bucket().logits_rows};
  auto at = std::copy_n(bytes_of(header).begin(), sizeof(header), envelope_.begin());
  at = std::copy_n(std::as_bytes(ids).begin(), ids.size_bytes(), at);
  at = std::copy_n(image.begin(), image.size(), at);
  return broadcast(at - envelope_.begin());
}

Status Replica::send_end() {
  const Header header;
  std::copy_n(bytes_of(header).begin(), sizeof(header), envelope_.begin());
  return broadcast(sizeof(header));
}

Result<bool> Replica::receive(StepPlan& plan, std::vector<uint64_t>& ids) {
  const std::span<std::byte> all(envelope_);
  LS_TRY(mesh_.replica().broadcast(all.first(kFirstBytes), 0, DType::kU8));
  Header header;
  std::memcpy(&header, all.data(), sizeof(header));
  if (header.image_bytes < 0) return false;
  const Bucket bucket{.rows = header.rows, .seqs = header.seqs, .logits_rows = header.logits_rows};
  const bool fits = image_fits(limits_, bucket) && header.ids >= 0 && header.ids <= limits_.max_seqs &&
                    header.image_bytes == image_bytes(limits_, bucket);
  const int64_t ids_at = sizeof(header), image_at = ids_at + 8 * header.ids;
  if (fits && image_at + header.image_bytes > kFirstBytes) {
    const auto rest = static_cast<size_t>(image_at + header.image_bytes - kFirstBytes);
    LS_TRY(mesh_.replica().broadcast(all.subspan(kFirstBytes, rest), 0, DType::kU8));
  }
  if (fits) {
    ids.resize(static_cast<size_t>(header.ids));
    std::memcpy(ids.data(), all.data() + ids_at, ids.size() * sizeof(uint64_t));
    LS_TRY(plan.load(limits_, bucket,
                     all.subspan(static_cast<size_t>(image_at), static_cast<size_t>(header.image_bytes))));
    if (plan.digest() == header.digest) return true;
  }
  Status status =
      broken({.check = "G1",
              .moment = Moment::kGroup,
              .consumer = "replica",
              .field = "plan",
              .rank = mesh_.rank(),
              .step = header.epoch,
              .expected = concat("digest ", header.digest, ", as the leader sent it"),
              .found = fits ? concat("digest ", plan.digest())
                            : concat("a plan of ", header.image_bytes, " bytes for other limits")});
  if (!status.ok()) return status;
  return true;
}

Status Replica::agree(const StepPlan& plan, const Said& said) {
  RankFacts facts = facts_of(plan, mesh_.rank());
  facts.config = said.config;
  facts.graph_key = said.graph_key;
  facts.sampled_tokens = said.sampled;
  LS_TRY(agree_in(mesh_.tp(), RankGroup::kTensor, facts));
  LS_TRY(agree_in(mesh_.cp(), RankGroup::kContext, facts));
  if (!meets_) return {};
  facts.graph_key = said.graph_shape;
  return agree_in(mesh_.dp(), RankGroup::kData, facts);
}

// Digests first: everybody sees the same ones, so either all look closer or none does.
Status Replica::agree_in(Communicator& group, RankGroup kind, const RankFacts& facts) {
  if (group.size() == 1) return {};
  const Digest own = agreement_digest(facts, kind);
  const std::vector<Digest> digests = LS_TRY(gather(group, own));
  if (std::all_of(digests.begin(), digests.end(), [&](Digest each) { return each == digests[0]; })) return {};
  const std::vector<RankFacts> all = LS_TRY(gather(group, facts));
  return lockstep::agree(all, kind);
}

Result<int64_t> least_of_ranks(Communicator& group, int64_t own) {
  const std::vector<int64_t> all = LS_TRY(gather(group, own));
  return *std::min_element(all.begin(), all.end());
}

}  // namespace lockstep
