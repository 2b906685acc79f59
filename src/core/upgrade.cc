// Handing a running gateway over to a new program. See upgrade.h.
#include "core/upgrade.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/json_text.h"
#include "core/log.h"
#include "core/process_end.h"
#include "core/process_title.h"
#include "core/process_worker.h"
#include "core/sealed_bytes.h"
#include "core/signals.h"

namespace gatehouse {
namespace {

using Json = nlohmann::json;

constexpr char kVariable[] = "GATEHOUSE_HANDOVER";
constexpr int kVersion = 1;
constexpr size_t kHandoverMax = size_t{16} << 20;
// How long the old master waits to hear that the new one is in charge, before it answers all the
// same.
constexpr Duration kConfirmTimeout{10'000};
constexpr size_t kWordMax = 8192;
constexpr std::string_view kWords[] = {"ready", "go", "in-charge", "failed"};

// Makes an inherited number ours: it must be open, and is not inherited any further.
UniqueFd adopt(int fd) {
  if (fd <= STDERR_FILENO || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
    throw std::runtime_error(fmt::format("descriptor {} is not there", fd));
  }
  return UniqueFd(fd);
}

SocketAddress address_of(const Json& text) {
  Result<SocketAddress> address = SocketAddress::parse(text.get<std::string>());
  if (!address) throw std::runtime_error(address.error().message);
  return *address;
}

Handover handover_from(const Json& json) {
  if (json.at("version").get<int>() != kVersion) throw std::runtime_error("another version");
  Handover handover;
  handover.old_pid = json.at("pid").get<pid_t>();
  handover.generation = json.at("generation").get<uint32_t>();
  handover.talk = adopt(json.at("talk").get<int>());
  handover.shared = adopt(json.at("shared").get<int>());
  json.at("rows").get_to(handover.rows);
  for (const Json& entry : json.at("sockets")) {
    ListenSockets::Inherited socket;
    entry.at("listener").get_to(socket.listener);
    socket.asked = address_of(entry.at("asked"));
    socket.address = address_of(entry.at("address"));
    for (const Json& fd : entry.at("fds")) socket.fds.push_back(adopt(fd.get<int>()));
    handover.sockets.push_back(std::move(socket));
  }
  return handover;
}

Json json_of(const Upgrade::Inheritance& inheritance, int talk) {
  Json sockets = Json::array();
  for (const ListenSockets::HandedDown& socket : inheritance.sockets) {
    sockets.push_back({{"listener", socket.listener},
                       {"asked", socket.asked.format()},
                       {"address", socket.address.format()},
                       {"fds", socket.fds}});
  }
  return {{"version", kVersion},
          {"pid", getpid()},
          {"generation", inheritance.generation},
          {"talk", talk},
          {"shared", inheritance.shared_fd},
          {"rows", inheritance.rows},
          {"sockets", std::move(sockets)}};
}

Result<void> keep_over_exec(int fd) {
  const int flags = fcntl(fd, F_GETFD);
  if (flags < 0 || fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC) < 0) {
    return errno_error(fmt::format("descriptor {}", fd), errno);
  }
  return {};
}

[[noreturn]] void become_successor(const std::string& program,
                                   const Upgrade::Inheritance& inheritance, int talk,
                                   int handover) {
  reset_signals_in_worker();
  const auto fail = [talk](const std::string& why) {
    (void)say_upgrade_word(talk, UpgradeWord::kFailed, why);
    std::_Exit(kWorkerSetupFailed);
  };
  std::vector<int> kept = {talk, handover, inheritance.shared_fd};
  for (const ListenSockets::HandedDown& socket : inheritance.sockets) {
    kept.insert(kept.end(), socket.fds.begin(), socket.fds.end());
  }
  const Result<void> closed = close_other_descriptors(kept);
  if (!closed) fail(closed.error().message);
  for (const int fd : kept) {
    if (const Result<void> done = keep_over_exec(fd); !done) fail(done.error().message);
  }
  setenv(kVariable, std::to_string(handover).c_str(), 1);
  std::vector<std::string> arguments = original_arguments();
  std::vector<char*> pointers;
  pointers.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  execv(program.c_str(), pointers.data());
  fail(program + ": " + std::strerror(errno));
  std::_Exit(kWorkerSetupFailed);
}

}  // namespace

Result<std::optional<Handover>> Handover::take() {
  const char* variable = getenv(kVariable);
  if (variable == nullptr) return std::optional<Handover>();
  int fd = -1;
  const std::string_view text(variable);
  std::from_chars(text.data(), text.data() + text.size(), fd);
  unsetenv(kVariable);
  try {
    const UniqueFd bytes = adopt(fd);
    const Result<std::string> json = read_sealed(bytes.get(), kHandoverMax);
    if (!json) return Error{"the old master's handover: " + json.error().message};
    const Result<Json> parsed = json_from_text(*json);
    if (!parsed) return Error{"the old master's handover: " + parsed.error().message};
    return std::optional<Handover>(handover_from(*parsed));
  } catch (const std::exception& problem) {
    return Error{std::string("the old master's handover: ") + problem.what()};
  }
}

Result<void> say_upgrade_word(int talk, UpgradeWord word, std::string_view text) {
  std::string packet(kWords[static_cast<size_t>(word)]);
  if (!text.empty()) packet += " " + std::string(text);
  if (packet.size() > kWordMax) packet.resize(kWordMax);
  if (send(talk, packet.data(), packet.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
    return errno_error("cannot talk to the other master", errno);
  }
  return {};
}

UpgradeHeard hear_upgrade_word(int talk) {
  UpgradeHeard heard;
  char packet[kWordMax + 1];
  ssize_t size;
  do size = recv(talk, packet, sizeof(packet), MSG_DONTWAIT);
  while (size < 0 && errno == EINTR);
  if (size < 0 && errno == EAGAIN) return heard;
  if (size <= 0) {
    heard.closed = true;
    return heard;
  }
  const std::string_view text(packet, static_cast<size_t>(size));
  const size_t space = text.find(' ');
  const std::string_view word = text.substr(0, space);
  for (size_t i = 0; i < std::size(kWords); ++i) {
    if (word == kWords[i]) heard.word = static_cast<UpgradeWord>(i);
  }
  if (space != std::string_view::npos) heard.text = text.substr(space + 1);
  return heard;
}

Upgrade::~Upgrade() {
  if (is_running()) (void)fail("");
}

Result<void> Upgrade::start(const Inheritance& inheritance, Moment deadline) {
  const std::string program = program_path();
  if (access(program.c_str(), X_OK) != 0) return errno_error(program, errno);
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
    return errno_error("cannot make a channel to the new master", errno);
  }
  UniqueFd ours(ends[0]);
  const UniqueFd theirs(ends[1]);
  Result<UniqueFd> handover =
      seal_bytes("gatehouse handover", json_of(inheritance, theirs.get()).dump());
  if (!handover) return handover.error();
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid == 0) become_successor(program, inheritance, theirs.get(), handover->get());
  if (pid < 0) return errno_error("cannot fork the new master", errno);
  pid_ = pid;
  talk_ = std::move(ours);
  deadline_ = deadline;
  in_charge_ = false;
  cancelled_.clear();
  failure_.clear();
  GH_LOG(kNotice, "upgrade: {} starts as process {}", program, pid);
  return {};
}

Upgrade::Outcome Upgrade::turn(Moment now) {
  if (is_unconfirmed()) {
    const UpgradeHeard heard = hear_upgrade_word(talk_.get());
    // The channel itself stays open until this process ends: its end is a message, too.
    if (heard.word != UpgradeWord::kInCharge && !heard.closed && now < deadline_) {
      return Outcome::kPending;
    }
    confirmed_ = std::move(talk_);
    return Outcome::kInCharge;
  }
  if (!is_running()) return Outcome::kPending;
  if (!cancelled_.empty()) return fail(cancelled_);
  const UpgradeHeard heard = hear_upgrade_word(talk_.get());
  if (heard.word == UpgradeWord::kFailed) return fail(heard.text);
  if (heard.word == UpgradeWord::kReady) return Outcome::kReady;
  if (const std::optional<ProcessEnd> end = reap_process(pid_)) {
    const pid_t pid = std::exchange(pid_, -1);
    talk_.reset();
    failure_ = fmt::format(
        "the new master (process {}) {} before it was ready; the error log says "
        "why",
        pid, end->text());
    return Outcome::kFailed;
  }
  if (now >= deadline_) return fail("the new master was not ready within upgrade_timeout");
  return Outcome::kPending;
}

// Its workers end when they see that their master is gone.
Upgrade::Outcome Upgrade::fail(const std::string& why) {
  failure_ = why;
  kill_process(std::exchange(pid_, -1));
  talk_.reset();
  return Outcome::kFailed;
}

void Upgrade::hand_over(Moment now) {
  in_charge_ = true;
  deadline_ = now + kConfirmTimeout;
  if (Result<void> said = say_upgrade_word(talk_.get(), UpgradeWord::kGo); !said) {
    GH_LOG(kError, "upgrade: {}", said.error().message);
  }
}

void Upgrade::cancel(const std::string& why) {
  if (is_running()) cancelled_ = why;
}

std::optional<Moment> Upgrade::deadline() const {
  if (is_unconfirmed()) return deadline_;
  if (!is_running()) return std::nullopt;
  return cancelled_.empty() ? deadline_ : Moment{0};
}

}  // namespace gatehouse
