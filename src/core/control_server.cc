// Accepting, judging and serving the clients of the control socket. See control_server.h.
#include "core/control_server.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "core/config_errors.h"
#include "core/log.h"

namespace gatehouse {
namespace {

constexpr int kAcceptsPerTurn = 16;
// After a failure that will not go by at once, such as too many open files.
constexpr Duration kAcceptPause{1'000};

bool is_in_group(int socket, gid_t primary, gid_t group) {
  if (primary == group) return true;
  std::vector<gid_t> groups(32);
  for (;;) {
    auto size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) == 0) {
      groups.resize(size / sizeof(gid_t));
      return std::find(groups.begin(), groups.end(), group) != groups.end();
    }
    if (errno != ERANGE || size <= groups.size() * sizeof(gid_t)) return false;
    groups.resize(size / sizeof(gid_t));
  }
}

// None: no right at all.
std::optional<ControlRight> right_of(int socket, const ucred& peer, std::optional<gid_t> readers) {
  if (peer.uid == 0 || peer.uid == geteuid()) return ControlRight::kChange;
  if (readers && is_in_group(socket, peer.gid, *readers)) return ControlRight::kRead;
  return std::nullopt;
}

// The last word to somebody who is not let in. Whether it arrives is the client's affair.
void send_farewell(int socket, const std::string& text) {
  ControlMessage message;
  message.kind = ControlMessage::Kind::kReply;
  message.body = {{"error", text}};
  send_control_message(socket, message);
}

std::string unknown_command(std::string_view name) {
  std::vector<std::string_view> names;
  for (const ControlCommand& command : kControlCommands) names.push_back(command.name);
  const std::string_view near = nearest_word(name, names);
  return fmt::format("unknown command \"{}\"{}", name,
                     near.empty() ? "" : fmt::format("; did you mean \"{}\"?", near));
}

}  // namespace

ControlServer::ControlServer(Handler handler) : handler_(std::move(handler)) {}

ControlServer::~ControlServer() {
  close();
}

Result<void> ControlServer::open(const ControlPlace& place) {
  ControlPlace wanted = place;
  const bool replaces_own =
      is_open() && path_ == place.path && is_control_socket(path_, socket_.device, socket_.inode);
  wanted.replace_live = wanted.replace_live || replaces_own;
  Result<ControlSocket> made = make_control_socket(wanted);
  if (!made) return made.error();
  if (!replaces_own) remove_socket();
  socket_ = std::move(*made);
  path_ = place.path;
  readers_ = place.readers;
  maker_ = getpid();
  accept_after_.reset();
  return {};
}

void ControlServer::add_descriptors(std::vector<pollfd>& list) const {
  if (is_open() && !accept_after_) {
    list.push_back({.fd = socket_.listener.get(), .events = POLLIN, .revents = 0});
  }
  for (const auto& [number, client] : clients_) {
    if (!client.peer->is_open()) continue;
    list.push_back({.fd = client.peer->fd(), .events = client.peer->events(), .revents = 0});
  }
}

std::optional<Moment> ControlServer::next_deadline() const {
  std::optional<Moment> until = is_open() ? accept_after_ : std::nullopt;
  for (const auto& [number, client] : clients_) {
    const std::optional<Moment> next = client.peer->next_deadline();
    if (next && (!until || *next < *until)) until = next;
  }
  return until;
}

void ControlServer::turn(Moment now) {
  in_turn_ = true;
  if (is_open()) accept_clients(now);
  // Handlers add no clients, so that the map does not change under this.
  for (auto& [number, client] : clients_) client.peer->turn(now);
  in_turn_ = false;
  if (std::exchange(drop_all_, false)) clients_.clear();
  std::erase_if(clients_, [](const auto& entry) { return !entry.second.peer->is_open(); });
}

void ControlServer::accept_clients(Moment now) {
  if (accept_after_ && *accept_after_ > now) return;
  accept_after_.reset();
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    UniqueFd socket(
        accept4(socket_.listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (socket) {
      add_client(std::move(socket));
      continue;
    }
    if (errno == EAGAIN) return;
    if (errno == EINTR || errno == ECONNABORTED) continue;
    GH_LOG(kWarn, "control: cannot accept a client: {}", std::strerror(errno));
    accept_after_ = now + kAcceptPause;
    return;
  }
}

void ControlServer::add_client(UniqueFd socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) {
    GH_LOG(kWarn, "control: cannot tell who a client is: {}", std::strerror(errno));
    return;
  }
  const std::optional<ControlRight> right = right_of(socket.get(), peer, readers_);
  if (!right) {
    GH_LOG(kWarn, "control: refused process {} of user {}", peer.pid, peer.uid);
    return send_farewell(socket.get(), "this user may not use the control socket");
  }
  const auto readers = std::count_if(clients_.begin(), clients_.end(), [](const auto& entry) {
    return entry.second.right == ControlRight::kRead;
  });
  const size_t max = *right == ControlRight::kRead ? kControlReadersMax : kControlClientsMax;
  if (clients_.size() >= kControlClientsMax ||
      (*right == ControlRight::kRead && static_cast<size_t>(readers) >= kControlReadersMax)) {
    GH_LOG(kWarn, "control: refused process {}: {} clients are connected already", peer.pid, max);
    return send_farewell(socket.get(),
                         fmt::format("{} clients are connected already; try again later", max));
  }
  const uint64_t number = next_client_++;
  const ControlLimits limits{
      .fds_max = 0, .requests_max = kControlRequestsMax, .idle_max = kControlClientIdleMax};
  Client client;
  client.peer = std::make_unique<ControlPeer>(
      std::move(socket),
      [this, number](ControlRequest request) { take(number, std::move(request)); }, limits);
  client.uid = peer.uid;
  client.pid = peer.pid;
  client.right = *right;
  clients_.emplace(number, std::move(client));
}

void ControlServer::take(uint64_t number, ControlRequest request) {
  const Client& client = clients_.at(number);
  const ControlCommand* command = find_control_command(request.command);
  if (command == nullptr) {
    return client.peer->reply(request.id, control_error(unknown_command(request.command)));
  }
  if (command->right == ControlRight::kChange && client.right != ControlRight::kChange) {
    GH_LOG(kWarn, "control: refused {} to process {} of user {}", command->name, client.pid,
           client.uid);
    return client.peer->reply(
        request.id, control_error(fmt::format("only root may use the command {}", command->name)));
  }
  if (command->right == ControlRight::kChange) {
    GH_LOG(kNotice, "control: {} asked for by process {} of user {}", command->name, client.pid,
           client.uid);
  }
  request.client = number;
  request.uid = client.uid;
  request.pid = client.pid;
  handler_(std::move(request));
}

void ControlServer::reply(uint64_t client, uint64_t request, ControlReply reply) {
  const auto found = clients_.find(client);
  if (found != clients_.end()) found->second.peer->reply(request, std::move(reply));
}

void ControlServer::close() {
  remove_socket();
  if (in_turn_) {
    drop_all_ = true;
  } else {
    clients_.clear();
  }
}

void ControlServer::hand_over() {
  socket_ = ControlSocket{};
}

void ControlServer::remove_socket() {
  if (is_open() && maker_ == getpid() && is_control_socket(path_, socket_.device, socket_.inode)) {
    unlink(path_.c_str());
  }
  socket_ = ControlSocket{};
}

}  // namespace gatehouse
