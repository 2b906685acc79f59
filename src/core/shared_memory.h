// The shared segment: memory that all workers see and that outlives each of them.
//
// One memfd, mapped before the first fork. Named zones live in it; each belongs to one feature and
// holds fixed-size tables of cells that are changed with single atomic operations, so a worker that
// is killed at any instruction leaves nothing to repair. The segment itself is touched under a lock
// only on rare paths: making a zone, replacing one, listing them.
//
// Byte layout (version 1, all offsets from the start of the mapping):
//
//        0 ┌──────────────────────────────────────────────────────────────┐
//          │ SegmentHeader                                                │
//          │    0  magic "GATEHSE1"          8  layout version (u32)      │
//          │   12  zone slots (u32)         16  size of the segment (u64) │
//          │   24  instance id (16 random bytes: which segment this is)   │
//          │   40  secret (16 random bytes: key for keyed hashes)         │
//          │   56  heap state (u32)         64  robust mutex              │
//     4096 ├──────────────────────────────────────────────────────────────┤
//          │ ZoneEntry[512], 128 bytes each                               │
//          │    0  state (u32)               4  layout version (u32)      │
//          │    8  size (u64)               16  offset (u64)              │
//          │   24  align (u32)              32  name[48]    80  type[48]  │
//    69632 ├──────────────────────────────────────────────────────────────┤
//          │ heap (Boost.Interprocess managed_external_buffer, offset     │
//          │ pointers): the zones' bytes                                  │
//     size └──────────────────────────────────────────────────────────────┘
//
// Guarantees: a zone's bytes begin as zeros and never move; no address is stored, so the segment
// may be mapped anywhere; a process that dies while it holds the mutex hangs nobody (the mutex is
// robust, Boost's is not). If the dead one was changing the heap, the heap is closed: the zones
// there go on working, new ones are refused until a restart. The descriptor is sealed against
// shrinking and growing, so no holder can make the others fault.
// Leaves out: growing; the segment is as large as the configuration says.
#pragma once

#include <pthread.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/result.h"
#include "core/unique_fd.h"
#include "core/units.h"

namespace gatehouse {

inline constexpr uint32_t kSegmentLayoutVersion = 1;
inline constexpr Bytes kSegmentMin = 1_MiB;
inline constexpr uint32_t kZonesMax = 512;
inline constexpr size_t kZoneNameMax = 47;  // bytes, for the name and for the type name
inline constexpr size_t kZoneAlignMax = 4096;

// One zone, as listed.
struct ZoneInfo {
  std::string name;
  std::string type;
  uint32_t version = 0;
  uint64_t size = 0;
  bool retired = false;
};

class SharedMemory {
 public:
  // A new segment of `size` (rounded up to whole pages; at least kSegmentMin). Memory is committed
  // by the kernel as it is touched.
  static Result<SharedMemory> create(Bytes size);
  // Maps a segment that another process made, after checking seals, magic, version and size.
  static Result<SharedMemory> attach(UniqueFd fd);

  SharedMemory(SharedMemory&&) noexcept;
  SharedMemory& operator=(SharedMemory&&) noexcept;
  ~SharedMemory();  // unmaps; the bytes live while any process maps or holds the descriptor

  // The zone `name`: the one that is there, where name, type, version and size all match;
  // otherwise a new one, zeroed, aligned to `align` (a power of two up to kZoneAlignMax). A zone
  // that matches by name only is retired: its bytes stay until free_retired_zones(), because
  // exchanges of an older generation may still use them. `*created`, where given, tells a new zone
  // from an adopted one.
  // Errors: bad name, type or size; no room (says how much is free); no slot; heap closed.
  Result<std::span<std::byte>> adopt_or_create_zone(std::string_view name, std::string_view type,
                                                    uint32_t version, size_t size,
                                                    size_t align = 64, bool* created = nullptr);

  // The zone's bytes, where one of this name, type and version is there; empty otherwise.
  std::span<std::byte> find_zone(std::string_view name, std::string_view type, uint32_t version);

  // Takes a zone out of use (its feature was configured away). False where there is none.
  bool retire_zone(std::string_view name);
  // Gives back the bytes of retired zones. REQUIRES: no generation uses them any more.
  size_t free_retired_zones();

  std::vector<ZoneInfo> zones();

  int fd() const;
  Bytes size() const;
  Bytes free_bytes();  // in total; the largest free block may be smaller
  // Differs between any two segments, and stays over worker restarts and upgrades.
  const std::array<uint8_t, 16>& instance_id() const;
  // The key for keyed hashes of client-chosen bytes; never leaves the host.
  const std::array<uint8_t, 16>& secret() const;

  // Holds the segment's mutex; for the rare paths only, never on the request path. Recovers it
  // from an owner that died.
  class Lock {
   public:
    ~Lock();
    Lock(Lock&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;
    Lock& operator=(Lock&&) = delete;

   private:
    friend class SharedMemory;
    explicit Lock(pthread_mutex_t* mutex) : mutex_(mutex) {}
    pthread_mutex_t* mutex_;
  };
  Result<Lock> lock();

 private:
  struct Mapping;
  explicit SharedMemory(std::unique_ptr<Mapping> mapping);
  std::unique_ptr<Mapping> mapping_;
};

// What may live in a zone: no pointers to follow, no virtual functions, nothing to destroy, and
// all-zero bytes are its valid first state. (std::is_trivially_copyable is not asked for, because
// std::atomic members do not have it everywhere; a zone is never copied.)
template <typename T>
concept ZoneLayout =
    std::is_standard_layout_v<T> && std::is_trivially_destructible_v<T> && !std::is_pointer_v<T> &&
    alignof(T) <= kZoneAlignMax;

// The atomic types that may live in a zone: a locked "atomic" would use a lock private to each
// process. Use as: static_assert(kLockFree<uint64_t>);
template <typename T>
inline constexpr bool kLockFree = std::atomic<T>::is_always_lock_free;
static_assert(kLockFree<uint32_t> && kLockFree<uint64_t> && kLockFree<int64_t>);

// The zone's bytes as an array of `count` T; nullptr where it is too small or misaligned.
template <ZoneLayout T>
T* zone_as(std::span<std::byte> bytes, size_t count = 1) {
  if (count == 0 || bytes.size() / sizeof(T) < count) return nullptr;
  if (reinterpret_cast<uintptr_t>(bytes.data()) % alignof(T) != 0) return nullptr;
  return reinterpret_cast<T*>(bytes.data());
}

}  // namespace gatehouse
