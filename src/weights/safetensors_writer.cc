#include "weights/safetensors_writer.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <system_error>

#include "base/math.h"
#include "json/json_writer.h"
#include "weights/safetensors.h"

namespace lockstep {

Status SafetensorsWriter::add(const std::string& name, const TensorView& view) {
  if (name == kSafetensorsMetadata) {
    return error(Code::kInvalidArgument, "safetensors writer: a tensor is named ", name,
                 ", which the format keeps for itself; expected another name");
  }
  if (!view.is_contiguous()) {
    return error(Code::kInvalidArgument, "safetensors writer: ", name, " ", view.shape,
                 " has gaps between its rows; expected dense elements");
  }
  if (!tensors_.emplace(name, view).second) {
    return error(Code::kInvalidArgument, "safetensors writer: ", name,
                 " was added before; expected each name once");
  }
  return {};
}

std::vector<const std::pair<const std::string, TensorView>*> SafetensorsWriter::ordered() const {
  std::vector<const std::pair<const std::string, TensorView>*> order;
  for (const auto& tensor : tensors_) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    const int64_t a_bytes = size_of(a->second.dtype), b_bytes = size_of(b->second.dtype);
    return a_bytes != b_bytes ? a_bytes > b_bytes : a->first < b->first;
  });
  return order;
}

std::string SafetensorsWriter::header() const {
  JsonWriter json;
  json.begin_object();
  if (!metadata_.empty()) {
    json.key(kSafetensorsMetadata).begin_object();
    for (const auto& [key, value] : metadata_) json.member(key, value);
    json.end_object();
  }
  int64_t offset = 0;
  for (const auto* tensor : ordered()) {
    const TensorView& view = tensor->second;
    json.key(tensor->first).begin_object().member("dtype", info_of(view.dtype).safetensors);
    json.key("shape").begin_array();
    for (int i = 0; i < view.shape.rank; ++i) json.value(view.dim(i));
    json.end_array().key("data_offsets").begin_array().value(offset).value(offset + view.bytes());
    json.end_array().end_object();
    offset += view.bytes();
  }
  std::string text = std::move(json.end_object()).take();
  text.resize(round_up<size_t>(text.size(), 8), ' ');
  std::string out(8, '\0');
  for (size_t i = 0; i < 8; ++i) out[i] = static_cast<char>(text.size() >> (8 * i) & 0xFF);
  return out + text;
}

std::string SafetensorsWriter::bytes() const {
  std::string out = header();
  for (const auto* tensor : ordered()) {
    out.append(static_cast<const char*>(tensor->second.data), static_cast<size_t>(tensor->second.bytes()));
  }
  return out;
}

Status SafetensorsWriter::write(const std::string& path) const {
  const std::string temporary = path + ".partial";
  std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
  const std::string head = header();
  out.write(head.data(), static_cast<std::streamsize>(head.size()));
  for (const auto* tensor : ordered()) {
    out.write(static_cast<const char*>(tensor->second.data), tensor->second.bytes());
  }
  out.close();
  if (out && std::rename(temporary.c_str(), path.c_str()) == 0) return {};
  const int code = errno;
  std::remove(temporary.c_str());
  return error(Code::kInvalidArgument, path, ": cannot be written (", std::generic_category().message(code),
               "); expected a folder with room that may be written to");
}

}  // namespace lockstep
