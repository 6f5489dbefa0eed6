// A file to read from, by position. Weights come through pread, not through a mapping: a mapped file that
// somebody truncates ends the process with SIGBUS, a short read is an error (docs/decisions/0006).
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace lockstep {

// Read-only, never empty, never a directory or a pipe. Keeps the size it had when it was opened.
// Thread: any number of readers.
class InputFile {
 public:
  // Errors: kNotFound when there is no such file; kInvalidArgument when it may not be read, is no regular
  // file, or is empty.
  static Result<InputFile> open(const std::string& path);
  ~InputFile();
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;

  const std::string& path() const { return path_; }  // as given
  int64_t size() const { return size_; }             // bytes, when it was opened

  // Copies bytes [offset, offset + bytes) of the file to `destination`.
  // Errors: kInvalidArgument when the file shrank since it was opened or cannot be read there.
  // Cost:   one pread per GiB; one copy out of the page cache.
  Status read(int64_t offset, int64_t bytes, void* destination) const;

  // kInvalidArgument when size or modification time differ from when the file was opened: what was read may
  // be of two versions. Cost: one fstat.
  Status check_unchanged() const;

 private:
  InputFile(std::string path, int descriptor, int64_t size, int64_t modified_ns)
      : path_(std::move(path)), descriptor_(descriptor), size_(size), modified_ns_(modified_ns) {}
  void close_file();

  std::string path_;
  int descriptor_ = -1;
  int64_t size_ = 0;
  int64_t modified_ns_ = 0;
};

}  // namespace lockstep
