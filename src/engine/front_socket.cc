#include "engine/front_socket.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

namespace lockstep {
namespace {

// Abstract: the name begins with a zero byte, lives in the kernel, and goes with its last socket.
std::pair<sockaddr_un, socklen_t> address_of(const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const size_t length = std::min(name.size(), sizeof(address.sun_path) - 1);
  std::memcpy(address.sun_path + 1, name.data(), length);
  return {address, static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length)};
}

template <typename Use>
Result<int> open_socket(std::string_view what, const std::string& name, Use use) {
  const int socket = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  const auto [address, length] = address_of(name);
  if (socket >= 0 && use(socket, reinterpret_cast<const sockaddr*>(&address), length)) return socket;
  const int reason = errno;
  if (socket >= 0) ::close(socket);
  return error(Code::kResourceExhausted, "ranks: cannot ", what, ": ", std::strerror(reason));
}

}  // namespace

Result<int> listen_as_front(const std::string& name) {
  return open_socket("listen for ranks", name, [](int socket, const sockaddr* address, socklen_t length) {
    return ::bind(socket, address, length) == 0 && ::listen(socket, SOMAXCONN) == 0;
  });
}

Result<int> connect_to_front(const std::string& name) {
  return open_socket("reach the front", name, [](int socket, const sockaddr* address, socklen_t length) {
    return ::connect(socket, address, length) == 0;
  });
}

}  // namespace lockstep
