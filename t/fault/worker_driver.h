// Drives one real worker process as its master would, and talks to it as clients and upstreams do.
//
// The worker is a child that runs Worker::run with all modules. Everything here happens in one
// thread, step by step: the test accepts the upstream's connections itself. Sockets and logs are
// known by ids, as in the real plan; the driver remembers which of them the worker has. Tests keep
// the driver in a global that set_up makes, because a failed assertion skips destructors.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "core/channel.h"
#include "core/config_source.h"
#include "core/log.h"
#include "core/log_files.h"
#include "core/metrics.h"
#include "core/sealed_bytes.h"
#include "core/shared_memory.h"
#include "http/worker.h"
#include "modules/registry.h"

namespace gatehouse::fault {

inline constexpr int kPatienceMs = 20'000;  // sanitizers are slow, and so are busy machines

// A socket with a deadline for everything; whatever goes wrong shows as missing text.
class Peer {
 public:
  Peer() = default;
  explicit Peer(int fd) : fd_(fd) {}

  static Peer connect_to(const SocketAddress& address) {
    ConnectStart start = start_connect(address);
    Peer peer(start.fd.release());
    if (start.error != 0 && start.error != EINPROGRESS) peer = Peer();
    pollfd waiting{peer.fd(), POLLOUT, 0};
    if (peer.fd() >= 0 && (poll(&waiting, 1, kPatienceMs) != 1 || connect_result(peer.fd()) != 0)) {
      peer = Peer();
    }
    return peer;
  }
  static Peer accept_from(int listening) {
    pollfd waiting{listening, POLLIN, 0};
    if (poll(&waiting, 1, kPatienceMs) != 1) return Peer();
    return Peer(accept4(listening, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  }

  int fd() const { return fd_.get(); }
  explicit operator bool() const { return static_cast<bool>(fd_); }
  void close() { fd_.reset(); }

  void send(std::string_view text) {
    while (!text.empty()) {
      const ssize_t sent = ::send(fd(), text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      text.remove_prefix(static_cast<size_t>(sent));
    }
  }
  // What has come up to and with `end`; less where the connection ended or nothing came in time.
  std::string read_to(std::string_view end, int patience_ms = kPatienceMs) {
    for (;;) {
      const size_t found = in_.find(end);
      if (found != std::string::npos) {
        std::string text = in_.substr(0, found + end.size());
        in_.erase(0, text.size());
        return text;
      }
      if (!fill(patience_ms)) return std::exchange(in_, {});
    }
  }
  // True where the other side ends within the time, without a byte before it.
  bool at_end(int patience_ms = kPatienceMs) {
    while (in_.empty() && fill(patience_ms)) {
    }
    return in_.empty() && ended_;
  }
  bool open() { return !at_end(0); }

  // One exchange whose body has a Content-Length: head and body, empty where it failed.
  std::string get(std::string_view target, std::string_view fields = {}) {
    send("GET " + std::string(target) + " HTTP/1.1\r\nHost: h\r\n" + std::string(fields) + "\r\n");
    return read_response();
  }
  std::string read_response() {
    std::string response = read_to("\r\n\r\n");
    const size_t at = response.find("Content-Length: ");
    if (at == std::string::npos) return response;
    size_t left = static_cast<size_t>(std::atoi(response.c_str() + at + 16));
    while (in_.size() < left && fill(kPatienceMs)) {
    }
    response += in_.substr(0, left);
    in_.erase(0, left);
    return response;
  }

 private:
  bool fill(int patience_ms) {
    if (!fd_ || ended_) return false;
    pollfd waiting{fd(), POLLIN, 0};
    if (poll(&waiting, 1, patience_ms) != 1) return false;
    char bytes[4096];
    const ssize_t got = recv(fd(), bytes, sizeof(bytes), 0);
    if (got <= 0) {
      ended_ = true;
      return false;
    }
    in_.append(bytes, static_cast<size_t>(got));
    return true;
  }

  UniqueFd fd_;
  std::string in_;
  bool ended_ = false;
};

inline bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

template <typename Check>
bool eventually(Check check, int patience_ms = kPatienceMs) {
  for (int waited = 0; waited <= patience_ms; waited += 10) {
    if (check()) return true;
    usleep(10'000);
  }
  return false;
}

class WorkerDriver {
 public:
  struct Plan {
    std::vector<std::pair<uint64_t, std::string>> sockets;  // id, listener
    std::vector<uint64_t> logs;
    bool parked = false;
    Duration drain_timeout = std::chrono::seconds(20);
    uint32_t connections_max = 1000;
  };

  WorkerDriver() : shared_(std::move(*SharedMemory::create(16_MiB))) {
    char name[] = "/tmp/gatehouse-worker-XXXXXX";
    folder_ = mkdtemp(name);
    metrics_ = std::move(*Metrics::open(shared_, 1, 0));
  }
  ~WorkerDriver() {
    stop();
    std::filesystem::remove_all(folder_);
  }
  WorkerDriver(const WorkerDriver&) = delete;
  WorkerDriver& operator=(const WorkerDriver&) = delete;

  // A listening socket for the worker, or, as an upstream, for the test itself.
  SocketAddress listen(uint64_t id) {
    Result<UniqueFd> fd = listen_at(*SocketAddress::parse("127.0.0.1:0"), ListenOptions());
    const SocketAddress address = *local_address(fd->get());
    sockets_[id] = {std::move(*fd), address};
    return address;
  }
  const SocketAddress& address(uint64_t id) { return sockets_.at(id).address; }
  int socket(uint64_t id) { return sockets_.at(id).fd.get(); }
  // The master lets go of a socket that no plan has any more.
  void close_socket(uint64_t id) { sockets_.erase(id); }

  void open_log(uint64_t id) {
    logs_[id] = {std::move(*open_log_file(log_path(id))), log_path(id)};
  }
  std::string log_path(uint64_t id) const { return folder_ + "/log." + std::to_string(id); }
  std::string read_file(const std::string& path) const {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }

  void start(const std::string& config, const Plan& plan, bool wait_for_switch = false) {
    ChannelPair pair = std::move(*make_channel());
    WorkerContext context;
    context.pool = "default";
    context.rows = 1;
    context.config_fd = sealed(config).release();
    context.plan = worker_plan(1, plan);
    context.wait_for_switch = wait_for_switch;
    context.shared = &shared_;
    for (WorkerSocket& socket : context.plan.sockets) socket.fd = dup_of(sockets_[socket.id].fd);
    for (WorkerLog& log : context.plan.logs) log.fd = dup_of(logs_[log.id].fd);
    pid_ = fork();
    if (pid_ == 0) {
      pair.master.reset();
      context.channel_fd = pair.worker.release();
      // Copies of the test's own descriptors would keep its connections open.
      for (auto& [id, socket] : sockets_) socket.fd.reset();
      for (auto& [id, log] : logs_) log.fd.reset();
      const Schema schema = make_schema(all_modules());
      std::exit(Worker::run(std::move(context), schema, all_modules()));
    }
    close(context.config_fd);
    for (const WorkerSocket& socket : context.plan.sockets) close(socket.fd);
    for (const WorkerLog& log : context.plan.logs) close(log.fd);
    channel_ = std::move(pair.master);
  }

  void prepare(uint32_t generation, const std::string& config, const Plan& plan) {
    prepare_bytes(generation, sealed(config), plan);
  }
  void prepare_bytes(uint32_t generation, UniqueFd config, const Plan& plan) {
    const WorkerPlan packed = worker_plan(generation, plan);
    std::vector<int> fds;
    for (const WorkerSocket& socket : packed.sockets) {
      if (socket.is_new) fds.push_back(sockets_[socket.id].fd.get());
    }
    for (const WorkerLog& log : packed.logs) {
      if (log.is_new) fds.push_back(logs_[log.id].fd.get());
    }
    // One by one, so that more than one message is needed.
    for (const int fd : fds) send(ChannelVerb::kPrepareFds, generation, {fd});
    const UniqueFd bytes = std::move(*seal_bytes("plan", pack_worker_plan(packed)));
    send(ChannelVerb::kPrepare, generation, {config.get(), bytes.get()});
    offered_ = plan;
  }
  void switch_to(uint32_t generation) {
    send(ChannelVerb::kSwitch, generation);
    have_ = offered_;
  }
  void send(ChannelVerb verb, uint32_t argument = 0, const std::vector<int>& fds = {}) {
    (void)channel_send(channel_.get(), verb, argument, fds);
  }
  // Prepare and switch, as a reload that meets no trouble. True where the worker agreed.
  bool reload(uint32_t generation, const std::string& config, const Plan& plan) {
    prepare(generation, config, plan);
    if (!heard(ChannelVerb::kPrepared, generation)) return false;
    switch_to(generation);
    return heard(ChannelVerb::kSwitched, generation);
  }

  // The next message of the worker; nothing where none comes in time.
  std::optional<ChannelMessage> hear(int patience_ms = kPatienceMs) {
    pollfd waiting{channel_.get(), POLLIN, 0};
    if (poll(&waiting, 1, patience_ms) != 1) return std::nullopt;
    ChannelMessage message;
    if (channel_receive(channel_.get(), message) != ChannelStatus::kOk) return std::nullopt;
    return message;
  }
  bool heard(ChannelVerb verb, uint32_t argument) {
    const std::optional<ChannelMessage> message = hear();
    if (message && message->verb == verb && message->argument == argument) return true;
    std::fprintf(stderr, "heard verb %d of %u, not %u of %u: %s\n",
                 message ? static_cast<int>(message->verb) : -1, message ? message->argument : 0,
                 static_cast<unsigned>(verb), argument, text_of(message).c_str());
    return false;
  }
  // The text of a kPrepareFailed.
  static std::string text_of(const std::optional<ChannelMessage>& message) {
    if (!message || message->fds.size() != 1) return "";
    Result<std::string> text = read_sealed(message->fds[0].get(), 1 << 20);
    return text ? *text : "";
  }

  Peer connect(uint64_t id) { return Peer::connect_to(address(id)); }
  std::string get(uint64_t id, std::string_view target) {
    return connect(id).get(target, "Connection: close\r\n");
  }

  // The worker's exit code once it has ended; -1 where it has not in time, 1000 + a signal.
  int exit_code(int patience_ms = kPatienceMs) {
    int status = 0;
    for (int waited = 0; waited <= patience_ms; waited += 10) {
      if (waitpid(pid_, &status, WNOHANG) == pid_) {
        pid_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
      }
      usleep(10'000);
    }
    return -1;
  }
  int stop() {
    if (pid_ < 0) return 0;
    send(ChannelVerb::kStop);
    const int code = exit_code();
    if (code == -1) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
      pid_ = -1;
    }
    channel_.reset();
    return code;
  }
  void close_channel() { channel_.reset(); }
  pid_t pid() const { return pid_; }

  size_t open_descriptors() const {
    size_t count = 0;
    const std::string path = "/proc/" + std::to_string(pid_) + "/fd";
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(path)) ++count;
    return count;
  }
  // How many of them are this file.
  size_t descriptors_of(const std::string& path) const {
    size_t count = 0;
    const std::string all = "/proc/" + std::to_string(pid_) + "/fd";
    for (const auto& entry : std::filesystem::directory_iterator(all)) {
      std::error_code gone;
      if (std::filesystem::read_symlink(entry.path(), gone) == path) ++count;
    }
    return count;
  }
  size_t threads() const {
    size_t count = 0;
    const std::string path = "/proc/" + std::to_string(pid_) + "/task";
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(path)) ++count;
    return count;
  }
  // Resident memory of its own, in KiB: without the files and the segment that it shares.
  long memory_kib() const {
    const std::string text = read_file("/proc/" + std::to_string(pid_) + "/status");
    return std::atol(text.c_str() + text.find("RssAnon:") + 8);
  }

  // The sum over all rows; zeros where there is no such series.
  SeriesCells cells(SeriesKind kind, std::string_view name) const {
    for (const SeriesTotal& total : metrics_->totals()) {
      if (total.kind == kind && total.name == name) return total.cells;
    }
    return SeriesCells();
  }

 private:
  struct Held {
    UniqueFd fd;
    SocketAddress address;
  };
  struct HeldLog {
    UniqueFd fd;
    std::string path;
  };

  static int dup_of(const UniqueFd& fd) { return fcntl(fd.get(), F_DUPFD_CLOEXEC, 3); }
  static UniqueFd sealed(const std::string& config) {
    return std::move(*ConfigSource::from_text("test.conf", config).to_memfd());
  }

  WorkerPlan worker_plan(uint32_t generation, const Plan& plan) {
    WorkerPlan packed;
    packed.generation = generation;
    packed.parked = plan.parked;
    packed.connections_max = plan.connections_max;
    packed.drain_timeout = plan.drain_timeout;
    const auto has_socket = [&](uint64_t id) {
      for (const auto& [known, listener] : have_.sockets) {
        if (known == id) return true;
      }
      return false;
    };
    for (const auto& [id, listener] : plan.sockets) {
      packed.sockets.push_back({id, listener, sockets_[id].address, !has_socket(id), -1});
    }
    for (const uint64_t id : plan.logs) {
      const bool known = std::find(have_.logs.begin(), have_.logs.end(), id) != have_.logs.end();
      packed.logs.push_back({id, logs_[id].path, !known, -1});
    }
    if (generation == 1) have_ = plan;
    return packed;
  }

  SharedMemory shared_;
  std::unique_ptr<Metrics> metrics_;
  std::string folder_;
  std::map<uint64_t, Held> sockets_;
  std::map<uint64_t, HeldLog> logs_;
  Plan have_;     // what the worker has
  Plan offered_;  // what it was told to prepare
  pid_t pid_ = -1;
  UniqueFd channel_;
};

}  // namespace gatehouse::fault
