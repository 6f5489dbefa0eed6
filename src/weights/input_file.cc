#include "weights/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

namespace lockstep {
namespace {

// Linux reads at most 2 GiB - 4 KiB in one call.
constexpr int64_t kMaxRead = int64_t{1} << 30;

std::string reason(int code) { return std::generic_category().message(code); }

int64_t modified_ns_of(const struct stat& facts) {
  return facts.st_mtim.tv_sec * int64_t{1'000'000'000} + facts.st_mtim.tv_nsec;
}

}  // namespace

Result<InputFile> InputFile::open(const std::string& path) {
  // Without O_NONBLOCK, opening a pipe waits for its writer.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    const bool missing = errno == ENOENT || errno == ENOTDIR;
    return error(missing ? Code::kNotFound : Code::kInvalidArgument, path, ": cannot be opened (",
                 reason(errno), "); expected a readable file");
  }
  struct stat facts {};
  const bool known = fstat(descriptor, &facts) == 0;
  InputFile file(path, descriptor, known ? facts.st_size : 0, known ? modified_ns_of(facts) : 0);
  if (!known) return error(Code::kInvalidArgument, path, ": has no size; expected a regular file");
  if (S_ISDIR(facts.st_mode)) return error(Code::kInvalidArgument, path, ": is a folder; expected a file");
  if (!S_ISREG(facts.st_mode)) {
    return error(Code::kInvalidArgument, path, ": is a pipe or a device; expected a regular file");
  }
  if (facts.st_size == 0) {
    return error(Code::kInvalidArgument, path, ": is empty; expected a file with content; fetch it again");
  }
  return file;
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_),
      modified_ns_(other.modified_ns_) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  if (this != &other) {
    close_file();
    path_ = std::move(other.path_);
    descriptor_ = std::exchange(other.descriptor_, -1);
    size_ = other.size_;
    modified_ns_ = other.modified_ns_;
  }
  return *this;
}

InputFile::~InputFile() { close_file(); }

void InputFile::close_file() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
}

Status InputFile::read(int64_t offset, int64_t bytes, void* destination) const {
  int64_t done = 0;
  while (done < bytes) {
    const auto want = static_cast<size_t>(std::min(bytes - done, kMaxRead));
    const ssize_t got = pread(descriptor_, static_cast<char*>(destination) + done, want, offset + done);
    if (got > 0) {
      done += got;
    } else if (got == 0) {
      struct stat facts {};
      const int64_t left = fstat(descriptor_, &facts) == 0 ? facts.st_size : offset + done;
      return error(Code::kInvalidArgument, path_, ": shrank to ", left, " bytes while being read; expected ",
                   std::max(size_, offset + bytes), "; let its writer finish and load again");
    } else if (errno != EINTR) {
      return error(Code::kInvalidArgument, path_, ": cannot be read at byte ", offset + done, " of ", size_,
                   " (", reason(errno), "); check the disk and fetch the file again");
    }
  }
  return {};
}

Status InputFile::check_unchanged() const {
  struct stat facts {};
  if (fstat(descriptor_, &facts) == 0 && facts.st_size == size_ && modified_ns_of(facts) == modified_ns_) {
    return {};
  }
  return error(Code::kInvalidArgument, path_,
               ": was changed while being read; expected it to stay as it was when it was opened; let its "
               "writer finish and load again");
}

}  // namespace lockstep
