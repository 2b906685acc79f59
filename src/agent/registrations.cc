// See registrations.h.
#include "agent/registrations.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <nlohmann/json.hpp>
#include <utility>

#include "agent/history_database.h"
#include "agent/member_file.h"
#include "core/config_values.h"
#include "core/log.h"

namespace gatehouse {
namespace {

using Json = nlohmann::json;

constexpr char kFile[] = "registrations.db";
constexpr int kLockWaitMs = 2000;
constexpr int64_t kSchemaVersion = 1;
constexpr Duration kReadAgain{1000};

Json words_of(const std::string& text) {
  Json list = Json::array();
  for (const std::string_view word : split_words(text)) list.push_back(std::string(word));
  return list;
}

}  // namespace

Result<Registration> parse_registration(std::string_view upstream, std::string_view address,
                                        std::string_view text) {
  Registration registration;
  registration.upstream = upstream;
  const Result<SocketAddress> parsed = member_address(address);
  if (!parsed) return parsed.error();
  registration.member.address = *parsed;
  if (text.empty()) return registration;
  const Json object = Json::parse(text, nullptr, false);
  if (!object.is_object()) return Error{"expected a JSON object"};
  const Result<void> read = read_member(object, "lease", registration.member);
  if (!read) return read.error();
  const auto lease = object.find("lease");
  if (lease == object.end()) return registration;
  const Result<Duration> time = lease->is_string()
                                    ? ValueType<Duration>::parse(lease->get<std::string>())
                                    : Result<Duration>(Error{"not a text"});
  if (!time || *time < kLeaseMin || *time > kLeaseMax) {
    return Error{"lease: expected a time from 1s to 365d, such as \"30s\""};
  }
  registration.lease = *time;
  return registration;
}

Json registration_json(const Registration& registration) {
  const Member& member = registration.member;
  Json json = {{"upstream", registration.upstream},
               {"address", member.address.format()},
               {"weight", member.weight},
               {"backup", member.backup},
               {"version", member.version},
               {"tags", words_of(member.tags)},
               {"registered_us", registration.registered_us}};
  if (registration.lease.count() > 0) {
    json["lease"] = ValueType<Duration>::format(registration.lease);
    json["expires_us"] = registration.expires_us;
  }
  return json;
}

// ---- The database: on the disk's thread ---------------------------------------------------------

struct Registrations::Store {
  explicit Store(std::string in) : folder(std::move(in)) {}
  const std::string folder;
  std::unique_ptr<SqlDatabase> database;

  std::string path() const { return folder + "/" + kFile; }

  void open() {
    if (database) return;
    auto opened = std::make_unique<SqlDatabase>(path(), kLockWaitMs);
    opened->run("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;");
    SqlStatement version(*opened, "PRAGMA user_version");
    version.step();
    if (version.number(0) > kSchemaVersion) {
      throw SqlFailure{0, 0, path() + ": a newer version of gatehouse wrote it"};
    }
    opened->run(
        "CREATE TABLE IF NOT EXISTS registration ("
        " upstream TEXT NOT NULL, address TEXT NOT NULL, weight INTEGER NOT NULL,"
        " backup INTEGER NOT NULL, version TEXT NOT NULL, tags TEXT NOT NULL,"
        " lease_ms INTEGER NOT NULL, registered_us INTEGER NOT NULL, expires_us INTEGER NOT NULL,"
        " PRIMARY KEY (upstream, address)) WITHOUT ROWID;"
        "PRAGMA user_version = 1;");
    database = std::move(opened);
  }

  // Runs `work` with the database open; one that is damaged is moved aside, once.
  template <typename Work>
  Result<void> use(Work work) {
    for (bool again = false;; again = true) {
      try {
        open();
        work(*database);
        return {};
      } catch (const SqlFailure& failure) {
        database.reset();
        if (!failure.is_corruption() || again) return Error{failure.message};
        GH_LOG(kError, "{}: moved to {}.damaged; registrations begin anew", failure.message, kFile);
        for (const char* suffix : {"-wal", "-shm", ""}) {
          (void)rename((path() + suffix).c_str(), (path() + ".damaged" + suffix).c_str());
        }
      } catch (const std::exception& problem) {
        return Error{problem.what()};
      }
    }
  }

  Result<std::vector<Registration>> load() {
    std::vector<Registration> found;
    const Result<void> used = use([&found](SqlDatabase& rows) {
      found.clear();
      SqlStatement select(rows,
                          "SELECT upstream, address, weight, backup, version, tags, lease_ms,"
                          " registered_us, expires_us FROM registration");
      while (select.step()) {
        Registration one;
        one.upstream = select.text(0);
        const Result<SocketAddress> address = SocketAddress::parse(select.text(1));
        if (!address) continue;
        one.member.address = *address;
        one.member.weight = static_cast<uint32_t>(
            std::clamp<int64_t>(select.number(2), 1, int64_t{kMemberWeightMax}));
        one.member.backup = select.number(3) != 0;
        one.member.version = select.text(4);
        one.member.tags = select.text(5);
        one.lease = Duration(select.number(6));
        one.registered_us = select.number(7);
        one.expires_us = select.number(8);
        found.push_back(std::move(one));
      }
    });
    if (!used) return used.error();
    return found;
  }

  Result<void> put(const Registration& one) {
    return use([&one](SqlDatabase& rows) {
      const std::string address = one.member.address.format();
      SqlStatement insert(rows,
                          "INSERT OR REPLACE INTO registration"
                          " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)");
      insert.bind(1, one.upstream)
          .bind(2, address)
          .bind(3, int64_t{one.member.weight})
          .bind(4, int64_t{one.member.backup})
          .bind(5, one.member.version)
          .bind(6, one.member.tags)
          .bind(7, one.lease.count())
          .bind(8, one.registered_us)
          .bind(9, one.expires_us)
          .run();
    });
  }

  Result<void> remove(const std::string& upstream, const SocketAddress& address) {
    return use([&](SqlDatabase& rows) {
      const std::string text = address.format();
      SqlStatement erase(rows, "DELETE FROM registration WHERE upstream = ?1 AND address = ?2");
      erase.bind(1, upstream).bind(2, text).run();
    });
  }

  // All whose lease was over then, unless it has been renewed.
  Result<void> remove_expired(int64_t wall_us) {
    return use([&](SqlDatabase& rows) {
      SqlStatement erase(rows,
                         "DELETE FROM registration WHERE expires_us <> 0 AND expires_us <= ?1");
      erase.bind(1, wall_us).run();
    });
  }
};

// ---- The list: on the loop ----------------------------------------------------------------------

Registrations::Registrations(EventLoop& loop, JobThread& disk,
                             std::function<void(const std::string&)> changed)
    : loop_(loop), disk_(disk), changed_(std::move(changed)) {
  timer_.set([](void* self) { static_cast<Registrations*>(self)->expire(); }, this);
  again_.set([](void* self) { static_cast<Registrations*>(self)->load(); }, this);
}

Registrations::~Registrations() {
  *alive_ = false;
}

void Registrations::open(const std::string& folder) {
  if (opened_ && folder == folder_) return;
  opened_ = true;
  folder_ = folder;
  again_.cancel();
  if (folder.empty()) {
    store_.reset();
    if (!loaded_) take(std::vector<Registration>());
    return;
  }
  store_ = std::make_shared<Store>(folder);
  load();
}

void Registrations::load() {
  auto found = std::make_shared<Result<std::vector<Registration>>>(std::vector<Registration>());
  const bool queued = disk_.run([store = store_, found] { *found = store->load(); },
                                [this, alive = alive_, store = store_, found] {
                                  if (*alive && store == store_) take(std::move(*found));
                                });
  if (!queued) take(Error{"too much waits for the disk"});
}

// What is registered already has come later than anything on disk.
void Registrations::take(Result<std::vector<Registration>> found) {
  if (!found) {
    note(found.error());
    loop_.arm(again_, kReadAgain);
    for (const auto& waiting : std::exchange(when_loaded_, {})) waiting();
    return;
  }
  note({});
  const Moment now = loop_.now();
  for (Registration& one : *found) {
    if (one.expires_us != 0) {
      one.ends = Moment{now.us + one.expires_us - loop_.wall_us()};
      one.member.lease_until_ms = static_cast<uint64_t>(std::max<int64_t>(one.ends.us, 1) / 1000);
    }
    upstreams_[one.upstream].emplace(one.member.address, one);
  }
  loaded_ = true;
  std::vector<std::string> names;
  for (const auto& [upstream, places] : upstreams_) names.push_back(upstream);
  for (const std::string& upstream : names) refresh(upstream);
  expire();
  changed_({});
  for (const auto& waiting : std::exchange(when_loaded_, {})) waiting();
}

void Registrations::put(Registration registration, size_t room,
                        std::function<void(Result<Outcome>)> done) {
  if (!loaded_ && !problem_.empty()) return done(Error{problem_});
  if (!loaded_) {
    when_loaded_.push_back([this, registration = std::move(registration), room,
                            done = std::move(done)] { put(registration, room, done); });
    return;
  }
  const int64_t wall = loop_.wall_us();
  const Places& places = upstreams_[registration.upstream];
  const auto before = places.find(registration.member.address);
  if (before == places.end() && places.size() >= room) {
    return done(Error{
        fmt::format("upstream {} has {} targets already", registration.upstream, places.size())});
  }
  registration.registered_us = before == places.end() ? wall : before->second.registered_us;
  if (registration.lease.count() > 0) {
    registration.expires_us = wall + registration.lease.count() * 1000;
    registration.ends = loop_.now() + registration.lease;
    registration.member.lease_until_ms = static_cast<uint64_t>(registration.ends.us / 1000);
  }
  auto stored = std::make_shared<Result<void>>();
  const auto finish = [this, alive = alive_, registration, stored, done](bool kept) {
    if (!*alive) return;
    if (kept) note(*stored);
    if (kept && !*stored) return done(stored->error());
    Outcome outcome;
    outcome.registration = registration;
    outcome.kept = kept;
    Places& now = upstreams_[registration.upstream];
    outcome.created = !now.contains(registration.member.address);
    now[registration.member.address] = registration;
    if (outcome.created) {
      GH_LOG(kNotice, "target {}/{} is registered", registration.upstream,
             registration.member.address.format());
    }
    refresh(registration.upstream);
    arm();
    changed_(registration.upstream);
    done(std::move(outcome));
  };
  if (!store_) return finish(false);
  const bool queued =
      disk_.run([store = store_, registration, stored] { *stored = store->put(registration); },
                [finish] { finish(true); });
  if (!queued) done(Error{"too much waits for the disk"});
}

void Registrations::remove(const std::string& upstream, const SocketAddress& address,
                           std::function<void(Result<bool>)> done) {
  if (!loaded_ && !problem_.empty()) return done(Error{problem_});
  if (!loaded_) {
    when_loaded_.push_back(
        [this, upstream, address, done = std::move(done)] { remove(upstream, address, done); });
    return;
  }
  const auto places = upstreams_.find(upstream);
  if (places == upstreams_.end() || !places->second.contains(address)) return done(false);
  auto stored = std::make_shared<Result<void>>();
  const auto finish = [this, alive = alive_, upstream, address, stored, done](bool kept) {
    if (!*alive) return;
    if (kept) note(*stored);
    if (kept && !*stored) return done(stored->error());
    upstreams_[upstream].erase(address);
    GH_LOG(kNotice, "target {}/{} is registered no more", upstream, address.format());
    refresh(upstream);
    changed_(upstream);
    done(true);
  };
  if (!store_) return finish(false);
  const bool queued = disk_.run(
      [store = store_, upstream, address, stored] { *stored = store->remove(upstream, address); },
      [finish] { finish(true); });
  if (!queued) done(Error{"too much waits for the disk"});
}

void Registrations::refresh(const std::string& upstream) {
  std::vector<Member>& members = members_[upstream];
  members.clear();
  for (const auto& [address, one] : upstreams_[upstream]) members.push_back(one.member);
  if (members.empty()) upstreams_.erase(upstream);
}

// Leases that are over. On disk they are removed behind it: what a killed agent leaves there is
// found over when it is read.
void Registrations::expire() {
  const Moment now = loop_.now();
  std::vector<std::string> changed;
  for (auto& [upstream, places] : upstreams_) {
    for (auto place = places.begin(); place != places.end();) {
      if (place->second.ends > now) {
        ++place;
        continue;
      }
      GH_LOG(kNotice, "target {}/{}: its lease is over", upstream, place->first.format());
      place = places.erase(place);
      if (changed.empty() || changed.back() != upstream) changed.push_back(upstream);
    }
  }
  for (const std::string& upstream : changed) {
    refresh(upstream);
    changed_(upstream);
  }
  if (!changed.empty() && store_) {
    auto stored = std::make_shared<Result<void>>();
    disk_.run(
        [store = store_, wall = loop_.wall_us(), stored] { *stored = store->remove_expired(wall); },
        [this, alive = alive_, stored] {
          if (*alive) note(*stored);
        });
  }
  arm();
}

void Registrations::arm() {
  Moment next{INT64_MAX};
  for (const auto& [upstream, places] : upstreams_) {
    for (const auto& [address, one] : places) next = std::min(next, one.ends);
  }
  if (next.us == INT64_MAX) {
    timer_.cancel();
  } else {
    loop_.arm(timer_, next);
  }
}

void Registrations::note(const Result<void>& result) {
  const std::string problem = result ? std::string() : result.error().message;
  if (!problem.empty() && problem != problem_) GH_LOG(kError, "registrations: {}", problem);
  problem_ = problem;
}

const std::vector<Member>* Registrations::members(const std::string& upstream) const {
  static const std::vector<Member> kNone;
  if (!loaded_) return nullptr;
  const auto found = members_.find(upstream);
  return found == members_.end() ? &kNone : &found->second;
}

std::vector<Registration> Registrations::list(const std::string& upstream) const {
  std::vector<Registration> all;
  const auto places = upstreams_.find(upstream);
  if (places == upstreams_.end()) return all;
  for (const auto& [address, one] : places->second) all.push_back(one);
  return all;
}

size_t Registrations::size() const {
  size_t count = 0;
  for (const auto& [upstream, places] : upstreams_) count += places.size();
  return count;
}

}  // namespace gatehouse
