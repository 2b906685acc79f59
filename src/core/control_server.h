// The control socket, the master's side: accepts clients, knows who they are, and hands their
// requests to one handler, which answers now or later.
//
//   ControlServer server([&](ControlRequest request) { …; server.reply(request.client, request.id,
//                                                                      control_ok({…})); });
//   Result<void> opened = server.open({.path = "/run/gatehouse/control.sock", .readers = gid});
//   loop: server.add_descriptors(list); poll(list, server.next_deadline()); server.turn(now);
//
// It has no loop of its own and never blocks. Who may do what: the kernel says who connected
// (SO_PEERCRED, SO_PEERGROUPS). Root and the user that this process runs as may use every command;
// members of the group of readers those that change nothing (core/control_commands.h). Whoever else
// got through the file's permissions is refused. Clients bring no descriptors.
//
// Limits: kControlClientsMax clients, of which readers may be kControlReadersMax, so that they
// cannot lock root out; kControlClientIdleMax without a request; and those of ControlPeer.
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/control_commands.h"
#include "core/control_peer.h"
#include "core/control_socket.h"
#include "core/result.h"
#include "core/unique_fd.h"
#include "core/units.h"

namespace gatehouse {

inline constexpr size_t kControlClientsMax = 32;
inline constexpr size_t kControlReadersMax = 24;
inline constexpr size_t kControlRequestsMax = 8;  // of one client, waiting for their replies
inline constexpr Duration kControlClientIdleMax{60'000};

class ControlServer {
 public:
  using Handler = std::function<void(ControlRequest)>;

  // `handler` gets only commands that exist, from who may use them. It is called from turn(), and
  // may call anything here.
  explicit ControlServer(Handler handler);
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;
  ~ControlServer();  // close()

  // See core/control_socket.h. After a failure everything is as before. A server that is open
  // already moves: clients stay connected, and the old socket goes once the new one is there.
  Result<void> open(const ControlPlace& place);
  bool is_open() const { return static_cast<bool>(socket_.listener); }

  void add_descriptors(std::vector<pollfd>& list) const;
  // When turn() has to be called even though nothing is ready.
  std::optional<Moment> next_deadline() const;
  void turn(Moment now);

  // `client` and `request` are those of the ControlRequest. Does nothing where the client has gone.
  void reply(uint64_t client, uint64_t request, ControlReply reply);

  size_t clients() const { return clients_.size(); }

  // No client any more; removes the socket if it is still the one that open() made. In a forked
  // child it removes nothing.
  void close();
  // Accepts nobody any more and leaves the path alone; clients stay, to hear their replies.
  void hand_over();

 private:
  struct Client {
    std::unique_ptr<ControlPeer> peer;
    uid_t uid = 0;
    pid_t pid = 0;
    ControlRight right = ControlRight::kRead;
  };

  void accept_clients(Moment now);
  void add_client(UniqueFd socket);
  void take(uint64_t client, ControlRequest request);
  void remove_socket();

  Handler handler_;
  std::string path_;
  std::optional<gid_t> readers_;
  ControlSocket socket_;
  pid_t maker_ = 0;
  std::optional<Moment> accept_after_;
  std::map<uint64_t, Client> clients_;
  uint64_t next_client_ = 1;
  bool in_turn_ = false;
  bool drop_all_ = false;
};

}  // namespace gatehouse
