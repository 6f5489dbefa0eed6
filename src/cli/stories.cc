#include "cli/stories.h"

#include <algorithm>
#include <cstring>

namespace lockstep::cli {
namespace {

// Values one behind the other, as they lie in memory; texts and lists with their length in front.
class Packer {
 public:
  template <typename T>
  void add(const T& value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void add_text(std::string_view text) {
    add(static_cast<uint64_t>(text.size()));
    bytes_.append(text);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// The way back. Every length is held to what is left.
class Unpacker {
 public:
  explicit Unpacker(std::string_view bytes) : left_(bytes) {}
  template <typename T>
  Status get(T& value) {
    if (left_.size() < sizeof(value)) return broken_off(sizeof(value));
    std::memcpy(&value, left_.data(), sizeof(value));
    left_.remove_prefix(sizeof(value));
    return {};
  }
  Status get_count(size_t each, uint64_t& count) {
    LS_TRY(get(count));
    return count > left_.size() / std::max<size_t>(each, 1) ? broken_off(count) : Status();
  }
  Status get_text(std::string& text) {
    uint64_t size = 0;
    LS_TRY(get_count(1, size));
    text = left_.substr(0, size);
    left_.remove_prefix(size);
    return {};
  }

 private:
  Status broken_off(uint64_t wanted) const {
    return error(Code::kInternal, "stories: ", wanted,
                 " bytes or entries are announced; expected at most the ", left_.size(),
                 " bytes that are left of what a rank sent");
  }
  std::string_view left_;
};

void pack(const Story& story, Packer& to) {
  to.add_text(story.text);
  to.add(static_cast<uint64_t>(story.tokens.size()));
  for (const int32_t token : story.tokens) to.add(token);
  to.add(static_cast<uint64_t>(story.logprobs.size()));
  for (const TokenLogprobs& each : story.logprobs) {
    to.add(each.token);
    to.add(each.logprob);
    to.add(static_cast<uint64_t>(each.top.size()));
    for (const auto& [token, logprob] : each.top) {
      to.add(token);
      to.add(logprob);
    }
  }
  to.add(story.finish);
  to.add_text(story.error);
}

Status unpack(Unpacker& from, TokenLogprobs& each) {
  LS_TRY(from.get(each.token));
  LS_TRY(from.get(each.logprob));
  uint64_t count = 0;
  LS_TRY(from.get_count(sizeof(int32_t) + sizeof(float), count));
  for (uint64_t i = 0; i < count; ++i) {
    auto& [token, logprob] = each.top.emplace_back();
    LS_TRY(from.get(token));
    LS_TRY(from.get(logprob));
  }
  return {};
}

Status unpack(Unpacker& from, Story& story) {
  LS_TRY(from.get_text(story.text));
  uint64_t count = 0;
  LS_TRY(from.get_count(sizeof(int32_t), count));
  story.tokens.resize(count);
  for (int32_t& token : story.tokens) LS_TRY(from.get(token));
  LS_TRY(from.get_count(sizeof(int32_t) + sizeof(float), count));
  story.logprobs.resize(count);
  for (TokenLogprobs& each : story.logprobs) LS_TRY(unpack(from, each));
  LS_TRY(from.get(story.finish));
  return from.get_text(story.error);
}

}  // namespace

void take(RequestOutput& output, Story& story) {
  story.text += output.text;
  story.tokens.insert(story.tokens.end(), output.tokens.begin(), output.tokens.end());
  story.logprobs.insert(story.logprobs.end(), output.logprobs.begin(), output.logprobs.end());
  story.finish = output.finish;
  story.error = output.error;
  story.failure = output.failure;
}

Status gather_stories(Communicator& group, std::vector<Story>& stories) {
  const auto ranks = static_cast<size_t>(group.size()), rank = static_cast<size_t>(group.rank());
  Packer own;
  for (size_t i = rank; i < stories.size(); i += ranks) pack(stories[i], own);
  std::vector<uint64_t> sizes(ranks);
  const uint64_t size = own.bytes().size();
  LS_TRY(group.all_gather(std::as_bytes(std::span(&size, 1)), std::as_writable_bytes(std::span(sizes)),
                          DType::kU64));
  const uint64_t longest = *std::max_element(sizes.begin(), sizes.end());
  std::string mine = own.bytes(), all(longest * ranks, 0);
  mine.resize(longest);
  LS_TRY(
      group.all_gather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)), DType::kU8));
  for (size_t from = 0; from < ranks; ++from) {
    if (from == rank) continue;
    Unpacker bytes(std::string_view(all).substr(from * longest, sizes[from]));
    for (size_t i = from; i < stories.size(); i += ranks) LS_TRY(unpack(bytes, stories[i]));
  }
  return {};
}

Status outcome_of(const std::vector<Story>& stories) {
  for (const Story& story : stories) {
    if (!story.failure.ok()) return story.failure.with_message(story.error);
    if (story.finish == FinishReason::kError) return error(Code::kInternal, story.error);
  }
  return {};
}

}  // namespace lockstep::cli
