#include "weights/checkpoint.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "weights/safetensors_writer.h"
#include "weights/test_support.h"

namespace lockstep {
namespace {

// Writes a file of f32 vectors; each value tells the tensor and the place.
void write_shard(const ScratchFolder& folder, const std::string& file,
                 const std::vector<std::string>& names) {
  std::vector<std::vector<float>> values;
  for (const std::string& name : names) values.push_back({static_cast<float>(name[0]), 1, 2, 3});
  SafetensorsWriter writer;
  writer.set_metadata("format", file);
  for (size_t i = 0; i < names.size(); ++i) EXPECT_TRUE(writer.add(names[i], view(values[i], {4})).ok());
  EXPECT_TRUE(writer.write(folder.file(file)).ok());
}

std::string write_index(const ScratchFolder& folder, const std::string& weight_map) {
  return folder.write("model.safetensors.index.json",
                      R"({"metadata":{"total_size":48},"weight_map":)" + weight_map + "}");
}

std::string message_of(const std::string& path) {
  const auto checkpoint = Checkpoint::open(path);
  return checkpoint.ok() ? "(accepted)" : checkpoint.status().message();
}

TEST(Checkpoint, ReadsASingleFileByFolderOrByName) {
  const ScratchFolder folder;
  write_shard(folder, "model.safetensors", {"b", "a"});

  for (const std::string& path : {folder.path(), folder.path() + "/", folder.file("model.safetensors")}) {
    const auto checkpoint = Checkpoint::open(path);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
    ASSERT_EQ(checkpoint->tensors().size(), 2u);
    EXPECT_EQ(checkpoint->tensors()[0].name, "a");
    EXPECT_EQ(checkpoint->total_bytes(), 32);
    ASSERT_TRUE(checkpoint->contains("b"));
    EXPECT_FALSE(checkpoint->contains("aa"));
    float values[2] = {};
    ASSERT_TRUE(checkpoint->read(*checkpoint->find("b"), 8, 8, values).ok());
    EXPECT_EQ(values[0], 2.0f);
    EXPECT_EQ(values[1], 3.0f);
  }
}

TEST(Checkpoint, UnitesTheShardsOfAnIndex) {
  const ScratchFolder folder;
  write_shard(folder, "model-00001-of-00002.safetensors", {"c", "a"});
  write_shard(folder, "model-00002-of-00002.safetensors", {"b"});
  write_index(folder, R"({"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors",
                          "c":"model-00001-of-00002.safetensors"})");

  const auto checkpoint = Checkpoint::open(folder.path());

  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_EQ(checkpoint->num_files(), 2u);
  EXPECT_EQ(checkpoint->total_bytes(), 48);
  EXPECT_EQ(checkpoint->metadata().at("format"), "model-00001-of-00002.safetensors");
  for (const char* name : {"a", "b", "c"}) {
    const StoredTensor* tensor = checkpoint->find(name);
    ASSERT_NE(tensor, nullptr) << name;
    float first = 0;
    ASSERT_TRUE(checkpoint->read(*tensor, 0, 4, &first).ok());
    EXPECT_EQ(first, static_cast<float>(name[0]));
  }
  EXPECT_EQ(checkpoint->file_of(*checkpoint->find("b")), folder.file("model-00002-of-00002.safetensors"));
}

TEST(Checkpoint, SaysWhatAFolderLacks) {
  const ScratchFolder folder;

  EXPECT_EQ(message_of(folder.path()),
            folder.path() + ": holds no weights; expected model.safetensors or model.safetensors.index.json");
  EXPECT_EQ(message_of(folder.file("none.safetensors")),
            folder.file("none.safetensors") +
                ": cannot be opened (No such file or directory); expected a readable file");
  EXPECT_EQ(Checkpoint::open(folder.path()).status().code(), Code::kNotFound);
}

TEST(Checkpoint, RefusesAnIndexWhoseShardsDoNotHold) {
  const ScratchFolder folder;
  write_shard(folder, "1.safetensors", {"a"});
  write_shard(folder, "2.safetensors", {"b"});

  const std::string index = write_index(folder, R"({"a":"1.safetensors","b":"3.safetensors"})");
  EXPECT_EQ(message_of(index), index +
                                   ": shard 3.safetensors is not there; expected it beside the index, with "
                                   "tensor b; fetch the checkpoint again");
  write_index(folder, R"({"a":"1.safetensors","b":"1.safetensors"})");
  EXPECT_EQ(message_of(index),
            index + ": tensor b is not in 1.safetensors; expected it there; fetch the checkpoint again");
  write_index(folder, "{}");
  EXPECT_EQ(message_of(index), index + ": weight_map is empty; expected tensors and their files");
  write_index(folder, R"({"a":1})");
  EXPECT_EQ(message_of(index), index + ": weight_map.a is 1; expected a string");
  folder.write("model.safetensors.index.json", "{}");
  EXPECT_EQ(message_of(index), index + ": weight_map is missing; expected an object");
}

TEST(Checkpoint, RefusesATensorThatTwoShardsHold) {
  const ScratchFolder folder;
  write_shard(folder, "1.safetensors", {"a", "x"});
  write_shard(folder, "2.safetensors", {"a"});
  const std::string index = write_index(folder, R"({"a":"2.safetensors","x":"1.safetensors"})");

  EXPECT_EQ(message_of(index), index + ": tensor a is in " + folder.file("1.safetensors") + " and in " +
                                   folder.file("2.safetensors") + "; expected it in one file");
}

TEST(Checkpoint, StaysInTheFolderOfItsIndex) {
  const ScratchFolder folder;
  std::filesystem::create_directory(folder.file("inner"));
  write_shard(folder, "outside.safetensors", {"a"});
  for (const std::string name : {"../outside.safetensors", "/etc/passwd", "..", ".", "", "sub/x"}) {
    const std::string index =
        folder.write("inner/model.safetensors.index.json", R"({"weight_map":{"a":")" + name + "\"}}");

    EXPECT_EQ(message_of(index),
              index + ": weight_map.a is \"" + name + "\"; expected the name of a file beside the index");
  }
}

TEST(Checkpoint, ReportsAShardThatShrinksBetweenHeaderAndData) {
  const ScratchFolder folder;
  write_shard(folder, "model.safetensors", {"a", "b"});
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint.ok());
  const auto size = static_cast<int64_t>(std::filesystem::file_size(folder.file("model.safetensors")));
  std::filesystem::resize_file(folder.file("model.safetensors"), static_cast<uintmax_t>(size - 6));

  float values[4] = {};
  EXPECT_TRUE(checkpoint->read(*checkpoint->find("a"), 0, 16, values).ok());
  const Status status = checkpoint->read(*checkpoint->find("b"), 0, 16, values);

  EXPECT_EQ(status.message(),
            concat(folder.path(), "/model.safetensors: shrank to ", size - 6,
                   " bytes while being read; expected ", size, "; let its writer finish and load again"));
  EXPECT_FALSE(checkpoint->check_unchanged().ok());
}

}  // namespace
}  // namespace lockstep
