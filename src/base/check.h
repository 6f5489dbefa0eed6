// LS_CHECK: invariants of our own. On in release builds; unreachable from user input.
#pragma once

#include <source_location>
#include <string>

#include "base/status.h"

namespace lockstep {

// Prints the broken invariant with its values and ends the process.
[[noreturn]] void check_failed(const char* condition, const std::string& values,
                               std::source_location where = std::source_location::current());

}  // namespace lockstep

// Ends the process, with the given values, when one of our own invariants is broken.
#define LS_CHECK(condition, ...)                                                               \
  do {                                                                                         \
    if (!(condition)) [[unlikely]]                                                             \
      ::lockstep::check_failed(#condition, ::lockstep::concat("" __VA_OPT__(, ) __VA_ARGS__)); \
  } while (false)

// LS_CHECK for hot loops: debug and sanitizer builds only. The condition must have no side effects.
#ifdef NDEBUG
#define LS_DCHECK(condition, ...) \
  do {                            \
  } while (false)
#else
#define LS_DCHECK(condition, ...) LS_CHECK(condition __VA_OPT__(, ) __VA_ARGS__)
#endif
