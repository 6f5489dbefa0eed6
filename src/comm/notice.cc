#include "comm/notice.h"

#include <cstring>

#include "base/fault.h"

namespace lockstep {
namespace {

constexpr size_t kMessageBytes = 2048;  // room for a table of who said what
constexpr size_t kTextBytes = 240;      // of each of the five texts of a fault

// Everything but texts.
struct Head {
  int32_t code = 0;
  int32_t has_fault = 0;
  int32_t moment = 0;
  int32_t rank = 0;
  int64_t row = -1;
  uint64_t step = 0;
};

class Writer {
 public:
  void put(const void* data, size_t count) {
    const auto* begin = static_cast<const std::byte*>(data);
    bytes_.insert(bytes_.end(), begin, begin + count);
  }
  void put(std::string_view text, size_t most) {
    text = text.substr(0, most);
    const auto count = static_cast<uint32_t>(text.size());
    put(&count, sizeof(count));
    put(text.data(), text.size());
  }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  bool get(void* data, size_t count) {
    whole_ = whole_ && bytes_.size() >= count;
    if (!whole_) return false;
    std::memcpy(data, bytes_.data(), count);
    bytes_ = bytes_.subspan(count);
    return true;
  }
  std::string text() {
    uint32_t count = 0;
    if (!get(&count, sizeof(count)) || bytes_.size() < count) {
      whole_ = false;
      return {};
    }
    std::string text(count, ' ');
    get(text.data(), count);
    return text;
  }
  bool whole() const { return whole_; }

 private:
  std::span<const std::byte> bytes_;
  bool whole_ = true;
};

}  // namespace

std::vector<std::byte> pack_notice(const Status& why) {
  const Fault* fault = why.fault();
  Head head{.code = static_cast<int32_t>(why.code()), .has_fault = fault != nullptr ? 1 : 0};
  if (fault != nullptr) {
    head.moment = static_cast<int32_t>(fault->moment);
    head.rank = fault->rank;
    head.row = fault->row;
    head.step = fault->step;
  }
  Writer writer;
  writer.put(&head, sizeof(head));
  writer.put(why.message(), kMessageBytes);
  if (fault != nullptr) {
    for (const std::string* text :
         {&fault->check, &fault->consumer, &fault->field, &fault->expected, &fault->found})
      writer.put(*text, kTextBytes);
  }
  return writer.take();
}

Status unpack_notice(std::span<const std::byte> bytes) {
  Reader reader(bytes);
  Head head;
  reader.get(&head, sizeof(head));
  std::string message = reader.text();
  Fault fault{
      .moment = static_cast<Moment>(head.moment), .row = head.row, .rank = head.rank, .step = head.step};
  if (head.has_fault != 0) {
    for (std::string* text : {&fault.check, &fault.consumer, &fault.field, &fault.expected, &fault.found})
      *text = reader.text();
  }
  const bool known = head.code > static_cast<int32_t>(Code::kOk) &&
                     head.code <= static_cast<int32_t>(Code::kInternal) && head.moment >= 0 &&
                     head.moment <= static_cast<int32_t>(Moment::kPoison);
  if (!reader.whole() || !known)
    return error(Code::kInternal, "comm: a rank has closed the group for a reason that cannot be read");
  const auto code = static_cast<Code>(head.code);
  if (head.has_fault == 0) return {code, std::move(message)};
  return {code, std::move(message), std::make_shared<const Fault>(std::move(fault))};
}

}  // namespace lockstep
