// The lists of discovered targets: what is published is read, readers never see half of it, and a
// writer that is killed leaves the list before.
#include "core/member_lists.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "core/log.h"

namespace {

using gatehouse::Member;
using gatehouse::MemberHandle;
using gatehouse::MemberList;
using gatehouse::MemberLists;
using gatehouse::Result;
using gatehouse::SharedMemory;
using gatehouse::SocketAddress;
using gatehouse::operator""_MiB;

constexpr gatehouse::MemberCapacity kSmall{4, 8};

std::optional<SharedMemory> shared;
std::optional<MemberLists> lists;

void set_up() {
  gatehouse::log_set_level(gatehouse::LogLevel::kAlert);
  Result<SharedMemory> made = SharedMemory::create(4_MiB);
  cr_assert(made.ok());
  shared.emplace(std::move(*made));
  Result<MemberLists> opened = MemberLists::open(*shared, kSmall);
  cr_assert(opened.ok(), "%s", opened.ok() ? "" : opened.error().message.c_str());
  lists.emplace(std::move(*opened));
}

void tear_down() {
  lists.reset();
  shared.reset();
}

Member member(std::string_view address, uint32_t weight = 1) {
  Member made;
  made.address = *SocketAddress::parse(address);
  made.weight = weight;
  return made;
}

MemberList read(MemberHandle& handle) {
  Result<MemberList> list = lists->read(handle);
  cr_assert(list.ok(), "%s", list.ok() ? "" : list.error().message.c_str());
  return std::move(*list);
}

bool publish(std::string_view upstream, const std::vector<Member>& members) {
  Result<MemberLists::Published> published = lists->publish(upstream, members);
  cr_assert(published.ok(), "%s", published.ok() ? "" : published.error().message.c_str());
  return published->changed;
}

}  // namespace

TestSuite(member_lists, .init = set_up, .fini = tear_down);

Test(member_lists, what_is_published_is_read) {
  MemberHandle handle{"users"};
  const MemberList before = read(handle);
  cr_assert(!before.known && before.members.empty());
  cr_assert_eq(lists->version(handle), before.version);

  Member full = member("[2001:db8::7]:8443", 1000);
  full.backup = true;
  full.source = gatehouse::member_source("users.internal:8080");
  full.is_line = true;
  full.lease_until_ms = 123456789012;
  full.version = "v1.2.3";
  full.tags = "blue canary";
  const std::vector<Member> members{member("10.0.0.1:80"), full,
                                    member("unix:/run/app/sock-with-a-long-name.sock", 3)};
  cr_assert(publish("users", members));
  cr_assert_neq(lists->version(handle), before.version, "the reader is not told");
  const MemberList list = read(handle);
  cr_assert(list.known);
  cr_assert(list.members == members);
  cr_assert_eq(lists->version(handle), list.version);

  // The same again is no change; another process's view is the same.
  cr_assert(!publish("users", members));
  cr_assert_eq(lists->version(handle), list.version);
  std::optional<MemberLists> other = MemberLists::find(*shared);
  cr_assert(other.has_value());
  MemberHandle second{"users"};
  Result<MemberList> theirs = other->read(second);
  cr_assert(theirs.ok() && theirs->members == members);

  // A lease that is renewed wakes nobody, and is read all the same.
  std::vector<Member> renewed = members;
  renewed[1].lease_until_ms += 30'000;
  cr_assert(!publish("users", renewed));
  cr_assert_eq(lists->version(handle), list.version);
  cr_assert(read(handle).members == renewed);

  cr_assert(publish("users", {}));
  const MemberList none = read(handle);
  cr_assert(none.known && none.members.empty());
  cr_assert_neq(none.version, list.version);
}

Test(member_lists, limits_are_kept_and_said) {
  std::vector<Member> many;
  for (int i = 0; i < 20; ++i) many.push_back(member("10.0.0." + std::to_string(i) + ":80"));
  Result<MemberLists::Published> published = lists->publish("many", many);
  cr_assert(published.ok() && published->changed);
  cr_assert_eq(published->left_out, 12);
  MemberHandle handle{"many"};
  cr_assert_eq(read(handle).members.size(), 8);
  published = lists->publish("many", many);
  cr_assert(published.ok() && !published->changed);

  for (const char* name : {"b", "c", "d"}) cr_assert(publish(name, {}));
  cr_assert(!lists->publish("e", {}).ok(), "there are four lists");

  Member wordy = member("10.0.0.1:80");
  wordy.version = std::string(100, 'v');
  wordy.tags = std::string(78, 't') + "\xc3\xa4";  // the last character does not fit whole
  cr_assert(publish("many", {wordy}));
  const MemberList list = read(handle);
  cr_assert_eq(list.members[0].version.size(), gatehouse::kMemberVersionMax);
  cr_assert_eq(list.members[0].tags, std::string(78, 't'));
  cr_assert(!publish("many", {wordy}), "a cut text is no change");
}

Test(member_lists, long_names_stay_apart) {
  const std::string one = std::string(400, 'n') + "1";
  const std::string two = std::string(400, 'n') + "2";
  publish(one, {member("10.0.0.1:80")});
  publish(two, {member("10.0.0.2:80")});
  MemberHandle first{one};
  MemberHandle second{two};
  cr_assert(read(first).members[0].address == *SocketAddress::parse("10.0.0.1:80"));
  cr_assert(read(second).members[0].address == *SocketAddress::parse("10.0.0.2:80"));
}

Test(member_lists, a_place_that_changed_hands_is_noticed) {
  MemberHandle old{"old"};
  publish("old", {member("10.0.0.1:80")});
  const MemberList before = read(old);
  lists->keep_only({});
  cr_assert_neq(lists->version(old), before.version);
  publish("new", {member("10.0.0.2:80")});
  MemberHandle fresh{"new"};
  cr_assert_eq(read(fresh).members.size(), 1);
  cr_assert_eq(old.slot, fresh.slot);
  const MemberList gone = read(old);
  cr_assert(!gone.known);
  cr_assert_eq(lists->version(old), gone.version);
  publish("old", {member("10.0.0.3:80")});
  cr_assert_neq(lists->version(old), gone.version);
  cr_assert_eq(read(old).members.size(), 1);
  cr_assert_eq(lists->all().size(), 2);
  const std::vector<std::string> kept{"old"};
  lists->keep_only(kept);
  cr_assert_eq(lists->all().size(), 1);
  cr_assert_eq(lists->all()[0].upstream, "old");
}

Test(member_lists, the_zone_keeps_its_size) {
  publish("users", {member("10.0.0.1:80")});
  Result<MemberLists> again = MemberLists::open(*shared, {64, 512});
  cr_assert(again.ok());
  cr_assert_eq(again->capacity().lists, kSmall.lists);
  MemberHandle handle{"users"};
  Result<MemberList> list = again->read(handle);
  cr_assert(list.ok() && list->members.size() == 1);
  Result<SharedMemory> tiny = SharedMemory::create(1_MiB);
  cr_assert(tiny.ok());
  cr_assert(!MemberLists::open(*tiny, {4096, 16384}).ok());
}

Test(member_lists, one_process_writes) {
  int ready[2];
  cr_assert_eq(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const char mine = lists->claim_writing(*shared) ? 'y' : 'n';
    (void)!write(ready[1], &mine, 1);
    for (;;) pause();
  }
  char theirs = 0;
  cr_assert_eq(::read(ready[0], &theirs, 1), 1);
  cr_assert_eq(theirs, 'y');
  cr_assert(!lists->claim_writing(*shared), "two write");
  MemberHandle handle{"users"};
  const uint64_t version = read(handle).version;
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  cr_assert(lists->claim_writing(*shared), "the lock outlives its owner");
  cr_assert_neq(lists->version(handle), version,
                "what a killed writer did not say is not looked for");
  close(ready[0]);
  close(ready[1]);
}

// A list whose every part says the same number; a list of two halves would not.
Test(member_lists, killed_writers_leave_whole_lists, .timeout = 60) {
  constexpr int kKills = 300;
  const auto stamped = [](uint64_t number) {
    std::vector<Member> members(1 + number % 8);
    for (size_t i = 0; i < members.size(); ++i) {
      members[i] = member("10.0.0." + std::to_string(i) + ":" + std::to_string(number % 60000 + 1));
      members[i].source = number;
      members[i].version = std::to_string(number);
      members[i].tags = std::string(number % 70, 'x');
    }
    return members;
  };
  const std::vector<Member> first = stamped(1);
  publish("users", first);
  MemberHandle handle{"users"};
  uint64_t version = read(handle).version;
  uint64_t changes = 0;
  uint64_t reads = 0;
  uint64_t number = 1;
  for (int round = 0; round < kKills; ++round) {
    const pid_t writer = fork();
    if (writer == 0) {
      for (uint64_t next = number + 1;; ++next) {
        (void)lists->publish("users", stamped(next));
        if (next % 64 == 0) {
          (void)lists->publish("other", stamped(next));
          const std::vector<std::string> kept{"users"};
          if (next % 128 == 0) lists->keep_only(kept);
        }
      }
    }
    const timespec begin = [] {
      timespec now{};
      clock_gettime(CLOCK_MONOTONIC, &now);
      return now;
    }();
    for (;;) {
      timespec now{};
      clock_gettime(CLOCK_MONOTONIC, &now);
      const long us =
          (now.tv_sec - begin.tv_sec) * 1'000'000 + (now.tv_nsec - begin.tv_nsec) / 1000;
      if (us > 1000 + round * 37 % 3000) break;
      Result<MemberList> list = lists->read(handle);
      if (!list) continue;  // it kept changing
      ++reads;
      cr_assert(list->known);
      cr_assert(!list->members.empty());
      cr_assert(list->members == stamped(list->members[0].source), "a list of two halves");
      if (list->version != version) ++changes;
      version = list->version;
      number = list->members[0].source;
    }
    kill(writer, SIGKILL);
    waitpid(writer, nullptr, 0);
    const MemberList left = read(handle);
    cr_assert(left.known && left.members == stamped(left.members[0].source));
    number = left.members[0].source;
  }
  cr_assert_gt(changes, 50, "%lu changes were seen in %lu reads", changes, reads);
  // The next writer goes on.
  const std::vector<Member> last = stamped(7);
  publish("users", last);
  cr_assert(read(handle).members == last);
}
