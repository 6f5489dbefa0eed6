// Facts of this machine: memory, kernels, roofs.
#include <algorithm>
#include <fstream>

#include "device/registry.h"
#include "engine/facts.h"
#include "runtime/executor.h"

namespace lockstep {
namespace {

constexpr int kMaxThreads = 1024;

// The number behind the word `key` in a file, or at its beginning when `key` is empty; none when there is no
// such file or no number ("max").
std::optional<int64_t> number_after(std::string_view key, const std::string& path) {
  std::ifstream file(path);
  std::string word;
  while (!key.empty() && word != key) {
    if (!(file >> word)) return std::nullopt;
  }
  int64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

}  // namespace

MachineMemory machine_memory() {
  MachineMemory memory{.total = int64_t{4} << 30, .available = int64_t{4} << 30};
  const std::string info = "/proc/meminfo";
  if (const auto kib = number_after("MemTotal:", info)) memory.total = *kib * 1024;
  if (const auto kib = number_after("MemAvailable:", info)) memory.available = *kib * 1024;
  const std::string group = "/sys/fs/cgroup/";
  const std::optional<int64_t> limit = number_after("", group + "memory.max");
  if (!limit) return memory;
  // Files that were read and may be dropped count as used there.
  const int64_t used = number_after("", group + "memory.current").value_or(0) -
                       number_after("inactive_file", group + "memory.stat").value_or(0);
  memory.total = std::min(memory.total, *limit);
  memory.available = std::clamp<int64_t>(*limit - used, 0, memory.available);
  return memory;
}

Result<std::vector<GpuFacts>> gpu_facts(bool measure) {
  constexpr double kSeconds = 0.3;
  std::vector<GpuFacts> gpus;
  for (int32_t i = 0;; ++i) {
    const std::string name = concat("cuda:", i);
    const Result<DevicePtr> device = open_device(name);
    if (!device.ok()) return gpus;
    const Device::Memory memory = (*device)->memory();
    GpuFacts gpu{.device = name,
                 .name = (*device)->description(),
                 .memory = {.total = memory.total, .available = memory.available},
                 .roofs = std::nullopt};
    if (measure) gpu.roofs = LS_TRY((*device)->measure_roofs(kSeconds));
    gpus.push_back(std::move(gpu));
  }
}

std::vector<OpSupport> op_support() {
  std::vector<OpSupport> lines;
  for (size_t i = 0; i < kIsas.size(); ++i) {
    const std::vector<KernelEntry> column = kernel_entries(kernel_table(kIsas[i]));
    lines.resize(column.size());
    for (size_t op = 0; op < column.size(); ++op) {
      lines[op].op = column[op].op;
      lines[op].served_by[i] = column[op].table;
    }
  }
  return lines;
}

Result<Roofs> machine_roofs(int threads) {
  const CpuInfo cpu = detect_cpu();
  if (threads < 0 || threads > kMaxThreads) {
    return error(Code::kInvalidArgument, "devices: --threads is ", threads, "; expected 0..", kMaxThreads);
  }
  Stream stream(threads > 0 ? threads : cpu.cpus);
  return measure_roofs(stream, cpu.best);
}

}  // namespace lockstep
