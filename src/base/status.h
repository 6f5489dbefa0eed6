// Status and Result<T>: how every expected failure travels. Nothing in this project throws across a layer.
#pragma once

#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

namespace lockstep {

// What the caller can do about a failure.
enum class Code {
  kOk,
  kInvalidArgument,    // fix the input
  kNotFound,           // name something that exists
  kUnimplemented,      // choose another path
  kResourceExhausted,  // try later, or configure more
  kDevice,             // this engine is lost
  kInternal,           // report it: a rule of ours is broken
};

std::string_view name_of(Code code);

struct Fault;  // base/fault.h

// The outcome of a call that yields nothing. A message is one sentence: who, what was given, what was
// expected and, unless that says it, what to do.
class [[nodiscard]] Status {
 public:
  Status() = default;
  // Precondition: code is not kOk.
  Status(Code code, std::string message, std::shared_ptr<const Fault> fault = nullptr)
      : failure_(std::make_shared<const Failure>(Failure{code, std::move(message), std::move(fault)})) {}

  bool ok() const { return failure_ == nullptr; }
  Code code() const { return ok() ? Code::kOk : failure_->code; }
  const std::string& message() const { return ok() ? no_message() : failure_->message; }
  // The broken rule, in parts; null for every other failure.
  const Fault* fault() const { return ok() ? nullptr : failure_->fault.get(); }
  // The same failure, told with more words. Precondition: !ok().
  Status with_message(std::string message) const {
    return {failure_->code, std::move(message), failure_->fault};
  }

 private:
  struct Failure {
    Code code;
    std::string message;
    std::shared_ptr<const Fault> fault;
  };
  static const std::string& no_message();

  std::shared_ptr<const Failure> failure_;  // null: ok. One pointer to test, since every call returns one
};

// Concatenates anything that can be streamed. Cold, as failures are: what leads to it is laid out apart from
// the code that a step runs through, and so does not take its place in the caches.
template <typename... Parts>
[[gnu::cold, gnu::noinline]] std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

// Builds a failure from its parts: error(Code::kInvalidArgument, "rms_norm: x is ", dtype).
template <typename... Parts>
[[gnu::cold, gnu::noinline]] Status error(Code code, const Parts&... parts) {
  return {code, concat(parts...)};
}

// A value, or the Status that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  Result(Status status) : status_(std::move(status)) {}

  bool ok() const { return value_.has_value(); }
  const Status& status() const& { return status_; }
  Status&& status() && { return std::move(status_); }

  // The value. Precondition: ok().
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return *std::move(value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }

 private:
  std::optional<T> value_;
  Status status_;
};

namespace internal {
inline void take_value(Status&&) {}
template <typename T>
T take_value(Result<T>&& result) {
  return std::move(result).value();
}
inline Status take_status(Status&& status) { return std::move(status); }
template <typename T>
Status take_status(Result<T>&& result) {
  return std::move(result).status();
}
}  // namespace internal

}  // namespace lockstep

// Yields the value of a Result (nothing for a Status), or returns the failure from the enclosing function.
#define LS_TRY(expression)                                                             \
  (__extension__({                                                                     \
    auto outcome_ = (expression);                                                      \
    if (!outcome_.ok()) return ::lockstep::internal::take_status(std::move(outcome_)); \
    ::lockstep::internal::take_value(std::move(outcome_));                             \
  }))
