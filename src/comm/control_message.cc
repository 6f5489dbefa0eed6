#include "comm/control_message.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <type_traits>

#include "comm/notice.h"

namespace lockstep {
namespace {

constexpr std::array<std::string_view, 6> kPhases = {"starting", "idle",   "prefill",
                                                     "decode",   "replay", "left"};
constexpr uint32_t kBeatMark = 0x4C534254;
constexpr uint32_t kNoticeMark = 0x4C534E54;

template <size_t N>
void put_text(std::string_view text, std::array<char, N>& into) {
  const size_t length = std::min(text.size(), N - 1);
  std::copy_n(text.data(), length, into.data());
}

class Writer {
 public:
  template <typename T>
  void value(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    const auto* bytes = reinterpret_cast<const std::byte*>(&value);
    out_.insert(out_.end(), bytes, bytes + sizeof(T));
  }
  void text(std::string_view text) {
    value(static_cast<uint64_t>(text.size()));
    const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
    out_.insert(out_.end(), bytes, bytes + text.size());
  }
  std::vector<std::byte> take() && { return std::move(out_); }

 private:
  std::vector<std::byte> out_;
};

// Reads what Writer wrote; once something is missing, everything is, and whole() is false.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  template <typename T>
  T value() {
    T value{};
    if (bytes_.size() < sizeof(T)) {
      whole_ = false;
      return value;
    }
    std::memcpy(&value, bytes_.data(), sizeof(T));
    bytes_ = bytes_.subspan(sizeof(T));
    return value;
  }
  std::string text() {
    const auto size = value<uint64_t>();
    if (size > bytes_.size()) {
      whole_ = false;
      return "";
    }
    std::string text(reinterpret_cast<const char*>(bytes_.data()), size);
    bytes_ = bytes_.subspan(size);
    return text;
  }
  bool whole() const { return whole_ && bytes_.empty(); }

 private:
  std::span<const std::byte> bytes_;
  bool whole_ = true;
};

}  // namespace

std::string_view name_of(RankPhase phase) { return kPhases[static_cast<size_t>(phase)]; }

void add_ledger(const Ledger& ledger, Beat& beat) {
  beat.epoch = ledger.epoch();
  beat.entered = ledger.entered();
  beat.entries = 0;
  for (const CollectiveEntry& entry : ledger.last(beat.last.size())) {
    BeatEntry& into = beat.last[beat.entries++] = {.sequence = entry.sequence,
                                                   .epoch = entry.epoch,
                                                   .count = entry.count,
                                                   .dtype = entry.dtype,
                                                   .op = {},
                                                   .group = {},
                                                   .number = entry.number,
                                                   .stage = {},
                                                   .layer = static_cast<int32_t>(entry.at.layer),
                                                   .finished = entry.finished};
    put_text(entry.op, into.op);
    put_text(entry.group, into.group);
    put_text(entry.at.stage, into.stage);
  }
  beat.inside = beat.entries > 0 && !beat.last[beat.entries - 1].finished;
}

std::string name_of(const BeatEntry& entry) {
  const std::string where = describe(entry.stage.data(), entry.layer);
  return concat(entry.group.data(), " ", entry.op.data(), " ", name_of(entry.dtype), " ", entry.count,
                where.empty() ? "" : " at ", where);
}

std::string text_of(const BeatEntry& entry) { return concat(name_of(entry), " (#", entry.number, ")"); }

std::vector<std::byte> encode(const ControlMessage& message) {
  Writer out;
  if (const Beat* beat = std::get_if<Beat>(&message)) {
    static_assert(std::is_trivially_copyable_v<Beat>);
    out.value(kBeatMark);
    out.value(*beat);
  } else {
    const Notice& notice = std::get<Notice>(message);
    out.value(kNoticeMark);
    out.value(notice.from);
    const std::vector<std::byte> why = pack_notice(notice.status);
    out.text({reinterpret_cast<const char*>(why.data()), why.size()});
    out.text(notice.report);
  }
  return std::move(out).take();
}

Result<ControlMessage> decode(std::span<const std::byte> bytes) {
  Reader in(bytes);
  const auto mark = in.value<uint32_t>();
  std::optional<ControlMessage> message;
  if (mark == kBeatMark) {
    message = in.value<Beat>();
  } else if (mark == kNoticeMark) {
    const auto from = in.value<int32_t>();
    const std::string why = in.text();
    message =
        Notice{.from = from, .status = unpack_notice(std::as_bytes(std::span(why))), .report = in.text()};
  }
  if (message && in.whole()) return *std::move(message);
  return error(Code::kInternal, "control: a message of ", bytes.size(),
               " bytes is none of this build's; expected ranks of one build");
}

}  // namespace lockstep
