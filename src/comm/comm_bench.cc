// What a collective costs: latency and rate of every primitive from 64 B to 16 MiB, and the alpha-beta model
// that fits them, over threads or over the processes of a launcher.
//   comm_bench [PRIMITIVE]                     threads, groups of 2 and of 4
//   mpirun -n RANKS comm_bench [PRIMITIVE]     processes
// tools/comm_model.py reads what it prints.
#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "base/clock.h"
#include "comm/collectives.h"
#include "comm/registry.h"
#include "comm/thread_fabric.h"
#include "diag/table.h"
#include "kernels/table.h"

namespace lockstep {
namespace {

constexpr std::chrono::milliseconds kDeadline(60000);
constexpr int64_t kSmallest = 64, kLargest = int64_t{16} << 20;
constexpr int kBatches = 40;

// Large enough for every size.
struct Memory {
  std::span<std::byte> from;
  std::span<std::byte> to;
  Stream& stream;
};

// One primitive on `bytes` per rank. A rank receives (size - 1) / size of what all_gather and all_to_all
// give, and all of a broadcast.
struct Primitive {
  std::string_view name;
  Status (*run)(Communicator& group, const Memory& memory, int64_t bytes);
  // Bytes that a rank receives from others.
  int64_t (*received)(int64_t bytes, int64_t ranks);
};

constexpr Primitive kPrimitives[] = {
    {"all_gather",
     [](Communicator& group, const Memory& memory, int64_t bytes) {
       const auto all = static_cast<size_t>(bytes) * static_cast<size_t>(group.size());
       return group.all_gather(memory.from.first(static_cast<size_t>(bytes)), memory.to.first(all),
                               DType::kU8);
     },
     [](int64_t bytes, int64_t ranks) { return bytes * (ranks - 1); }},
    {"all_to_all",
     [](Communicator& group, const Memory& memory, int64_t bytes) {
       const auto all = static_cast<size_t>(bytes) * static_cast<size_t>(group.size());
       return group.all_to_all(memory.from.first(all), memory.to.first(all), bytes, DType::kU8);
     },
     [](int64_t bytes, int64_t ranks) { return bytes * (ranks - 1); }},
    {"broadcast",
     [](Communicator& group, const Memory& memory, int64_t bytes) {
       return group.broadcast(memory.to.first(static_cast<size_t>(bytes)), 0, DType::kU8);
     },
     [](int64_t bytes, int64_t) { return bytes; }},
    {"all_reduce",
     [](Communicator& group, const Memory& memory, int64_t bytes) {
       const int64_t width = bytes / 4, scratch = all_reduce_scratch_bytes(1, width, group.size());
       LS_TRY(all_reduce({kernel_table(Isa::kReference), memory.stream},
                         {.x = dense_view(memory.from.data(), DType::kF32, {1, width}),
                          .scratch = dense_view(memory.to.data(), DType::kU8, {scratch}),
                          .group = &group},
                         "bench"));
       return group.status();
     },
     // What the sum of two exchanges brings, as if small sums took them too.
     [](int64_t bytes, int64_t ranks) { return 2 * bytes * (ranks - 1) / ranks; }},
};

struct Measured {
  int64_t received = 0;
  double us = 0;
};

// Least squares of (alpha + received / beta - us) / us: every size counts alike.
struct Model {
  double alpha_us = 0;
  double beta_gb_per_s = 0;
};
Model fit(std::span<const Measured> measured) {
  double a = 0, b = 0, c = 0, d = 0, e = 0;
  for (const Measured& m : measured) {
    const double u = 1 / m.us, v = static_cast<double>(m.received) / m.us;
    a += u * u;
    b += u * v;
    c += v * v;
    d += u;
    e += v;
  }
  const double determinant = a * c - b * b;
  const double us_per_byte = (a * e - b * d) / determinant;
  return {.alpha_us = (d * c - b * e) / determinant, .beta_gb_per_s = 1e-3 / us_per_byte};
}

struct Times {
  double median = 0;  // of the batches' means, in us
  double best = 0;    // what the machine does when it does nothing else
};

Result<Times> time_us(Communicator& group, const Primitive& primitive, const Memory& memory, int64_t bytes) {
  const int64_t times = std::clamp<int64_t>((int64_t{1} << 20) / bytes, 2, 200);
  std::vector<double> batches;
  for (int batch = 0; batch < kBatches; ++batch) {
    const int64_t start = now_ns();
    for (int64_t i = 0; i < times; ++i) LS_TRY(primitive.run(group, memory, bytes));
    batches.push_back(seconds_since(start) * 1e6 / static_cast<double>(times));
  }
  std::sort(batches.begin(), batches.end());
  return Times{.median = batches[batches.size() / 2], .best = batches.front()};
}

// Rank 0 of the group tells.
Status measure(Communicator& group, std::string_view fabric, std::string_view only) {
  const auto space = static_cast<size_t>(2 * kLargest) * static_cast<size_t>(group.size());
  std::vector<std::byte> from(space), to(space);
  Stream stream(1);
  const Memory memory{.from = from, .to = to, .stream = stream};
  std::string text;
  for (const Primitive& primitive : kPrimitives) {
    if (!only.empty() && primitive.name != only) continue;
    Table table({{""}, {"median us"}, {"best us"}, {"best GB/s"}});
    std::vector<Measured> all;
    for (int64_t bytes = kSmallest; bytes <= kLargest; bytes *= 4) {
      const Times us = LS_TRY(time_us(group, primitive, memory, bytes));
      all.push_back({primitive.received(bytes, group.size()), us.best});
      table.row({std::to_string(bytes), fixed(us.median, 2), fixed(us.best, 2),
                 fixed(static_cast<double>(all.back().received) / us.best * 1e-3, 2)});
    }
    const Model model = fit(all);
    text +=
        concat(fabric, ", ", group.size(), " ranks, ", primitive.name, ": alpha ", fixed(model.alpha_us, 2),
               " us, beta ", fixed(model.beta_gb_per_s, 2), " GB/s\n", table.text());
  }
  if (group.rank() == 0) std::cout << text << std::flush;
  return {};
}

Status over_threads(int32_t ranks, std::string_view only) {
  const auto group = make_thread_group("bench", ranks, kDeadline);
  std::vector<Status> said(group.size());
  {
    std::vector<std::jthread> threads;
    for (size_t r = 0; r < group.size(); ++r)
      threads.emplace_back([&, r] { said[r] = measure(*group[r], "threads", only); });
  }
  return said[0];
}

Status over_processes(std::string_view only) {
  const auto fabric = LS_TRY(make_mpi_fabric(kDeadline));
  const auto group = LS_TRY(fabric->split("bench", 0, nullptr));
  return measure(*group, "processes", only);
}

Status run(std::string_view only) {
  const bool launched = std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr || std::getenv("PMI_SIZE") != nullptr;
  if (launched) return over_processes(only);
  LS_TRY(over_threads(2, only));
  return over_threads(4, only);
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) {
  const lockstep::Status status = lockstep::run(argc > 1 ? argv[1] : "");
  if (!status.ok()) std::cerr << status.message() << "\n";
  return status.ok() ? 0 : 1;
}
