// Communicator: one group of ranks, as one of its members sees it. Everything that ranks tell each other
// about numbers goes through here, and stands in the ledger before it is entered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "comm/ledger.h"
#include "tensor/dtype.h"

namespace lockstep {

// Thread: collectives by one owner; fail() and status() by anybody. All members call the same collectives in
// the same order with the same sizes. While a rank waits it yields its CPU. Once something has failed the
// communicator is closed: every call, on every member that learns of it, returns the first reason at once.
class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  std::string_view name() const { return name_; }  // "tp": static storage
  int32_t rank() const { return rank_; }           // in the group
  int32_t size() const { return size_; }

  // What a collective carries, for the ledger: bytes are counted in elements of `dtype`.
  // `all`: size() times what each rank brings, in order of ranks; `mine` may lie inside it at its place.
  // Errors: kDevice or kInternal, with a fault (G1): who is missing, or who said what; the first reason of a
  // closed communicator. kInternal for sizes that do not fit.
  Status all_gather(std::span<const std::byte> mine, std::span<std::byte> all, DType dtype);
  // Block p of `send` goes to rank p; block p of `receive` comes from it. Blocks are `block` bytes each.
  Status all_to_all(std::span<const std::byte> send, std::span<std::byte> receive, int64_t block,
                    DType dtype);
  // What `root` holds in `bytes` is what everybody holds afterwards.
  Status broadcast(std::span<std::byte> bytes, int32_t root, DType dtype);

  // Closes the communicator, for this member and whoever it can still reach. The first reason stays.
  void fail(const Status& why);
  Status status() const;

 protected:
  Communicator(std::string_view name, int32_t rank, int32_t size, Ledger* ledger)
      : name_(name), rank_(rank), size_(size), ledger_(ledger) {}

  // Blocking, on checked sizes, in a group of more than one.
  virtual Status do_all_gather(std::span<const std::byte> mine, std::span<std::byte> all) = 0;
  virtual Status do_all_to_all(std::span<const std::byte> send, std::span<std::byte> receive,
                               int64_t block) = 0;
  virtual Status do_broadcast(std::span<std::byte> bytes, int32_t root) = 0;
  virtual void do_fail(const Status& why) = 0;  // lets waiting members go; once

 private:
  Status enter(std::string_view op, int64_t bytes, DType dtype);
  Status leave(Status status);

  std::string_view name_;
  int32_t rank_;
  int32_t size_;
  Ledger* ledger_;  // of this rank; outlives the communicator
  mutable std::mutex mutex_;
  Status closed_;
};

}  // namespace lockstep
