#include "weights/input_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "weights/test_support.h"

namespace lockstep {
namespace {

TEST(InputFile, ReadsAnyRangeByPosition) {
  const ScratchFolder folder;
  const auto file = InputFile::open(folder.write("a", "0123456789"));
  ASSERT_TRUE(file.ok()) << file.status().message();

  std::string out(4, '?');
  EXPECT_TRUE(file->read(6, 4, out.data()).ok());

  EXPECT_EQ(out, "6789");
  EXPECT_EQ(file->size(), 10);
  EXPECT_TRUE(file->read(10, 0, out.data()).ok());
}

TEST(InputFile, SaysWhyAPathIsNoFileToReadFrom) {
  const ScratchFolder folder;
  const std::string pipe = folder.file("pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);

  const auto missing = InputFile::open(folder.file("b"));
  const auto directory = InputFile::open(folder.path());
  const auto empty = InputFile::open(folder.write("empty", ""));
  const auto fifo = InputFile::open(pipe);

  EXPECT_EQ(missing.status().code(), Code::kNotFound);
  EXPECT_EQ(missing.status().message(),
            folder.file("b") + ": cannot be opened (No such file or directory); expected a readable file");
  EXPECT_EQ(directory.status().code(), Code::kInvalidArgument);
  EXPECT_EQ(directory.status().message(), folder.path() + ": is a folder; expected a file");
  EXPECT_EQ(empty.status().message(),
            folder.file("empty") + ": is empty; expected a file with content; fetch it again");
  EXPECT_EQ(fifo.status().message(), pipe + ": is a pipe or a device; expected a regular file");
}

TEST(InputFile, RefusesAFileItMayNotRead) {
  const ScratchFolder folder;
  const std::string path = folder.write("secret", "x");
  ASSERT_EQ(chmod(path.c_str(), 0), 0);
  const uid_t self = geteuid();
  if (self == 0) {
    ASSERT_EQ(seteuid(65534), 0);  // root may read every file, nobody may not
  }

  const auto file = InputFile::open(path);
  ASSERT_EQ(seteuid(self), 0);

  EXPECT_EQ(file.status().code(), Code::kInvalidArgument);
  EXPECT_EQ(file.status().message(),
            path + ": cannot be opened (Permission denied); expected a readable file");
}

TEST(InputFile, ReportsAFileThatShrinksInsteadOfCrashing) {
  const ScratchFolder folder;
  const std::string path = folder.write("a", std::string(100'000, 'x'));
  const auto file = InputFile::open(path);
  ASSERT_TRUE(file.ok());
  ASSERT_EQ(truncate(path.c_str(), 5000), 0);

  std::string out(100'000, '?');
  const Status status = file->read(0, 100'000, out.data());

  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_EQ(status.message(), path +
                                  ": shrank to 5000 bytes while being read; expected 100000; let its writer "
                                  "finish and load again");
}

TEST(InputFile, NoticesThatAFileWasWrittenToMeanwhile) {
  const ScratchFolder folder;
  const std::string path = folder.write("a", "0123456789");
  const auto file = InputFile::open(path);
  ASSERT_TRUE(file->check_unchanged().ok());
  const timespec times[2] = {{.tv_sec = 1'000'000'000, .tv_nsec = 0},
                             {.tv_sec = 1'000'000'000, .tv_nsec = 0}};
  folder.write("a", "9876543210");
  ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);  // file systems count time in coarse ticks

  const Status status = file->check_unchanged();

  EXPECT_EQ(status.message(), path +
                                  ": was changed while being read; expected it to stay as it was when it was "
                                  "opened; let its writer finish and load again");
}

}  // namespace
}  // namespace lockstep
