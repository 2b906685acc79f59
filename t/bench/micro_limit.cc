// What one limit costs: hashing an address and taking from its budget.
//
// One key (in the caches), 10,000 keys, and 1,000,000 in random order, which are not; refusals;
// and several processes that take from the same key. Only what the table does is measured, without
// the exchange around it. To build: the flags of t/bench/micro_parser.cc, linked with
// libgatehouse.a. Prints a line for each case, and the bytes a key takes.
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <random>
#include <span>
#include <vector>

#include "core/limit_conf.h"
#include "core/limit_table.h"

using namespace gatehouse;

namespace {

// Processor time, for the machine is shared.
double cpu_ns() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

constexpr uint32_t kKeys = 1'000'000;
constexpr int64_t kStart = 1'000'000'000;

void* shared_bytes(size_t size) {
  void* bytes = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (bytes == MAP_FAILED) _exit(1);
  return bytes;
}

struct World {
  LimitRules* rules = new (shared_bytes(sizeof(LimitRules))) LimitRules();
  std::span<std::byte> zone{static_cast<std::byte*>(shared_bytes(LimitTable::bytes_for(kKeys))),
                            LimitTable::bytes_for(kKeys)};
  LimitTable table{zone};
  KeyedHash hash{HashKey{11, 12}};
  LimitKeyPart part{"client_address", true, 32, 64};
};

// Nanoseconds a call, taking for addresses out of `keys` in random order.
double measure(World& world, uint32_t keys, uint32_t calls) {
  std::minstd_rand random(7);
  std::vector<uint32_t> order(calls);
  for (uint32_t& each : order) each = static_cast<uint32_t>(random() % keys);
  uint64_t admitted = 0;
  int64_t now = kStart;
  const uint64_t base = begin_limit_key(world.hash, "bench");
  const double begun = cpu_ns();
  for (uint32_t i = 0; i < calls; ++i) {
    const IpAddress address = IpAddress::v4(0x0A000000 + order[i]);
    LimitTable::Taken taken;
    const uint64_t hash = join_limit_key(world.hash, base, world.part, address);
    world.table.prefetch(hash);
    admitted += world.table.take(*world.rules, hash, now += 10, 1, taken);
  }
  const double ns = cpu_ns() - begun;
  if (admitted > calls) std::puts("impossible");
  return ns / calls;
}

}  // namespace

int main() {
  World world;
  std::printf("bytes a key: %.1f\n", static_cast<double>(world.zone.size()) / kKeys);
  const struct {
    const char* name;
    LimitRate rate;
  } rates[] = {{"bucket", {1'000'000, 1'000'000, 1'000'000'000}},
               {"bucket, refused", {1, int64_t{86'400} * 1'000'000, 1}},
               {"window", {500'000, 1'000'000, std::nullopt}},
               {"window of 100, refused", {100, int64_t{86'400} * 1'000'000, std::nullopt}}};
  for (const auto& each : rates) {
    world.rules->change(make_limit_rule(each.rate, kStart));
    world.table.reset_all();
    measure(world, kKeys, 4 * kKeys);  // every key has its cell
    for (const uint32_t keys : {1U, 10'000U, kKeys}) {
      std::printf("%-24s %8u keys %7.1f ns\n", each.name, keys, measure(world, keys, 1'000'000));
    }
  }
  world.rules->change(make_limit_rule(rates[0].rate, kStart));
  for (const int processes : {2, 4}) {
    std::fflush(stdout);
    std::vector<pid_t> children;
    for (int i = 0; i < processes; ++i) {
      children.push_back(fork());
      if (children.back() == 0) {
        std::printf("%d at one key: %.1f ns\n", processes, measure(world, 1, 2'000'000));
        std::fflush(stdout);
        _exit(0);
      }
    }
    for (const pid_t child : children) waitpid(child, nullptr, 0);
  }
}
