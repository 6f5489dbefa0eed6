// lockstep devices: what this machine is, and which code serves which op on it.
#include <algorithm>
#include <iostream>
#include <memory>

#include "cli/commands.h"
#include "diag/table.h"
#include "engine/facts.h"
#include "json/json_writer.h"

namespace lockstep::cli {
namespace {

struct DevicesFlags {
  int32_t threads = 0;
  bool measure = false;
  bool json = false;
};

void print_machine(const CpuInfo& cpu, const MachineMemory& memory) {
  Table table({{"", Align::kLeft}, {"", Align::kLeft}});
  table.row({"cpu", cpu.model});
  table.row({"instructions", std::string(name_of(cpu.best))});
  table.row({"cpus", std::to_string(cpu.cpus)});
  table.row({"memory", bytes_text(static_cast<double>(memory.total)) + ", " +
                           bytes_text(static_cast<double>(memory.available)) + " of it free"});
  std::cout << table.text();
}

void print_gpu(const GpuFacts& gpu) {
  Table table({{"", Align::kLeft}, {"", Align::kLeft}});
  table.row({gpu.device, gpu.name});
  table.row({"memory", bytes_text(static_cast<double>(gpu.memory.total)) + ", " +
                           bytes_text(static_cast<double>(gpu.memory.available)) + " of it free"});
  std::cout << "\n" << table.text();
}

void print_roofs(const Roofs& roofs) {
  Table table({{"roof", Align::kLeft}, {"measured"}, {"", Align::kLeft}});
  table.row({"read", fixed(roofs.read_gb_per_s, 1), "GB/s"});
  table.row({"copy", fixed(roofs.copy_gb_per_s, 1), "GB/s, read and written together"});
  table.row({"f32", fixed(roofs.f32_gflop_per_s, 0), "GFLOP/s"});
  table.row({"bf16", fixed(roofs.bf16_gflop_per_s, 0), concat("GFLOP/s, ", roofs.bf16_by)});
  std::cout << "\n" << table.text();
}

// The table that this CPU uses is marked; a dash is an op that a table does not need.
void print_support(Isa best) {
  std::vector<Table::Column> columns = {{"op", Align::kLeft}};
  for (const Isa isa : kIsas)
    columns.push_back({concat(name_of(isa), isa == best ? " (here)" : ""), Align::kLeft});
  Table table(std::move(columns));
  for (const OpSupport& support : op_support()) {
    std::vector<std::string> cells = {std::string(support.op)};
    for (const std::string_view by : support.served_by) cells.emplace_back(by.empty() ? "-" : by);
    table.row(std::move(cells));
  }
  std::cout << "\n" << table.text();
}

void write_roofs(const std::optional<Roofs>& roofs, JsonWriter& json) {
  json.key("roofs");
  if (!roofs) {
    json.value(nullptr);
    return;
  }
  json.begin_object().member("read_gbs", roofs->read_gb_per_s).member("copy_gbs", roofs->copy_gb_per_s);
  json.member("f32_gflops", roofs->f32_gflop_per_s).member("bf16_gflops", roofs->bf16_gflop_per_s);
  json.member("bf16_by", roofs->bf16_by).end_object();
}

void write_gpus(const std::vector<GpuFacts>& gpus, JsonWriter& json) {
  json.key("gpus").begin_array();
  for (const GpuFacts& gpu : gpus) {
    json.begin_object().member("device", gpu.device).member("name", gpu.name);
    json.member("memory_bytes", gpu.memory.total).member("memory_available_bytes", gpu.memory.available);
    write_roofs(gpu.roofs, json);
    json.end_object();
  }
  json.end_array();
}

void write_json(const CpuInfo& cpu, const std::vector<GpuFacts>& gpus, const std::optional<Roofs>& roofs) {
  const MachineMemory memory = machine_memory();
  JsonWriter json;
  json.begin_object().member("schema", "lockstep.devices/1").key("cpu").begin_object();
  json.member("model", cpu.model).member("isa", name_of(cpu.best)).member("cpus", cpu.cpus);
  json.member("memory_bytes", memory.total).member("memory_available_bytes", memory.available).end_object();
  write_gpus(gpus, json);
  write_roofs(roofs, json);
  json.key("ops").begin_array();
  for (const OpSupport& support : op_support()) {
    json.begin_object().member("op", support.op).key("served_by").begin_object();
    for (size_t i = 0; i < kIsas.size(); ++i) {
      json.key(name_of(kIsas[i]));
      if (support.served_by[i].empty()) {
        json.value(nullptr);
      } else {
        json.value(support.served_by[i]);
      }
    }
    json.end_object().end_object();
  }
  json.end_array().end_object();
  std::cout << std::move(json).take() << "\n";
}

Status run(const DevicesFlags& flags) {
  std::optional<Roofs> roofs;
  if (flags.measure) roofs = LS_TRY(machine_roofs(flags.threads));
  const CpuInfo cpu = detect_cpu();
  const std::vector<GpuFacts> gpus = LS_TRY(gpu_facts(flags.measure));
  if (flags.json) {
    write_json(cpu, gpus, roofs);
    return {};
  }
  print_machine(cpu, machine_memory());
  if (roofs) print_roofs(*roofs);
  for (const GpuFacts& gpu : gpus) {
    print_gpu(gpu);
    if (gpu.roofs) print_roofs(*gpu.roofs);
  }
  print_support(cpu.best);
  return {};
}

constexpr const char* kFooter =
    "The table says which code serves an op when an instruction set is chosen (--isa of other commands). An\n"
    "op that one instruction set does not speed up is served by the next lower one; sm90 is --device cuda,\n"
    "where builds have it.\n"
    "\n"
    "Examples:\n"
    "  lockstep devices\n"
    "  lockstep devices --measure\n";

}  // namespace

Command add_devices(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand("devices", "Show this machine and which code serves which op on it");
  const auto flags = std::make_shared<DevicesFlags>();
  app->footer(kFooter);
  app->add_flag("--measure", flags->measure,
                "Measure how fast it reads, copies and multiplies; takes seconds");
  app->add_option("--threads", flags->threads, "Threads to measure with; 0: all CPUs")->capture_default_str();
  app->add_flag("--json", flags->json, "One JSON document instead of tables");
  return {.app = app, .run = [flags](RankSession&) { return run(*flags); }};
}

}  // namespace lockstep::cli
