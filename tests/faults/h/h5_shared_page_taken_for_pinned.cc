// A page of shared memory was labelled as pinned and copied from without a copy of one's own; the thread that
// polls it puts the next request there while the copy is on its way. xLLM-AI/xllm#2043, #1880.
#include <cstring>
#include <memory>

#include "faults/consumers.h"
#include "faults/entries.h"
#include "plan/step_plan.h"

namespace lockstep::faults {
namespace {

constexpr ConsumerSpec kSpec = sums_named("attention");

// A copy to a device from memory that the launch takes for pinned.
struct PageArgs {
  conformance::HostCopy copy;
};
constexpr OpSpec kUpload{.name = "upload", .args = {}, .args_bytes = sizeof(PageArgs)};
void upload(const PageArgs& args, Worker worker) {
  conformance::enqueue_host_call(worker.queue, {.in = {}, .out = {&args.copy, 1}});
}

// Memory that a device's copies may read at any time, where there is one.
class SharedPage {
 public:
  static Result<std::unique_ptr<SharedPage>> create(Device* device, std::span<const std::byte> bytes) {
    void* pinned = device != nullptr ? LS_TRY(device->allocate_pinned(std::ssize(bytes))) : nullptr;
    auto page = std::unique_ptr<SharedPage>(new SharedPage(device, pinned, bytes.size()));
    page->write(bytes);
    return page;
  }
  ~SharedPage() {
    if (device_ != nullptr) device_->release_pinned(pinned_);
  }
  SharedPage(const SharedPage&) = delete;
  SharedPage& operator=(const SharedPage&) = delete;
  void* data() { return pinned_ != nullptr ? pinned_ : memory_.data(); }
  void write(std::span<const std::byte> bytes) { std::memcpy(data(), bytes.data(), bytes.size()); }

 private:
  SharedPage(Device* device, void* pinned, size_t bytes)
      : device_(device), pinned_(pinned), memory_(pinned == nullptr ? bytes : 0) {}
  Device* device_;
  void* pinned_;
  std::vector<std::byte> memory_;  // without a device
};

// Straight from the page, past the stream's own staging.
Status copy_from(SharedPage& page, Workbench& bench, const TensorView& image) {
  if (bench.device() == nullptr)
    return bench.stream().download(dense_view(page.data(), DType::kU8, image.shape), image);
  const PageArgs args{{.on_device = image.data, .on_host = page.data(), .bytes = image.bytes()}};
  launch(bench.stream(), kUpload, "upload", upload, args, Parts::kOne);
  return {};
}

// The plan reaches the device from a page that the front end writes.
Status serve(const Where& where, bool own_copy) {
  const auto bench = LS_TRY(Workbench::create(where, {.pace = Pace::kLate}));
  const Sums attention(*bench, kSpec);
  const auto hand = LS_TRY(HandMade::create(*bench));
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(30));
  StepPlan plan = LS_TRY(bench->decode({first}));
  LS_TRY(hand->capture(plan, attention));
  plan = LS_TRY(bench->decode({first, second}));
  const StepPlan next = LS_TRY(bench->decode({second, first}));
  const auto page = LS_TRY(SharedPage::create(bench->device(), plan.image()));
  const auto bytes = static_cast<int64_t>(plan.image().size());
  bench->forget_sums();
  if (own_copy) {
    LS_TRY(hand->refresh(plan));
  } else {
    LS_TRY(copy_from(*page, *bench, hand->image().bytes().rows(0, bytes)));
  }
  LS_TRY(hand->replay(plan));
  page->write(next.image());
  bench->stream().synchronize();
  LS_TRY(bench->stream().check_copies());
  LS_TRY(hand->check(plan));
  return bench->check_sums(plan);
}

Status wrong(const Where& where) { return serve(where, false); }
Status twin(const Where& where) { return serve(where, true); }

}  // namespace

const Entry kH5 = {
    .id = "H5",
    .fault_class = 'h',
    .title = "shared memory is taken for pinned and copied while others write to it",
    .thread = "xLLM-AI/xllm#2043",
    .expect = {.moment = Moment::kCommit,
               .check = "R3",
               .field = "epoch",
               .expected = "the step that the host planned"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
