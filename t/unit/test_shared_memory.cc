// The shared segment and its zones, also across processes that die.
#include "core/shared_memory.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>
#include <string>

#include "core/log.h"

namespace {

using gatehouse::Bytes;
using gatehouse::Result;
using gatehouse::SharedMemory;
using gatehouse::UniqueFd;
using gatehouse::zone_as;
using gatehouse::operator""_MiB;

struct Counter {
  std::atomic<uint64_t> count;
};

std::optional<SharedMemory> shared;

void set_up() {
  gatehouse::log_set_level(gatehouse::LogLevel::kAlert);
  Result<SharedMemory> made = SharedMemory::create(4_MiB);
  cr_assert(made.ok(), "%s", made.ok() ? "" : made.error().message.c_str());
  shared.emplace(std::move(*made));
}

void tear_down() {
  shared.reset();
}

std::byte* make(std::string_view name, std::string_view type, uint32_t version, size_t size,
                bool* created = nullptr) {
  Result<std::span<std::byte>> zone =
      shared->adopt_or_create_zone(name, type, version, size, 64, created);
  return zone ? zone->data() : nullptr;
}

template <typename Work>
int status_of_child(Work work) {
  pid_t child = fork();
  if (child == 0) {
    work();
    _exit(0);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
  }
  return status;
}

}  // namespace

TestSuite(shared_memory, .init = set_up, .fini = tear_down);

Test(shared_memory, a_zone_is_adopted_only_where_all_four_match) {
  bool created = false;
  std::byte* zone = make("limit per_client", "x", 1, 4096);
  cr_assert_null(zone, "no spaces in names");
  zone = make("limit.per_client", "gcra", 1, 4096, &created);
  cr_assert(zone != nullptr && created);
  zone[0] = std::byte{7};
  cr_assert(make("limit.per_client", "gcra", 1, 4096, &created) == zone && !created);
  cr_assert(zone[0] == std::byte{7});

  std::byte* other = make("limit.per_client", "window", 1, 4096, &created);
  cr_assert(other != nullptr && other != zone && created);
  cr_assert(other[0] == std::byte{0});
  cr_assert(zone[0] == std::byte{7}, "the old bytes stay for the generation that uses them");
  cr_assert(make("limit.per_client", "window", 2, 4096, &created) != other && created);
  other = make("limit.per_client", "window", 2, 8192, &created);
  cr_assert(created);
  cr_assert(shared->find_zone("limit.per_client", "window", 2).data() == other);
  cr_assert(shared->find_zone("limit.per_client", "window", 1).empty());
  cr_assert(shared->zones().size() == 4);
}

Test(shared_memory, retired_zones_give_their_bytes_back_when_told) {
  Bytes before = shared->free_bytes();
  make("a", "t", 1, 100000);
  make("a", "t", 2, 100000);
  cr_assert(shared->retire_zone("a"));
  cr_assert_not(shared->retire_zone("a"));
  cr_assert(shared->free_bytes().count < before.count - 200000);
  cr_assert(shared->free_retired_zones() == 2);
  cr_assert(shared->free_bytes() == before);
  std::byte* again = make("a", "t", 1, 100000);
  cr_assert(std::all_of(again, again + 100000, [](std::byte b) { return b == std::byte{0}; }));
}

Test(shared_memory, zones_are_aligned_and_apart) {
  for (size_t align : {1U, 64U, 128U, 4096U}) {
    std::string name = "zone" + std::to_string(align);
    auto zone = shared->adopt_or_create_zone(name, "t", 1, 10, align);
    cr_assert(zone.ok());
    cr_assert(reinterpret_cast<uintptr_t>(zone->data()) % std::max<size_t>(align, 64) == 0);
    cr_assert(zone->size() == 10);
  }
  cr_assert_not(shared->adopt_or_create_zone("b", "t", 1, 10, 3).ok());
  cr_assert_not(shared->adopt_or_create_zone("b", "t", 1, 10, 8192).ok());
  cr_assert_not(shared->adopt_or_create_zone("b", "t", 1, 0, 64).ok());
}

Test(shared_memory, names_and_numbers_are_bounded) {
  std::string longest(gatehouse::kZoneNameMax, 'n');
  cr_assert(make(longest, longest, 1, 64) != nullptr);
  cr_assert(make(longest, longest, 1, 64) == shared->find_zone(longest, longest, 1).data());
  cr_assert_null(make(longest + "n", "t", 1, 64));
  cr_assert_null(make("", "t", 1, 64));
  cr_assert_null(make("a\n", "t", 1, 64));
  for (uint32_t i = 1; i < gatehouse::kZonesMax; ++i) {
    cr_assert(make("z" + std::to_string(i), "t", 1, 64) != nullptr);
  }
  auto one_more = shared->adopt_or_create_zone("one_more", "t", 1, 64);
  cr_assert(!one_more && one_more.error().message.find("512 zones") != std::string::npos);
}

Test(shared_memory, no_room_is_an_error_that_says_what_to_raise) {
  auto zone = shared->adopt_or_create_zone("big", "t", 1, 64 * 1024 * 1024);
  cr_assert(!zone && zone.error().message.find("raise shared_memory") != std::string::npos);
  zone = shared->adopt_or_create_zone("huge", "t", 1, SIZE_MAX);
  cr_assert_not(zone.ok());
  cr_assert(make("small", "t", 1, 1024) != nullptr, "the heap works on");
}

Test(shared_memory, sizes_have_limits) {
  cr_assert_not(SharedMemory::create(Bytes{0}).ok());
  cr_assert_not(SharedMemory::create(Bytes{UINT64_MAX}).ok());
  cr_assert(SharedMemory::create(Bytes{1024 * 1024 + 1})->size().count == 1024 * 1024 + 4096);
}

Test(shared_memory, another_mapping_sees_the_same_zones) {
  Counter* mine = zone_as<Counter>(*shared->adopt_or_create_zone("c", "counter", 1, 64));
  mine->count = 5;
  Result<SharedMemory> other = SharedMemory::attach(UniqueFd(dup(shared->fd())));
  cr_assert(other.ok());
  bool created = true;
  auto zone = other->adopt_or_create_zone("c", "counter", 1, 64, 64, &created);
  Counter* theirs = zone_as<Counter>(*zone);
  cr_assert(!created && theirs != mine && theirs->count == 5);
  theirs->count++;
  cr_assert(mine->count == 6);
  cr_assert(other->secret() == shared->secret() && other->instance_id() == shared->instance_id());
  cr_assert(other->secret() != other->instance_id());
  cr_assert(other->adopt_or_create_zone("d", "t", 1, 64).ok());
  cr_assert_not(shared->find_zone("d", "t", 1).empty());
}

Test(shared_memory, a_worker_that_dies_leaves_its_counts) {
  auto zone = shared->adopt_or_create_zone("c", "counter", 1, sizeof(Counter) * 4);
  Counter* counters = zone_as<Counter>(*zone, 4);
  int status = status_of_child([counters] {
    counters[3].count.fetch_add(9);
    kill(getpid(), SIGKILL);
  });
  cr_assert(WIFSIGNALED(status));
  cr_assert(counters[3].count == 9);
}

Test(shared_memory, an_owner_that_dies_hangs_nobody, .timeout = 10) {
  int status = status_of_child([] {
    auto held = shared->lock();
    kill(getpid(), SIGKILL);
  });
  cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  for (int i = 0; i < 3; ++i) {
    cr_assert(make("after" + std::to_string(i), "t", 1, 64) != nullptr);
  }
}

Test(shared_memory, a_death_inside_the_heap_closes_it_and_keeps_the_zones, .timeout = 10) {
  std::byte* zone = make("kept", "t", 1, 64);
  zone[0] = std::byte{1};
  int status = status_of_child([] {
    auto held = shared->lock();
    auto* header = static_cast<std::byte*>(
        mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, shared->fd(), 0));
    uint32_t busy = 1;
    std::memcpy(header + 56, &busy, sizeof busy);  // heap state, as the drawing says
    kill(getpid(), SIGKILL);
  });
  cr_assert(WIFSIGNALED(status));
  bool created = true;
  cr_assert(make("kept", "t", 1, 64, &created) == zone && !created);
  auto refused = shared->adopt_or_create_zone("new", "t", 1, 64);
  cr_assert(!refused && refused.error().message.find("closed") != std::string::npos);
  cr_assert(zone[0] == std::byte{1});
  cr_assert(shared->free_retired_zones() == 0);
}

Test(shared_memory, nothing_but_a_segment_is_attached) {
  cr_assert_not(SharedMemory::attach(UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC))).ok());
  UniqueFd plain(memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  cr_assert(ftruncate(plain.get(), 4 * 1024 * 1024) == 0);
  cr_assert_not(SharedMemory::attach(UniqueFd(dup(plain.get()))).ok(), "not sealed");
  cr_assert(fcntl(plain.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
  cr_assert_not(SharedMemory::attach(std::move(plain)).ok(), "no magic");
  cr_assert(ftruncate(shared->fd(), 4096) < 0, "nobody can take the pages away");
}

Test(shared_memory, zone_as_checks_size_and_alignment) {
  std::span<std::byte> zone = *shared->adopt_or_create_zone("z", "t", 1, sizeof(Counter) * 2);
  cr_assert_not_null(zone_as<Counter>(zone, 2));
  cr_assert_null(zone_as<Counter>(zone, 3));
  cr_assert_null(zone_as<Counter>(zone, 0));
  cr_assert_null(zone_as<Counter>(zone.subspan(1), 1));
  cr_assert_null(zone_as<Counter>({}, 1));
}
