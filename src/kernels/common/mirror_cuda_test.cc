// Lends the device's kernels to tests whose buffers lie in host memory: what a launch touches, as its OpSpec
// says, is brought to the device between guards, the kernel runs on that, and what it writes is brought back.
// Whatever it writes elsewhere, the guards show; whatever it reads elsewhere is poison.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "device/arena.h"
#include "device/registry.h"
#include "kernels/batch_invariant.h"
#include "kernels/common/operands.h"
#include "kernels/common/test_support.h"
#include "kernels/table_walk.h"

namespace lockstep::testing {
namespace {

constexpr int64_t kGuard = 4096;
constexpr unsigned char kPoison = 0xFF;

// A stretch of host memory, and where its copy lies.
struct Piece {
  ByteRange host;
  int64_t offset = 0;  // in the image
  bool written = false;
};

// The device's copy of what one launch touches.
class Image {
 public:
  explicit Image(const LaunchRecord& launch) {
    for_each_operand(launch, [&](const Operand& operand) {
      for (const ByteRange& range : operand.ranges()) {
        if (!range.empty()) pieces_.push_back({.host = range, .written = operand.writes()});
      }
    });
    std::sort(pieces_.begin(), pieces_.end(),
              [](const Piece& a, const Piece& b) { return a.host.begin < b.host.begin; });
    join_neighbours();
    int64_t offset = kGuard;
    for (Piece& piece : pieces_) {
      // As aligned as on the host, so that the same paths are taken.
      piece.offset = offset + static_cast<int64_t>(piece.host.begin % 256);
      const auto bytes = static_cast<int64_t>(piece.host.end - piece.host.begin);
      offset = (piece.offset + bytes + kGuard + 255) / 256 * 256;
    }
    bytes_.assign(static_cast<size_t>(offset), kPoison);
    for (const Piece& piece : pieces_) {
      std::memcpy(bytes_.data() + piece.offset, pointer(piece.host.begin), piece.host.end - piece.host.begin);
    }
  }

  const std::vector<unsigned char>& bytes() const { return bytes_; }

  // Sets the addresses in a launch's Args to the copies at `base`.
  void redirect(const LaunchRecord& launch, unsigned char* args, char* base) const {
    for (const OpArg& arg : launch.site.spec->args) {
      if (!operand_of(launch, arg)) continue;
      redirect_word(args + arg.offset, base);
      if (arg.second_address > 0) redirect_word(args + arg.offset + arg.second_address, base);
    }
  }

  // Takes what the launch has written; every other byte is as before.
  void take(const std::vector<unsigned char>& after) const {
    std::vector<unsigned char> expected = bytes_;
    for (const Piece& piece : pieces_) {
      if (!piece.written) continue;
      const size_t count = piece.host.end - piece.host.begin;
      std::memcpy(expected.data() + piece.offset, after.data() + piece.offset, count);
      std::memcpy(pointer(piece.host.begin), after.data() + piece.offset, count);
    }
    EXPECT_EQ(std::memcmp(expected.data(), after.data(), after.size()), 0)
        << "a kernel wrote where its OpSpec says nothing of writing";
  }

 private:
  static void* pointer(uintptr_t address) { return reinterpret_cast<void*>(address); }

  void join_neighbours() {
    std::vector<Piece> joined;
    for (const Piece& piece : pieces_) {
      if (!joined.empty() && piece.host.begin < joined.back().host.end) {
        joined.back().host.end = std::max(joined.back().host.end, piece.host.end);
        joined.back().written = joined.back().written || piece.written;
      } else {
        joined.push_back(piece);
      }
    }
    pieces_ = std::move(joined);
  }

  void redirect_word(unsigned char* word, char* base) const {
    uintptr_t address = 0;
    std::memcpy(&address, word, sizeof(address));
    for (const Piece& piece : pieces_) {
      if (address < piece.host.begin || address >= piece.host.end) continue;
      char* copy = base + piece.offset + (address - piece.host.begin);
      std::memcpy(word, &copy, sizeof(copy));
      return;
    }
  }

  std::vector<Piece> pieces_;
  std::vector<unsigned char> bytes_;
};

const DevicePtr& device() {
  static const DevicePtr kDevice = [] {
    Result<DevicePtr> opened = open_device("cuda");
    if (!opened.ok()) return DevicePtr();
    return *opened;
  }();
  return kDevice;
}

template <typename Args>
void run_mirrored(const OpSpec& spec, Kernel<Args> kernel, const Args& args) {
  const LaunchRecord launch{
      .site = {.spec = &spec, .stage = "mirror"}, .args = &args, .args_bytes = sizeof(Args)};
  const Image image(launch);
  Arena arena = Arena::create("mirror", static_cast<int64_t>(image.bytes().size()), device()).value();
  const TensorView memory =
      arena.allocate("image", DType::kU8, {static_cast<int64_t>(image.bytes().size())}).value();
  Stream stream(device(), device()->make_queue().value());
  EXPECT_EQ(stream.write(memory, image.bytes().data()).message(), "");
  Args moved = args;
  image.redirect(launch, reinterpret_cast<unsigned char*>(&moved), static_cast<char*>(memory.data));
  lockstep::launch(stream, spec, "mirror", kernel, moved);
  std::vector<unsigned char> after(image.bytes().size());
  EXPECT_EQ(stream.read(memory, after.data()).message(), "") << spec.name;
  EXPECT_EQ(stream.check_copies().message(), "") << spec.name;
  image.take(after);
}

template <bool kInvariant>
const KernelTable& own_table() {
  return kInvariant ? batch_invariant_table(Isa::kSm90) : kernel_table(Isa::kSm90);
}

template <bool kInvariant, auto kMember, const OpSpec& kSpec, typename Args>
void mirrored(const Args& args, Worker worker) {
  if (worker.index == 0) run_mirrored<Args>(kSpec, own_table<kInvariant>().*kMember, args);
}

// The kernel of a member, or none where the device's table has none.
template <bool kInvariant, auto kMember, const OpSpec& kSpec>
void lend(KernelTable& table) {
  if (own_table<kInvariant>().*kMember != nullptr) table.*kMember = mirrored<kInvariant, kMember, kSpec>;
}

template <bool kInvariant>
KernelTable lent_table() {
  KernelTable table = kernel_table(Isa::kReference);  // serves what the device's lacks
  table.name = "sm90";
  lend<kInvariant, &KernelTable::embedding, kEmbeddingSpec>(table);
  lend<kInvariant, &KernelTable::rms_norm, kRmsNormSpec>(table);
  lend<kInvariant, &KernelTable::rope_angles, kRopeAnglesSpec>(table);
  lend<kInvariant, &KernelTable::qk_norm_rope, kQkNormRopeSpec>(table);
  lend<kInvariant, &KernelTable::head_squares, kHeadSquaresSpec>(table);
  lend<kInvariant, &KernelTable::all_heads_norm, kAllHeadsNormSpec>(table);
  lend<kInvariant, &KernelTable::store_kv, kStoreKvSpec>(table);
  lend<kInvariant, &KernelTable::table_edits, kTableEditsSpec>(table);
  lend<kInvariant, &KernelTable::copy_pages, kCopyPagesSpec>(table);
  lend<kInvariant, &KernelTable::paged_attention, kPagedAttentionSpec>(table);
  lend<kInvariant, &KernelTable::compress_keys, kCompressKeysSpec>(table);
  lend<kInvariant, &KernelTable::select_blocks, kSelectBlocksSpec>(table);
  lend<kInvariant, &KernelTable::sparse_attention, kSparseAttentionSpec>(table);
  lend<kInvariant, &KernelTable::sigmoid_gate, kSigmoidGateSpec>(table);
  lend<kInvariant, &KernelTable::gated_add, kGatedAddSpec>(table);
  lend<kInvariant, &KernelTable::linear_prepare, kLinearPrepareSpec>(table);
  lend<kInvariant, &KernelTable::linear, kLinearSpec>(table);
  lend<kInvariant, &KernelTable::swiglu, kSwigluSpec>(table);
  lend<kInvariant, &KernelTable::moe_route, kMoeRouteSpec>(table);
  lend<kInvariant, &KernelTable::moe_sort, kMoeSortSpec>(table);
  lend<kInvariant, &KernelTable::moe_prepare, kMoePrepareSpec>(table);
  lend<kInvariant, &KernelTable::moe_gate_up, kMoeGateUpSpec>(table);
  lend<kInvariant, &KernelTable::moe_down, kMoeDownSpec>(table);
  lend<kInvariant, &KernelTable::moe_combine, kMoeCombineSpec>(table);
  lend<kInvariant, &KernelTable::causal_conv, kCausalConvSpec>(table);
  lend<kInvariant, &KernelTable::causal_conv_state, kCausalConvStateSpec>(table);
  lend<kInvariant, &KernelTable::gated_delta, kGatedDeltaSpec>(table);
  lend<kInvariant, &KernelTable::lightning, kLightningSpec>(table);
  lend<kInvariant, &KernelTable::gated_norm, kGatedNormSpec>(table);
  lend<kInvariant, &KernelTable::gather_rows, kGatherRowsSpec>(table);
  lend<kInvariant, &KernelTable::resolve_tokens, kResolveTokensSpec>(table);
  lend<kInvariant, &KernelTable::count_tokens, kCountTokensSpec>(table);
  lend<kInvariant, &KernelTable::sample, kSampleSpec>(table);
  lend<kInvariant, &KernelTable::plan_digest, kPlanDigestSpec>(table);
  lend<kInvariant, &KernelTable::plan_structure, kPlanStructureSpec>(table);
  return table;
}

}  // namespace

const KernelTable* device_table(bool batch_invariant) {
  static const KernelTable kTable = lent_table<false>(), kInvariantTable = lent_table<true>();
  return device() == nullptr ? nullptr : batch_invariant ? &kInvariantTable : &kTable;
}

}  // namespace lockstep::testing
