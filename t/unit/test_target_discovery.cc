// Discovery: members put together from their sources, lists as JSON, and SRV records from bytes.
#include "agent/target_discovery.h"

#include <criterion/criterion.h>

#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "agent/member_file.h"
#include "agent/srv_records.h"

namespace {

using gatehouse::Discovery;
using gatehouse::Member;
using gatehouse::member_source;
using gatehouse::members_from_json;
using gatehouse::NameState;
using gatehouse::parse_srv_records;
using gatehouse::PlannedTarget;
using gatehouse::PlannedUpstream;
using gatehouse::put_together;
using gatehouse::Result;
using gatehouse::SocketAddress;
using gatehouse::SrvRecords;
using gatehouse::WatchedName;

SocketAddress at(std::string_view text) {
  return *SocketAddress::parse(text);
}

PlannedTarget line(std::string text, uint32_t weight = 1) {
  PlannedTarget target;
  const Result<SocketAddress> address = SocketAddress::parse(text, uint16_t{80});
  if (address) target.address = *address;
  target.text = std::move(text);
  target.weight = weight;
  return target;
}

using Names = std::map<WatchedName, NameState>;

NameState known(std::vector<gatehouse::FoundServer> servers) {
  NameState state;
  state.known = true;
  state.servers = std::move(servers);
  return state;
}

std::optional<std::vector<Member>> together(const PlannedUpstream& upstream, const Names& names,
                                            const std::vector<Member>* others = nullptr,
                                            const std::vector<Member>& now = {}) {
  const auto find = [&names](const WatchedName& name) {
    const auto found = names.find(name);
    return found == names.end() ? nullptr : &found->second;
  };
  return put_together(upstream, find, others, now);
}

// A DNS answer with these records, all for the question's name.
std::vector<uint8_t> answer_of(const std::vector<std::vector<uint8_t>>& records) {
  std::vector<uint8_t> bytes{0, 1, 0x81, 0x80, 0, 1,   0, static_cast<uint8_t>(records.size()),
                             0, 0, 0,    0,    1, 'a', 1, 'b',
                             0, 0, 33,   0,    1};
  for (const std::vector<uint8_t>& record : records) {
    bytes.insert(bytes.end(), {0xc0, 12});
    bytes.insert(bytes.end(), record.begin(), record.end());
  }
  return bytes;
}

std::vector<uint8_t> srv(uint8_t ttl, uint8_t priority, uint8_t weight, uint16_t port,
                         const std::vector<uint8_t>& host) {
  std::vector<uint8_t> record{
      0, 33, 0, 1, 0, 0, 0, ttl, 0, static_cast<uint8_t>(6 + host.size()), 0, priority, 0, weight};
  record.push_back(static_cast<uint8_t>(port >> 8));
  record.push_back(static_cast<uint8_t>(port));
  record.insert(record.end(), host.begin(), host.end());
  return record;
}

}  // namespace

TestSuite(target_discovery, .timeout = 30);

Test(target_discovery, nothing_is_told_before_all_is_known) {
  PlannedUpstream upstream;
  upstream.targets = {line("a.test"), line("b.test:81"), line("10.0.0.9")};
  Names names;
  cr_assert(!together(upstream, names));
  names[{"a.test", false}] = known({{at("10.0.0.1:80"), 0, 0}});
  names[{"b.test:81", false}] = NameState();
  cr_assert(!together(upstream, names));
  names[{"b.test:81", false}] = known({});
  const auto members = together(upstream, names);
  cr_assert(members && members->size() == 1, "a name without an address is down, and no more");
  cr_assert((*members)[0].is_line && (*members)[0].source == member_source("a.test"));
  upstream.discover.kind = Discovery::Kind::kApi;
  cr_assert(!together(upstream, names));
  const std::vector<Member> none;
  cr_assert_eq(together(upstream, names, &none)->size(), 1);
}

Test(target_discovery, a_line_keeps_an_address_that_is_still_right) {
  PlannedUpstream upstream;
  upstream.targets = {line("a.test", 4)};
  Names names;
  const auto servers = std::vector<gatehouse::FoundServer>{
      {at("[2001:db8::1]:80"), 0, 0}, {at("10.0.0.1:80"), 0, 0}, {at("10.0.0.2:80"), 0, 0}};
  names[{"a.test", false}] = known(servers);
  auto members = together(upstream, names);
  cr_assert((*members)[0].address == at("10.0.0.1:80"), "IPv4 first");
  cr_assert_eq((*members)[0].weight, 4);
  Member now = (*members)[0];
  now.address = at("10.0.0.2:80");
  members = together(upstream, names, nullptr, {now});
  cr_assert((*members)[0].address == at("10.0.0.2:80"));
  now.address = at("10.0.0.3:80");
  members = together(upstream, names, nullptr, {now});
  cr_assert((*members)[0].address == at("10.0.0.1:80"));
}

Test(target_discovery, each_server_is_one_target) {
  PlannedUpstream upstream;
  upstream.discover.kind = Discovery::Kind::kSrv;
  upstream.targets = {line("s.test"), line("10.0.0.4:80")};
  Names names;
  names[{"s.test", true}] = known({{at("10.0.0.1:80"), 1, 60000},
                                   {at("10.0.0.2:80"), 1, 30},
                                   {at("10.0.0.3:80"), 2, 30000},
                                   {at("10.0.0.4:80"), 1, 1}});
  const auto members = together(upstream, names);
  cr_assert_eq(members->size(), 3, "the one that a line names is the line's");
  cr_assert((*members)[0].weight == 1000 && !(*members)[0].backup && !(*members)[0].is_line);
  cr_assert((*members)[1].weight == 1 && !(*members)[1].backup);
  cr_assert((*members)[2].weight == 500 && (*members)[2].backup);

  upstream.discover.kind = Discovery::Kind::kFile;
  upstream.targets = {line("10.0.0.4:80")};
  Member one;
  one.address = at("10.0.0.1:80");
  Member taken;
  taken.address = at("10.0.0.4:80");
  const std::vector<Member> listed{one, taken, one};
  cr_assert_eq(together(upstream, names, &listed)->size(), 1);
}

Test(target_discovery, files_are_read_strictly) {
  Result<std::vector<Member>> members =
      members_from_json(R"(["10.0.0.1", {"address":"unix:/run/a.sock","weight":9,"backup":true,)"
                        R"("version":"1","tags":["a","b"]}])");
  cr_assert(members.ok(), "%s", members.ok() ? "" : members.error().message.c_str());
  cr_assert_eq(members->size(), 2);
  cr_assert_eq((*members)[0].address.format(), "10.0.0.1:80");
  cr_assert((*members)[1].weight == 9 && (*members)[1].backup && (*members)[1].tags == "a b");
  cr_assert(members_from_json(R"({"targets":[]})").ok());
  for (const char* bad :
       {"", "7", "null", "{}", R"({"targets":[],"more":1})", R"([7])", R"([{}])",
        R"(["a.test:80"])", R"(["10.0.0.1:0"])", R"(["10.0.0.1:80","10.0.0.1:80"])",
        R"([{"address":"10.0.0.1:80","weight":1001}])",
        R"([{"address":"10.0.0.1:80","weight":1.5}])", R"([{"address":"10.0.0.1:80","backup":1}])",
        R"([{"address":"10.0.0.1:80","tags":"a"}])",
        R"([{"address":"10.0.0.1:80","tags":["a b"]}])",
        R"([{"address":"10.0.0.1:80","tags":[""]}])",
        R"([{"address":"10.0.0.1:80","version":"a b"}])",
        R"([{"address":"10.0.0.1:80","colour":1}])"}) {
    cr_assert(!members_from_json(bad).ok(), "%s", bad);
  }
  cr_assert(!members_from_json(std::string(100'000, '[')).ok());
}

Test(target_discovery, srv_records_come_out_of_bytes) {
  const std::vector<uint8_t> host{2, 'h', '1', 0};
  const std::vector<uint8_t> none{0};
  const std::vector<uint8_t> bytes = answer_of(
      {srv(30, 1, 2, 8080, host), srv(20, 3, 4, 8081, {1, 'x', 0xc0, 12}), srv(60, 0, 0, 1, none)});
  const Result<SrvRecords> found = parse_srv_records(bytes);
  cr_assert(found.ok());
  cr_assert_eq(found->records.size(), 2, "a dot means that there is no service");
  cr_assert_eq(found->records[0].host, "h1");
  cr_assert(found->records[0].priority == 1 && found->records[0].weight == 2);
  cr_assert_eq(found->records[0].port, 8080);
  cr_assert_eq(found->records[1].host, "x.a.b");
  cr_assert_eq(found->ttl.count(), 20);

  for (size_t size = 0; size < bytes.size(); ++size) {
    cr_assert(!parse_srv_records(std::span(bytes).first(size)).ok(), "cut at %zu", size);
  }
  // Whatever the bytes are, they are read or refused.
  std::minstd_rand random(7);
  for (int round = 0; round < 20'000; ++round) {
    std::vector<uint8_t> broken = bytes;
    for (int i = 0; i < 3; ++i) broken[random() % broken.size()] = static_cast<uint8_t>(random());
    (void)parse_srv_records(broken);
  }
  // A name that leads to itself.
  std::vector<uint8_t> loop = answer_of({srv(1, 1, 1, 1, {0xc0, 0})});
  loop[loop.size() - 1] = static_cast<uint8_t>(loop.size() - 2);
  cr_assert(!parse_srv_records(loop).ok());
}
