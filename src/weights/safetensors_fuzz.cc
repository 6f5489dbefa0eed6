// Any bytes at all: what the parser accepts lies inside the file, gap by gap closed, under unique names.
#include <cstddef>
#include <cstdint>
#include <set>

#include "base/check.h"
#include "weights/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lockstep;
  const Result<SafetensorsHeader> header = parse_safetensors({data, size}, "fuzz");
  if (!header.ok()) {
    LS_CHECK(header.status().message().starts_with("fuzz: "), header.status().message());
    LS_CHECK(header.status().code() != Code::kInternal, header.status().message());
    return 0;
  }
  int64_t end = header->data_offset;
  std::set<std::string> names;
  for (const StoredTensor& tensor : header->tensors) {
    LS_CHECK(tensor.offset == end, tensor.name, " at ", tensor.offset, " after ", end);
    LS_CHECK(tensor.bytes == tensor.shape.elements() * size_of(tensor.dtype), tensor.name);
    LS_CHECK(names.insert(tensor.name).second, tensor.name, " twice");
    end += tensor.bytes;
  }
  LS_CHECK(end == static_cast<int64_t>(size), "covers ", end, " of ", size);
  return 0;
}
