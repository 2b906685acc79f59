// The shared segment: creation, attaching, zones. The byte layout is drawn in shared_memory.h.
#include "core/shared_memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <boost/interprocess/managed_external_buffer.hpp>
#include <cerrno>
#include <cstring>
#include <optional>

#include "core/log.h"

namespace gatehouse {
namespace {

namespace bip = boost::interprocess;

constexpr char kMagic[8] = {'G', 'A', 'T', 'E', 'H', 'S', 'E', '1'};
constexpr size_t kPage = 4096;
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW;

enum HeapState : uint32_t { kHeapIdle = 0, kHeapBusy = 1, kHeapClosed = 2 };
enum ZoneState : uint32_t { kZoneFree = 0, kZoneLive = 1, kZoneRetired = 2 };

struct SegmentHeader {
  char magic[8];
  uint32_t layout_version;
  uint32_t zone_slots;
  uint64_t size;
  std::array<uint8_t, 16> instance_id;
  std::array<uint8_t, 16> secret;
  // kHeapBusy while the heap's own structures are being changed: found so by the next owner of the
  // mutex, it means that they cannot be trusted.
  std::atomic<uint32_t> heap_state;
  alignas(64) pthread_mutex_t mutex;
};

struct ZoneEntry {
  std::atomic<uint32_t> state;  // written last, so a half-written entry is a free one
  uint32_t version;
  uint64_t size;
  uint64_t offset;  // from the start of the segment
  uint32_t align;
  uint32_t unused;
  char name[kZoneNameMax + 1];
  char type[kZoneNameMax + 1];
};

constexpr size_t kDirectoryOffset = kPage;
constexpr size_t kHeapOffset = kDirectoryOffset + kZonesMax * sizeof(ZoneEntry);

static_assert(std::is_standard_layout_v<SegmentHeader> && std::is_standard_layout_v<ZoneEntry>);
static_assert(offsetof(SegmentHeader, instance_id) == 24 && offsetof(SegmentHeader, mutex) == 64);
static_assert(offsetof(SegmentHeader, heap_state) == 56);
static_assert(sizeof(SegmentHeader) <= kPage && sizeof(ZoneEntry) == 128);
static_assert(offsetof(ZoneEntry, name) == 32 && offsetof(ZoneEntry, type) == 80);
static_assert(kHeapOffset == 69632 && kHeapOffset % kPage == 0);
static_assert(std::atomic<uint32_t>::is_always_lock_free);

bool good_name(std::string_view name) {
  return !name.empty() && name.size() <= kZoneNameMax &&
         std::all_of(name.begin(), name.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

void copy_name(char (&to)[kZoneNameMax + 1], std::string_view from) {
  std::memset(to, 0, sizeof to);
  std::memcpy(to, from.data(), from.size());
}

std::string_view name_of(const char (&text)[kZoneNameMax + 1]) {
  return {text, strnlen(text, sizeof text)};
}

bool fill_random(std::span<uint8_t> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    ssize_t got = getrandom(bytes.data() + done, bytes.size() - done, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    done += static_cast<size_t>(got);
  }
  return true;
}

// Initialises `mutex` in shared memory; returns an errno value.
int init_robust_mutex(pthread_mutex_t* mutex) {
  pthread_mutexattr_t attributes;
  int result = pthread_mutexattr_init(&attributes);
  if (result != 0) return result;
  result = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  if (result == 0) result = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  if (result == 0) result = pthread_mutex_init(mutex, &attributes);
  pthread_mutexattr_destroy(&attributes);
  return result;
}

}  // namespace

struct SharedMemory::Mapping {
  UniqueFd fd;
  std::byte* start = nullptr;
  size_t size = 0;
  bip::managed_external_buffer heap;

  Mapping() = default;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (start != nullptr) munmap(start, size);
  }

  Result<void> map(size_t bytes) {
    void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (address == MAP_FAILED) {
      return errno_error(fmt::format("cannot map {} bytes of shared memory", bytes), errno);
    }
    start = static_cast<std::byte*>(address);
    size = bytes;
    return {};
  }

  SegmentHeader& header() { return *reinterpret_cast<SegmentHeader*>(start); }
  std::span<ZoneEntry> entries() {
    return {reinterpret_cast<ZoneEntry*>(start + kDirectoryOffset), kZonesMax};
  }
  std::byte* heap_start() { return start + kHeapOffset; }
  size_t heap_size() const { return size - kHeapOffset; }

  ZoneEntry* find(std::string_view name) {
    for (ZoneEntry& entry : entries()) {
      if (entry.state.load(std::memory_order_acquire) == kZoneLive && name_of(entry.name) == name) {
        return &entry;
      }
    }
    return nullptr;
  }

  // The entry's bytes; empty where the entry reaches outside the heap.
  std::span<std::byte> bytes_of(const ZoneEntry& entry) {
    if (entry.offset < kHeapOffset || entry.offset > size || entry.size > size - entry.offset) {
      return {};
    }
    return {start + entry.offset, entry.size};
  }

  // Heap operations, bracketed so that a death in the middle is noticed by the next owner.
  void* allocate(size_t bytes, size_t align) {
    header().heap_state.store(kHeapBusy, std::memory_order_seq_cst);
    void* block = heap.allocate_aligned(bytes, align, std::nothrow);
    header().heap_state.store(kHeapIdle, std::memory_order_seq_cst);
    return block;
  }
  void deallocate(void* block) {
    header().heap_state.store(kHeapBusy, std::memory_order_seq_cst);
    heap.deallocate(block);
    header().heap_state.store(kHeapIdle, std::memory_order_seq_cst);
  }
};

SharedMemory::SharedMemory(std::unique_ptr<Mapping> mapping) : mapping_(std::move(mapping)) {}
SharedMemory::SharedMemory(SharedMemory&&) noexcept = default;
SharedMemory& SharedMemory::operator=(SharedMemory&&) noexcept = default;
SharedMemory::~SharedMemory() = default;

Result<SharedMemory> SharedMemory::create(Bytes size) {
  constexpr uint64_t kSizeMax = uint64_t{1} << 40;
  if (size < kSegmentMin || size.count > kSizeMax) {
    return Error{fmt::format("shared memory of {} bytes: expected between {} and {}", size.count,
                             kSegmentMin.count, kSizeMax)};
  }
  size_t bytes = (size.count + kPage - 1) / kPage * kPage;
  auto mapping = std::make_unique<Mapping>();
  mapping->fd.reset(memfd_create("gatehouse", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!mapping->fd) return errno_error("cannot create shared memory", errno);
  if (ftruncate(mapping->fd.get(), static_cast<off_t>(bytes)) < 0) {
    return errno_error(fmt::format("cannot size shared memory to {} bytes", bytes), errno);
  }
  if (fcntl(mapping->fd.get(), F_ADD_SEALS, kSeals) < 0) {
    return errno_error("cannot seal shared memory", errno);
  }
  if (Result<void> mapped = mapping->map(bytes); !mapped) return mapped.error();

  auto* header = new (mapping->start) SegmentHeader{};
  header->layout_version = kSegmentLayoutVersion;
  header->zone_slots = kZonesMax;
  header->size = bytes;
  if (!fill_random(header->instance_id) || !fill_random(header->secret)) {
    return errno_error("cannot get random bytes", errno);
  }
  if (int problem = init_robust_mutex(&header->mutex); problem != 0) {
    return errno_error("cannot make the shared mutex", problem);
  }
  try {
    mapping->heap =
        bip::managed_external_buffer(bip::create_only, mapping->heap_start(), mapping->heap_size());
  } catch (const std::exception& problem) {
    return Error{fmt::format("cannot make the shared heap: {}", problem.what())};
  }
  // Last, so that nobody attaches to half a segment.
  uint64_t magic;
  static_assert(sizeof magic == sizeof kMagic);
  std::memcpy(&magic, kMagic, sizeof magic);
  std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t*>(header->magic))
      .store(magic, std::memory_order_release);
  return SharedMemory(std::move(mapping));
}

Result<SharedMemory> SharedMemory::attach(UniqueFd fd) {
  struct stat info {};
  if (fstat(fd.get(), &info) < 0) return errno_error("cannot attach shared memory", errno);
  int seals = fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) {
    return Error{"cannot attach shared memory: the descriptor is not a sealed memfd"};
  }
  if (info.st_size < static_cast<off_t>(kSegmentMin.count)) {
    return Error{fmt::format("cannot attach shared memory: {} bytes are too few", info.st_size)};
  }
  auto mapping = std::make_unique<Mapping>();
  mapping->fd = std::move(fd);
  if (Result<void> mapped = mapping->map(static_cast<size_t>(info.st_size)); !mapped) {
    return mapped.error();
  }
  const SegmentHeader& header = mapping->header();
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0 ||
      header.layout_version != kSegmentLayoutVersion || header.zone_slots != kZonesMax ||
      header.size != mapping->size) {
    return Error{"cannot attach shared memory: it is not a segment of this layout version"};
  }
  try {
    mapping->heap =
        bip::managed_external_buffer(bip::open_only, mapping->heap_start(), mapping->heap_size());
  } catch (const std::exception& problem) {
    return Error{fmt::format("cannot open the shared heap: {}", problem.what())};
  }
  return SharedMemory(std::move(mapping));
}

// ---- The lock -----------------------------------------------------------------------------------

SharedMemory::Lock::~Lock() {
  if (mutex_ != nullptr) pthread_mutex_unlock(mutex_);
}

Result<SharedMemory::Lock> SharedMemory::lock() {
  pthread_mutex_t* mutex = &mapping_->header().mutex;
  int result = pthread_mutex_lock(mutex);
  if (result == EOWNERDEAD) {
    std::atomic<uint32_t>& state = mapping_->header().heap_state;
    if (state.load() == kHeapBusy) {
      state.store(kHeapClosed);
      GH_LOG(kError,
             "shared memory: a process died while it changed the heap; no new zone can be "
             "made until gatehouse is restarted");
    } else {
      GH_LOG(kWarn, "shared memory: a process died while it held the lock; nothing is damaged");
    }
    result = pthread_mutex_consistent(mutex);
    if (result != 0) pthread_mutex_unlock(mutex);
  }
  if (result != 0) return errno_error("cannot lock shared memory", result);
  return Lock(mutex);
}

// ---- Zones --------------------------------------------------------------------------------------

Result<std::span<std::byte>> SharedMemory::adopt_or_create_zone(std::string_view name,
                                                                std::string_view type,
                                                                uint32_t version, size_t size,
                                                                size_t align, bool* created) {
  if (!good_name(name) || !good_name(type)) {
    return Error{fmt::format("zone '{}' of type '{}': names have 1 to {} visible ASCII characters",
                             name, type, kZoneNameMax)};
  }
  if (size == 0 || !std::has_single_bit(align) || align > kZoneAlignMax) {
    return Error{fmt::format("zone '{}': bad size {} or alignment {}", name, size, align)};
  }
  Result<Lock> held = lock();
  if (!held) return held.error();
  Mapping& mapping = *mapping_;

  ZoneEntry* old = mapping.find(name);
  if (old != nullptr && name_of(old->type) == type && old->version == version &&
      old->size == size && old->offset % align == 0) {
    std::span<std::byte> bytes = mapping.bytes_of(*old);
    if (!bytes.empty()) {
      if (created != nullptr) *created = false;
      return bytes;
    }
  }
  if (mapping.header().heap_state.load() != kHeapIdle) {
    return Error{fmt::format("zone '{}': the shared heap is closed until a restart", name)};
  }
  std::span<ZoneEntry> entries = mapping.entries();
  auto slot = std::find_if(entries.begin(), entries.end(),
                           [](const ZoneEntry& e) { return e.state.load() == kZoneFree; });
  if (slot == entries.end()) {
    return Error{fmt::format("zone '{}': all {} zones are in use", name, kZonesMax)};
  }
  // Whole cache lines at least: two zones never share one.
  void* block =
      size <= mapping.heap_size() ? mapping.allocate(size, std::max(align, size_t{64})) : nullptr;
  if (block == nullptr) {
    return Error{
        fmt::format("zone '{}' needs {} bytes of shared memory, of which {} of {} are free: raise "
                    "shared_memory",
                    name, size, mapping.heap.get_free_memory(), mapping.size)};
  }
  std::memset(block, 0, size);
  slot->version = version;
  slot->size = size;
  slot->offset = static_cast<uint64_t>(static_cast<std::byte*>(block) - mapping.start);
  slot->align = static_cast<uint32_t>(align);
  copy_name(slot->name, name);
  copy_name(slot->type, type);
  if (old != nullptr) {
    GH_LOG(kNotice,
           "zone '{}' is replaced, its counts begin anew: {} version {} of {} bytes was {} version "
           "{} of {} bytes",
           name, type, version, size, name_of(old->type), old->version, old->size);
    old->state.store(kZoneRetired, std::memory_order_release);
  }
  slot->state.store(kZoneLive, std::memory_order_release);
  if (created != nullptr) *created = true;
  return std::span<std::byte>(static_cast<std::byte*>(block), size);
}

std::span<std::byte> SharedMemory::find_zone(std::string_view name, std::string_view type,
                                             uint32_t version) {
  Result<Lock> held = lock();
  if (!held) return {};
  ZoneEntry* entry = mapping_->find(name);
  if (entry == nullptr || name_of(entry->type) != type || entry->version != version) return {};
  return mapping_->bytes_of(*entry);
}

bool SharedMemory::retire_zone(std::string_view name) {
  Result<Lock> held = lock();
  if (!held) return false;
  ZoneEntry* entry = mapping_->find(name);
  if (entry == nullptr) return false;
  entry->state.store(kZoneRetired, std::memory_order_release);
  return true;
}

size_t SharedMemory::free_retired_zones() {
  Result<Lock> held = lock();
  if (!held || mapping_->header().heap_state.load() != kHeapIdle) return 0;
  size_t freed = 0;
  for (ZoneEntry& entry : mapping_->entries()) {
    if (entry.state.load() != kZoneRetired) continue;
    std::span<std::byte> bytes = mapping_->bytes_of(entry);
    // The entry goes first: a death in between leaks the block, the other order could free it
    // twice.
    entry.state.store(kZoneFree, std::memory_order_seq_cst);
    if (!bytes.empty()) mapping_->deallocate(bytes.data());
    ++freed;
  }
  return freed;
}

std::vector<ZoneInfo> SharedMemory::zones() {
  std::vector<ZoneInfo> list;
  Result<Lock> held = lock();
  if (!held) return list;
  for (const ZoneEntry& entry : mapping_->entries()) {
    uint32_t state = entry.state.load();
    if (state == kZoneFree) continue;
    list.push_back({std::string(name_of(entry.name)), std::string(name_of(entry.type)),
                    entry.version, entry.size, state == kZoneRetired});
  }
  return list;
}

int SharedMemory::fd() const {
  return mapping_->fd.get();
}

Bytes SharedMemory::size() const {
  return Bytes{mapping_->size};
}

Bytes SharedMemory::free_bytes() {
  Result<Lock> held = lock();
  return held ? Bytes{mapping_->heap.get_free_memory()} : Bytes{};
}

const std::array<uint8_t, 16>& SharedMemory::instance_id() const {
  return mapping_->header().instance_id;
}

const std::array<uint8_t, 16>& SharedMemory::secret() const {
  return mapping_->header().secret;
}

}  // namespace gatehouse
