// Registrations: the targets that registered themselves with upstreams of `discover = api`.
//
// A registration has an address, settings and, where it asks for one, a lease: one that is not
// renewed in time ends by itself. Registering again renews and replaces.
//
// They are kept in a SQLite database, registrations.db in the agent's folder, before they are
// answered: so they survive a restart of the agent, the gateway and the host. Leases go on by the
// wall clock meanwhile; what ended then is gone. Without a folder they live as long as the agent;
// the answer says so. A damaged database is moved aside, and a new one begun. While it cannot be
// read, nothing is known and nothing registered: what is in force already stays.
//
// Registrations with an upstream that the configuration does not name any more stay, unused, as
// long as their leases do.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "agent/job_thread.h"
#include "core/event_loop.h"
#include "core/member_lists.h"
#include "core/result.h"

namespace gatehouse {

inline constexpr Duration kLeaseMin = std::chrono::seconds(1);
inline constexpr Duration kLeaseMax = std::chrono::hours(24 * 365);

struct Registration {
  std::string upstream;
  Member member;
  Duration lease{0};          // 0: until it is taken back
  int64_t registered_us = 0;  // wall clock: the first time
  int64_t expires_us = 0;     // the same; 0: never
  Moment ends{INT64_MAX};     // the same on the loop's clock
};

// What a request asks to register: {"weight", "backup", "version", "tags", "lease": "30s"}, all of
// them optional. `text` may be empty.
Result<Registration> parse_registration(std::string_view upstream, std::string_view address,
                                        std::string_view text);
nlohmann::json registration_json(const Registration& registration);

class Registrations {
 public:
  // `disk`: the thread that the database is used on. `changed` is told of an upstream whose members
  // are others now.
  Registrations(EventLoop& loop, JobThread& disk, std::function<void(const std::string&)> changed);
  Registrations(const Registrations&) = delete;
  Registrations& operator=(const Registrations&) = delete;
  ~Registrations();

  // Where they are kept; empty: nowhere. Reads what is there, unless it has done so already.
  void open(const std::string& folder);

  struct Outcome {
    Registration registration;
    bool created = false;  // it was not there before
    bool kept = false;     // on disk
  };
  // `room`: how many an upstream may have. `done` is called once, later.
  void put(Registration registration, size_t room, std::function<void(Result<Outcome>)> done);
  // Gives whether there was one.
  void remove(const std::string& upstream, const SocketAddress& address,
              std::function<void(Result<bool>)> done);

  // Null until the database was read.
  const std::vector<Member>* members(const std::string& upstream) const;
  std::vector<Registration> list(const std::string& upstream) const;
  bool loaded() const { return loaded_; }
  size_t size() const;
  const std::string& problem() const { return problem_; }  // of the last use of the database

 private:
  struct Store;
  using Places = std::map<SocketAddress, Registration>;

  void load();
  void take(Result<std::vector<Registration>> found);
  void refresh(const std::string& upstream);
  void expire();
  void arm();
  void note(const Result<void>& result);

  EventLoop& loop_;
  JobThread& disk_;
  std::function<void(const std::string&)> changed_;
  std::shared_ptr<Store> store_;  // null: nothing is kept; used on the disk's thread only
  std::string folder_;
  bool opened_ = false;
  bool loaded_ = false;
  std::string problem_;
  std::map<std::string, Places> upstreams_;
  std::map<std::string, std::vector<Member>> members_;
  std::vector<std::function<void()>> when_loaded_;
  Timer timer_;
  Timer again_;  // the database could not be read
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gatehouse
