#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace lockstep {

void check_failed(const char* condition, const std::string& values, std::source_location where) {
  std::fprintf(stderr, "lockstep: invariant broken: %s (%s) in %s at %s:%u\n", condition, values.c_str(),
               where.function_name(), where.file_name(), where.line());
  std::fflush(stderr);
  std::abort();
}

}  // namespace lockstep
