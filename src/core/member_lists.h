// MemberLists: the targets that discovery has found, for each upstream that asks for it.
//
// One zone, "discovery.members", that the agent writes and every process may read. For each such
// upstream there is a slot with two lists and one version word:
//
//      0  Header, 64 bytes: capacities, the directory's version
//     64  Slot[lists], 64 bytes each: the version
//         List[lists][2]: 256 bytes with name and count, then Record[members], 256 bytes each
//
// The version of a slot counts up; its lowest bit says which of the two lists is valid. The agent
// fills the other one and then stores the version plus one. So a reader never waits: it copies the
// valid list and looks whether the version is still the same, or else copies again. An agent killed
// at any instruction leaves the version, and with it the list before, as they were; the next one
// writes over the half list. The name stands in the list, not in the slot: whoever reads finds out
// in the same step whether the slot still belongs to its upstream.
//
// There is one writer at a time: the agent that holds a record lock on the segment's descriptor,
// which the kernel takes back when the process ends (two agents run during an upgrade).
//
// What a reader makes of a list: lines of the configuration that are addresses stay as they are. A
// line that is a name is replaced by the members that have its source: by one that is the line
// itself (is_line) with another address, or by any number of targets of their own; by none, and
// then it is down. Members without a source are added. Where no list is known, or not any more
// because the agent serves another configuration already, what was there stays. Targets of their
// own are called UPSTREAM/ADDRESS, and that is the name that the agent's checks know them by.
//
// Reading costs one relaxed load as long as nothing changes. The lists outlive the agent: without
// one, the last are valid on. They do not outlive the segment.
// Leaves out: what a list means, and how it was found.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/shared_memory.h"
#include "core/sockets.h"

namespace gatehouse {

inline constexpr size_t kMemberVersionMax = 39;  // bytes of a member's version
inline constexpr size_t kMemberTagsMax = 79;     // of its tags, all together
inline constexpr uint32_t kMemberWeightMax = 1000;

// One target that was found.
struct Member {
  SocketAddress address;
  uint32_t weight = 1;  // 1 to kMemberWeightMax
  bool backup = false;
  // The line `target = http://NAME:PORT` that this came from, as member_source(NAME:PORT); 0: it
  // came from elsewhere (a file, a registration).
  uint64_t source = 0;
  // It is that line's target itself, which keeps the line's name and settings and has just its
  // address from here. False: a target of its own, named UPSTREAM/ADDRESS.
  bool is_line = false;
  // CLOCK_MONOTONIC; 0: none. For show: the agent ends leases. A lease that is renewed is no new
  // version of the list.
  uint64_t lease_until_ms = 0;
  std::string version;  // what its owner says; cut at kMemberVersionMax
  std::string tags;     // words separated by blanks; cut at kMemberTagsMax
  friend bool operator==(const Member&, const Member&) = default;
};

// Which line of the configuration a member came from: `text` is the target as it is written there,
// without scheme and settings ("users.internal:8080"). Never 0.
uint64_t member_source(std::string_view text);

struct MemberList {
  // False: nothing was published for this upstream yet, so what the configuration says is valid.
  // True with no members: it has none now, and a line whose source no member has is down.
  bool known = false;
  uint64_t version = 0;  // as version() gave it
  std::vector<Member> members;
};

// How a reader names an upstream; its place is found by read().
struct MemberHandle {
  std::string upstream;
  uint32_t slot = UINT32_MAX;
};

// How large the zone is made, where there is none yet: [gatehouse] discovered_upstreams and
// discovered_targets. About half a KiB for each target.
struct MemberCapacity {
  uint32_t lists = 32;
  uint32_t members = 128;  // of each list
};
inline constexpr uint32_t kMemberListsMax = 4096;
inline constexpr uint32_t kMembersMax = 16384;

class MemberLists {
 public:
  // The zone, as large as it is; made where it is not there. Valid as long as the segment is
  // mapped. Errors: no room in the segment.
  static Result<MemberLists> open(SharedMemory& shared, MemberCapacity capacity);
  // None where no zone was made.
  static std::optional<MemberLists> find(SharedMemory& shared);

  // ---- For readers, in any process ----

  // One relaxed load. Where it gives another number than the list that was read, read again.
  uint64_t version(const MemberHandle& handle) const {
    const std::atomic<uint64_t>& word =
        handle.slot < lists_ ? slots_[handle.slot].version : header_->directory;
    const uint64_t value = word.load(std::memory_order_relaxed);
    return handle.slot < lists_ ? value | kFound : value;
  }
  // A consistent copy; notes in `handle` where the list is. An upstream that nothing was published
  // for, or not any more, gives one that is not known. Fails where the list changes over and over
  // while it is being read: keep what you have, and read again later.
  Result<MemberList> read(MemberHandle& handle) const;

  struct Named {
    std::string upstream;
    MemberList list;
  };
  // All that there is, for status and commands.
  std::vector<Named> all() const;

  // ---- For the agent ----

  // True where this process is the one that writes, from now on until it ends. False where another
  // process still does. `shared`: the segment that this zone is in.
  bool claim_writing(SharedMemory& shared);

  struct Published {
    bool changed = false;
    size_t left_out = 0;  // members for which there is no room
  };
  // Replaces the upstream's list, where it differs. REQUIRES: claim_writing().
  // Errors: more upstreams than there are lists.
  Result<Published> publish(std::string_view upstream, std::span<const Member> members);
  // Takes the lists of all other upstreams out of use.
  void keep_only(std::span<const std::string> upstreams);

  MemberCapacity capacity() const { return {lists_, members_}; }

 private:
  static constexpr uint64_t kFound = uint64_t{1} << 63;

  struct alignas(64) Header {
    std::atomic<uint64_t> capacity;   // lists in the upper half, members in the lower
    std::atomic<uint64_t> directory;  // counts what was added, moved and taken out of use
  };
  struct alignas(64) Slot {
    std::atomic<uint64_t> version;  // 0: never used
  };
  static_assert(ZoneLayout<Header> && ZoneLayout<Slot>);
  static_assert(sizeof(Header) == 64 && sizeof(Slot) == 64);

  MemberLists() = default;
  static size_t list_words(uint32_t members);
  static size_t zone_size(MemberCapacity capacity);
  bool adopt(std::span<std::byte> zone, MemberCapacity wanted);
  std::atomic<uint64_t>* list_at(uint32_t slot, uint64_t version) const;
  bool copy(uint32_t slot, uint64_t& version, std::string& name, MemberList& list) const;
  std::optional<uint32_t> slot_of(std::string_view stored) const;
  void write(uint32_t slot, std::string_view stored, std::span<const Member> members);
  void renew(uint32_t slot, std::span<const Member> before, std::span<const Member> members);

  Header* header_ = nullptr;
  Slot* slots_ = nullptr;
  std::atomic<uint64_t>* words_ = nullptr;  // of the lists
  uint32_t lists_ = 0;
  uint32_t members_ = 0;
};

}  // namespace gatehouse
