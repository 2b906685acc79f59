// See member_lists.h.
#include "core/member_lists.h"

#include "core/stable_names.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace gatehouse {
namespace {

constexpr std::string_view kZone = "discovery.members";
constexpr std::string_view kType = "member_lists";
constexpr uint32_t kLayoutVersion = 1;
// The byte of the segment's descriptor that the writer holds a lock on.
constexpr off_t kWriterByte = 1;
// Each try copies one list; the writer takes longer than that for two.
constexpr int kReadTries = 64;

enum RecordFlag : uint8_t { kIsBackup = 1, kIsLine = 2 };
enum RecordFamily : uint8_t { kNoAddress = 0, kV4 = 4, kV6 = 6, kLocal = 1 };

struct ListHead {
  static constexpr size_t kNameMax = 251;
  uint32_t count;
  uint8_t name_size;  // 0: the slot is free
  char name[kNameMax];
};

struct Record {
  uint8_t family;
  uint8_t flags;
  uint16_t port;  // host order
  uint32_t weight;
  uint64_t source;
  uint64_t lease_until_ms;
  uint8_t address_size;
  char address[108];  // 4 or 16 bytes, or a path
  uint8_t version_size;
  char version[kMemberVersionMax];
  uint8_t tags_size;
  char tags[kMemberTagsMax];
  char unused[3];
};
static_assert(sizeof(ListHead) == 256 && std::is_trivially_copyable_v<ListHead>);
static_assert(offsetof(Record, lease_until_ms) % sizeof(uint64_t) == 0);
static_assert(sizeof(Record) == 256 && std::is_trivially_copyable_v<Record>);
constexpr size_t kHeadWords = sizeof(ListHead) / sizeof(uint64_t);
constexpr size_t kRecordWords = sizeof(Record) / sizeof(uint64_t);

// A list is copied word by word, since the writer may be at it: then the words are thrown away.
void load_words(const std::atomic<uint64_t>* from, size_t count, void* to) {
  auto* bytes = static_cast<std::byte*>(to);
  for (size_t i = 0; i < count; ++i) {
    const uint64_t word = from[i].load(std::memory_order_relaxed);
    std::memcpy(bytes + i * sizeof(word), &word, sizeof(word));
  }
}
void store_words(std::atomic<uint64_t>* to, size_t count, const void* from) {
  const auto* bytes = static_cast<const std::byte*>(from);
  for (size_t i = 0; i < count; ++i) {
    uint64_t word = 0;
    std::memcpy(&word, bytes + i * sizeof(word), sizeof(word));
    to[i].store(word, std::memory_order_relaxed);
  }
}

// What fits, without half a character of UTF-8 at the end.
template <size_t kMax>
uint8_t put_text(char (&to)[kMax], std::string_view text) {
  size_t size = std::min(text.size(), kMax);
  if (size < text.size()) {
    while (size > 0 && (static_cast<uint8_t>(text[size]) & 0xc0) == 0x80) --size;
  }
  if (size != 0) std::memcpy(to, text.data(), size);  // an empty view may have no address
  return static_cast<uint8_t>(size);
}

template <size_t kMax>
std::string get_text(const char (&from)[kMax], uint8_t size) {
  return {from, std::min<size_t>(size, kMax)};
}

Record record_of(const Member& member) {
  Record record{};
  const SocketAddress& address = member.address;
  if (address.is_unix()) {
    record.family = kLocal;
    record.address_size = put_text(record.address, address.path());
  } else if (!address.is_none()) {
    const IpAddress ip = address.ip();
    const std::span<const uint8_t> bytes = ip.bytes();
    record.family = ip.is_v4() ? kV4 : kV6;
    record.port = address.port();
    record.address_size = static_cast<uint8_t>(bytes.size());
    std::memcpy(record.address, bytes.data(), bytes.size());
  }
  record.flags =
      static_cast<uint8_t>((member.backup ? kIsBackup : 0) | (member.is_line ? kIsLine : 0));
  record.weight = member.weight;
  record.source = member.source;
  record.lease_until_ms = member.lease_until_ms;
  record.version_size = put_text(record.version, member.version);
  record.tags_size = put_text(record.tags, member.tags);
  return record;
}

std::optional<SocketAddress> address_of(const Record& record) {
  std::array<uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), record.address, bytes.size());
  switch (record.family) {
    case kV4:
      return SocketAddress::ip(IpAddress::from_bytes(std::span(bytes).first<4>()), record.port);
    case kV6:
      return SocketAddress::ip(IpAddress::from_bytes(std::span(bytes)), record.port);
    case kLocal: {
      sockaddr_un local{};
      local.sun_family = AF_UNIX;
      const size_t size = std::min<size_t>(record.address_size, sizeof(local.sun_path) - 1);
      std::memcpy(local.sun_path, record.address, size);
      return SocketAddress::from_kernel(
          reinterpret_cast<const sockaddr*>(&local),
          static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size + 1));
    }
    default:
      return std::nullopt;
  }
}

// None where the bytes are no member: they lie where every worker could write.
std::optional<Member> member_of(const Record& record) {
  const std::optional<SocketAddress> address = address_of(record);
  if (!address) return std::nullopt;
  Member member;
  member.address = *address;
  member.weight = std::clamp(record.weight, 1U, kMemberWeightMax);
  member.backup = (record.flags & kIsBackup) != 0;
  member.is_line = (record.flags & kIsLine) != 0;
  member.source = record.source;
  member.lease_until_ms = record.lease_until_ms;
  member.version = get_text(record.version, record.version_size);
  member.tags = get_text(record.tags, record.tags_size);
  return member;
}

}  // namespace

uint64_t member_source(std::string_view text) {
  const uint64_t hash = stable_hash(text);
  return hash != 0 ? hash : 1;
}

// ---- The zone -----------------------------------------------------------------------------------

size_t MemberLists::list_words(uint32_t members) {
  return kHeadWords + members * kRecordWords;
}

size_t MemberLists::zone_size(MemberCapacity capacity) {
  return sizeof(Header) + capacity.lists * sizeof(Slot) +
         2 * capacity.lists * list_words(capacity.members) * sizeof(uint64_t);
}

// `wanted` is what a zone is taken for whose maker did not get as far as to say it.
bool MemberLists::adopt(std::span<std::byte> zone, MemberCapacity wanted) {
  header_ = zone_as<Header>(zone);
  if (header_ == nullptr) return false;
  uint64_t packed = header_->capacity.load(std::memory_order_acquire);
  if (packed == 0 && zone_size(wanted) == zone.size()) {
    const uint64_t mine = uint64_t{wanted.lists} << 32 | wanted.members;
    if (header_->capacity.compare_exchange_strong(packed, mine)) packed = mine;
  }
  lists_ = static_cast<uint32_t>(packed >> 32);
  members_ = static_cast<uint32_t>(packed);
  if (lists_ == 0 || lists_ > kMemberListsMax || members_ == 0 || members_ > kMembersMax ||
      zone_size({lists_, members_}) != zone.size()) {
    return false;
  }
  slots_ = zone_as<Slot>(zone.subspan(sizeof(Header)), lists_);
  words_ = reinterpret_cast<std::atomic<uint64_t>*>(zone.data() + sizeof(Header) +
                                                    lists_ * sizeof(Slot));
  return slots_ != nullptr;
}

std::optional<MemberLists> MemberLists::find(SharedMemory& shared) {
  MemberLists lists;
  if (!lists.adopt(shared.find_zone(kZone, kType, kLayoutVersion), {})) return std::nullopt;
  return lists;
}

Result<MemberLists> MemberLists::open(SharedMemory& shared, MemberCapacity capacity) {
  capacity.lists = std::clamp(capacity.lists, 1U, kMemberListsMax);
  capacity.members = std::clamp(capacity.members, 1U, kMembersMax);
  MemberLists lists;
  if (lists.adopt(shared.find_zone(kZone, kType, kLayoutVersion), capacity)) return lists;
  Result<std::span<std::byte>> zone = shared.adopt_or_create_zone(
      kZone, kType, kLayoutVersion, zone_size(capacity), alignof(Header));
  if (!zone) {
    return Error{zone.error().message +
                 "; smaller discovered_upstreams and discovered_targets help too"};
  }
  if (!lists.adopt(*zone, capacity)) return Error{"the zone of discovered targets is malformed"};
  return lists;
}

// ---- Reading ------------------------------------------------------------------------------------

std::atomic<uint64_t>* MemberLists::list_at(uint32_t slot, uint64_t version) const {
  return words_ + (2 * size_t{slot} + (version & 1)) * list_words(members_);
}

// False where the writer came in between. `name` is empty for a slot that is free.
bool MemberLists::copy(uint32_t slot, uint64_t& version, std::string& name,
                       MemberList& list) const {
  version = slots_[slot].version.load(std::memory_order_acquire);
  name.clear();
  list.members.clear();
  if (version == 0) return true;
  const std::atomic<uint64_t>* words = list_at(slot, version);
  ListHead head;
  load_words(words, kHeadWords, &head);
  const uint32_t count = std::min(head.count, members_);
  name = get_text(head.name, head.name_size);
  list.members.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    Record record;
    load_words(words + kHeadWords + i * kRecordWords, kRecordWords, &record);
    if (std::optional<Member> member = member_of(record)) {
      list.members.push_back(std::move(*member));
    }
  }
  // Words of the list after this one were stored behind the writer's fence; whoever has seen one
  // of them sees the version that came before it, too.
  std::atomic_thread_fence(std::memory_order_acquire);
  return slots_[slot].version.load(std::memory_order_relaxed) == version;
}

Result<MemberList> MemberLists::read(MemberHandle& handle) const {
  const std::string stored = fitting_name(handle.upstream, ListHead::kNameMax);
  MemberList list;
  for (int tries = 0; tries < kReadTries; ++tries) {
    // Before the search: what is added after it is a change.
    const uint64_t directory = header_->directory.load(std::memory_order_acquire);
    if (handle.slot >= lists_) handle.slot = slot_of(stored).value_or(UINT32_MAX);
    if (handle.slot >= lists_) {
      list.known = false;
      list.version = directory;
      list.members.clear();
      return list;
    }
    uint64_t version = 0;
    std::string name;
    if (!copy(handle.slot, version, name, list)) continue;
    if (name != stored) {  // it is another upstream's now, or nobody's
      handle.slot = UINT32_MAX;
      continue;
    }
    list.known = true;
    list.version = version | kFound;
    return list;
  }
  return Error{"the list of targets of " + handle.upstream + " keeps changing"};
}

// Looks at the names only. A name that changes while it is read is read again.
std::optional<uint32_t> MemberLists::slot_of(std::string_view stored) const {
  for (uint32_t slot = 0; slot < lists_; ++slot) {
    for (int tries = 0; tries < kReadTries; ++tries) {
      const uint64_t version = slots_[slot].version.load(std::memory_order_acquire);
      if (version == 0) break;
      ListHead head;
      load_words(list_at(slot, version), kHeadWords, &head);
      std::atomic_thread_fence(std::memory_order_acquire);
      if (slots_[slot].version.load(std::memory_order_relaxed) != version) continue;
      if (get_text(head.name, head.name_size) == stored) return slot;
      break;
    }
  }
  return std::nullopt;
}

std::vector<MemberLists::Named> MemberLists::all() const {
  std::vector<Named> found;
  for (uint32_t slot = 0; slot < lists_; ++slot) {
    Named named;
    for (int tries = 0; tries < kReadTries; ++tries) {
      uint64_t version = 0;
      if (!copy(slot, version, named.upstream, named.list)) continue;
      named.list.known = true;
      named.list.version = version | kFound;
      if (!named.upstream.empty()) found.push_back(std::move(named));
      break;
    }
  }
  return found;
}

// ---- Writing ------------------------------------------------------------------------------------

// A record lock belongs to the process and goes with it; nobody else locks this descriptor.
bool MemberLists::claim_writing(SharedMemory& shared) {
  struct flock range {};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  range.l_start = kWriterByte;
  range.l_len = 1;
  int result;
  do result = fcntl(shared.fd(), F_SETLK, &range);
  while (result != 0 && errno == EINTR);
  if (result != 0) return false;
  // The writer before may have been killed when it had added a list and not said so yet.
  header_->directory.fetch_add(1, std::memory_order_release);
  return true;
}

void MemberLists::write(uint32_t slot, std::string_view stored, std::span<const Member> members) {
  std::atomic<uint64_t>& version = slots_[slot].version;
  const uint64_t next = version.load(std::memory_order_relaxed) + 1;
  // The version that made this half invalid comes before every word of it.
  std::atomic_thread_fence(std::memory_order_release);
  std::atomic<uint64_t>* words = list_at(slot, next);
  ListHead head{};
  head.count = static_cast<uint32_t>(members.size());
  head.name_size = put_text(head.name, stored);
  store_words(words, kHeadWords, &head);
  for (size_t i = 0; i < members.size(); ++i) {
    const Record record = record_of(members[i]);
    store_words(words + kHeadWords + i * kRecordWords, kRecordWords, &record);
  }
  version.store(next, std::memory_order_release);
}

// One word of each record that differs, in the list that is valid: a reader gets the lease before
// or the one after.
void MemberLists::renew(uint32_t slot, std::span<const Member> before,
                        std::span<const Member> members) {
  constexpr size_t kLeaseWord = offsetof(Record, lease_until_ms) / sizeof(uint64_t);
  std::atomic<uint64_t>* words =
      list_at(slot, slots_[slot].version.load(std::memory_order_relaxed)) + kHeadWords;
  for (size_t i = 0; i < members.size(); ++i) {
    if (before[i].lease_until_ms == members[i].lease_until_ms) continue;
    words[i * kRecordWords + kLeaseWord].store(members[i].lease_until_ms,
                                               std::memory_order_relaxed);
  }
}

Result<MemberLists::Published> MemberLists::publish(std::string_view upstream,
                                                    std::span<const Member> members) {
  Published published;
  if (members.size() > members_) {
    published.left_out = members.size() - members_;
    members = members.first(members_);
  }
  const std::string stored = fitting_name(upstream, ListHead::kNameMax);
  const std::optional<uint32_t> known = slot_of(stored);
  uint64_t version = 0;
  std::string name;
  MemberList list;
  if (known) {
    // Whoever reads a cut text gets it cut; the comparison has to know that.
    copy(*known, version, name, list);
    std::vector<Member> readable;
    readable.reserve(members.size());
    for (const Member& member : members) {
      if (const std::optional<Member> same = member_of(record_of(member))) {
        readable.push_back(*same);
      }
    }
    const auto same_but_lease = [](const Member& a, Member b) {
      b.lease_until_ms = a.lease_until_ms;
      return a == b;
    };
    if (std::equal(list.members.begin(), list.members.end(), readable.begin(), readable.end(),
                   same_but_lease)) {
      renew(*known, list.members, readable);
      return published;
    }
    write(*known, stored, members);
    published.changed = true;
    return published;
  }
  // One that was never used, or is free again.
  for (uint32_t slot = 0; slot < lists_; ++slot) {
    copy(slot, version, name, list);
    if (!name.empty()) continue;
    write(slot, stored, members);
    header_->directory.fetch_add(1, std::memory_order_release);
    published.changed = true;
    return published;
  }
  return Error{
      fmt::format("no room for the targets of {}: discovered_upstreams is {}", upstream, lists_)};
}

void MemberLists::keep_only(std::span<const std::string> upstreams) {
  std::vector<std::string> kept;
  for (const std::string& upstream : upstreams)
    kept.push_back(fitting_name(upstream, ListHead::kNameMax));
  uint64_t version = 0;
  std::string name;
  MemberList list;
  for (uint32_t slot = 0; slot < lists_; ++slot) {
    copy(slot, version, name, list);
    if (name.empty() || std::find(kept.begin(), kept.end(), name) != kept.end()) continue;
    write(slot, {}, {});
    header_->directory.fetch_add(1, std::memory_order_release);
  }
}

}  // namespace gatehouse
