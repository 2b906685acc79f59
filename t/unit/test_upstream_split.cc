// The choice among a route's upstreams: distribution, stickiness, cookies.
#include "http/upstream_split.h"

#include <criterion/criterion.h>

#include <cmath>
#include <string>
#include <vector>

#include "core/config_errors.h"
#include "http/generation.h"
#include "http/route.h"
#include "modules/registry.h"

namespace {

using namespace gatehouse;

constexpr size_t kDraws = 100'000;
constexpr HashKey kKey{0x0706050403020100, 0x0f0e0d0c0b0a0908};

// Random bits that are the same in every run, and no relatives of the code's own.
class Bits {
 public:
  explicit Bits(uint64_t seed) : state_(seed | 1) {}
  uint64_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ * 0x2545F4914F6CDD1DU;
  }

 private:
  uint64_t state_;
};

std::vector<SplitWeight> weights(const std::vector<uint32_t>& shares) {
  const std::string names[] = {"users", "users_next", "third", "fourth", "fifth"};
  std::vector<SplitWeight> sides;
  for (size_t i = 0; i < shares.size(); ++i) {
    sides.push_back({split_identity(names[i]), shares[i]});
  }
  return sides;
}

// Pearson's statistic against the shares; sides without a share must have nobody.
double chi_square(const std::vector<SplitWeight>& sides, const std::vector<size_t>& seen) {
  double sum = 0;
  for (size_t i = 0; i < sides.size(); ++i) {
    if (sides[i].share == 0) {
      cr_assert_eq(seen[i], 0u);
      continue;
    }
    const double expected = kDraws * (sides[i].share / 10000.0);
    sum += std::pow(static_cast<double>(seen[i]) - expected, 2) / expected;
  }
  return sum;
}

// 99.9 % quantiles by degrees of freedom.
constexpr double kLimit[] = {0, 10.83, 13.82, 16.27, 18.47};

void expect_even(size_t (*choose)(std::span<const SplitWeight>, uint64_t),
                 const std::vector<uint32_t>& shares) {
  const std::vector<SplitWeight> sides = weights(shares);
  std::vector<size_t> seen(sides.size());
  Bits bits(7);
  for (size_t i = 0; i < kDraws; ++i) ++seen[choose(sides, bits.next())];
  const double found = chi_square(sides, seen);
  cr_assert(found < kLimit[sides.size() - 1], "chi-square %g with %zu sides", found, sides.size());
}

constexpr const char* kConfig = R"([upstream users]
target = http://127.0.0.1:3000
[upstream users_next]
target = http://127.0.0.1:3001
[route plain]
path = /plain
upstream = users
[route whole]
path = /whole
upstream = users 100%
[route dealt]
path = /dealt
upstream = users 95%, users_next 5%
[route sticky]
path = /sticky
upstream = users 50%, users_next 50%, users_next if header X-Beta: 1 sticky cookie side
sticky_secret = a secret of both gateways
[route beta]
path = /beta
upstream = users, users_next if cookie beta=1
)";

struct Compiled {
  Schema schema = make_schema(all_modules());
  ConfigErrors errors;
  std::unique_ptr<Generation> generation;

  explicit Compiled(uint8_t secret = 1) {
    generation = Generation::build(
        std::make_shared<const ConfigSource>(ConfigSource::from_text("g.conf", kConfig)), schema,
        all_modules(), NameTable(), errors);
    cr_assert(generation != nullptr, "%s", errors.text().c_str());
    std::array<uint8_t, 16> bytes{};
    bytes.fill(secret);
    for (const auto& route : generation->routes()) {
      if (route->split != nullptr) route->split->bind_key(bytes);
    }
  }
  const UpstreamSplit& split(const std::string& route) const {
    return *generation->find_route(route)->split;
  }
};

struct Answer {
  std::string upstream;
  std::string set_cookie;  // the whole field
  std::string cookie;      // NAME=VALUE
};

Answer ask(const UpstreamSplit& split, const std::string& cookie = "", bool https = false,
           const std::string& beta = "") {
  Exchange exchange;
  exchange.client_https = https;
  if (!cookie.empty()) exchange.request.fields.push("Cookie", cookie);
  if (!beta.empty()) exchange.request.fields.push("X-Beta", beta);
  Answer answer;
  answer.upstream = split.choose(exchange).name;
  if (const Field* field = exchange.response.added.find("Set-Cookie")) {
    answer.set_cookie = field->value;
    answer.cookie = answer.set_cookie.substr(0, answer.set_cookie.find(';'));
  }
  return answer;
}

}  // namespace

Test(upstream_split, draws_come_out_as_the_shares_say) {
  expect_even(&split_by_draw, {9500, 500});
  expect_even(&split_by_draw, {5000, 2500, 1500, 999, 1});
  expect_even(&split_by_draw, {0, 10000});
  expect_even(&split_by_draw, {3333, 0, 6667});
}

Test(upstream_split, points_come_out_as_the_shares_say) {
  expect_even(&split_by_point, {9500, 500});
  expect_even(&split_by_point, {5000, 2500, 1500, 900, 100});
  expect_even(&split_by_point, {0, 10000});
  expect_even(&split_by_point, {3333, 0, 6667});
}

Test(upstream_split, the_ends_of_the_range_are_legal_draws) {
  const std::vector<SplitWeight> sides = weights({0, 5000, 5000, 0});
  cr_assert_eq(split_by_draw(sides, 0), 1u);
  cr_assert_eq(split_by_draw(sides, ~uint64_t{0}), 2u);
}

// As a canary does: who is on the new side stays, and nobody goes back.
Test(upstream_split, clients_of_a_growing_side_stay) {
  Bits bits(11);
  std::vector<uint64_t> points(20'000);
  for (uint64_t& point : points) point = bits.next();
  std::vector<size_t> before(points.size(), 0);
  for (const uint32_t share : {0u, 1u, 100u, 500u, 2500u, 5000u, 9999u, 10000u}) {
    const std::vector<SplitWeight> sides = weights({10000 - share, share});
    size_t fresh = 0;
    for (size_t i = 0; i < points.size(); ++i) {
      const size_t now = split_by_point(sides, points[i]);
      cr_assert(now >= before[i], "a client went back at share %u", share);
      before[i] = now;
      fresh += now;
    }
    const double expected = static_cast<double>(points.size()) * share / 10000;
    cr_assert(std::abs(static_cast<double>(fresh) - expected) < 5 * std::sqrt(expected + 1));
  }
}

// With any number of sides: from one side to another only where that one grew against it.
Test(upstream_split, clients_move_only_to_sides_that_grew) {
  const std::vector<std::vector<uint32_t>> steps = {
      {6000, 2000, 1000, 1000}, {5000, 3000, 1000, 1000}, {5000, 3000, 2000, 0},
      {0, 5000, 3000, 2000},    {2500, 2500, 2500, 2500},
  };
  Bits bits(13);
  for (size_t i = 0; i < 20'000; ++i) {
    const uint64_t point = bits.next();
    for (size_t step = 1; step < steps.size(); ++step) {
      const size_t from = split_by_point(weights(steps[step - 1]), point);
      const size_t to = split_by_point(weights(steps[step]), point);
      if (from == to) continue;
      const uint64_t grown = uint64_t{steps[step][to]} * steps[step - 1][from];
      const uint64_t was = uint64_t{steps[step - 1][to]} * steps[step][from];
      cr_assert(grown > was, "step %zu: from %zu to %zu", step, from, to);
    }
  }
}

Test(upstream_split, cookies_are_what_the_key_has_made) {
  char text[kSplitCookieSize];
  write_split_cookie(kKey, "side", 0x0123456789abcdef, text);
  const std::string value(text, sizeof text);
  cr_assert(value.starts_with("0123456789abcdef"));
  cr_assert_eq(*read_split_cookie(kKey, "side", value), 0x0123456789abcdefu);
  cr_assert(!read_split_cookie(kKey, "other", value));
  cr_assert(!read_split_cookie({kKey.low, kKey.high + 1}, "side", value));
  cr_assert(!read_split_cookie(kKey, "side", value + "0"));
  cr_assert(!read_split_cookie(kKey, "side", value.substr(1)));
  cr_assert(!read_split_cookie(kKey, "side", ""));
  for (size_t i = 0; i < value.size(); ++i) {
    for (const char other : {'0', 'f', 'F', 'x', '"'}) {
      std::string forged = value;
      if (forged[i] == other) continue;
      forged[i] = other;
      cr_assert(!read_split_cookie(kKey, "side", forged), "%s", forged.c_str());
    }
  }
}

Test(upstream_split, only_several_upstreams_are_a_split) {
  const Compiled compiled;
  cr_assert(compiled.generation->find_route("plain")->split == nullptr);
  cr_assert(compiled.generation->find_route("whole")->split == nullptr);
  cr_assert(compiled.generation->find_route("dealt")->split != nullptr);
}

Test(upstream_split, deals_each_request_anew) {
  const Compiled compiled;
  size_t fresh = 0;
  for (size_t i = 0; i < kDraws; ++i) {
    const Answer answer = ask(compiled.split("dealt"));
    cr_assert(answer.set_cookie.empty());
    fresh += answer.upstream == "users_next";
  }
  // Random by the process's own generator: five standard deviations.
  cr_assert(std::abs(static_cast<double>(fresh) - 5000) < 5 * 69, "%zu", fresh);
}

Test(upstream_split, a_sticky_client_stays_by_its_cookie) {
  const Compiled compiled;
  const UpstreamSplit& split = compiled.split("sticky");
  bool seen[2] = {};
  for (int client = 0; client < 64; ++client) {
    const Answer first = ask(split);
    cr_assert_eq(first.cookie.size(), 5 + kSplitCookieSize);
    cr_assert(first.cookie.starts_with("side="));
    cr_assert_eq(first.set_cookie, first.cookie + "; Path=/; HttpOnly; SameSite=Lax");
    cr_assert(first.set_cookie.find("users") == std::string::npos);
    seen[first.upstream == "users_next"] = true;
    for (int i = 0; i < 20; ++i) {
      const Answer next = ask(split, "a=b; " + first.cookie);
      cr_assert_eq(next.upstream, first.upstream);
      cr_assert(next.set_cookie.empty());
    }
  }
  cr_assert(seen[0] && seen[1]);
}

Test(upstream_split, a_forged_cookie_is_none) {
  const Compiled compiled;
  const UpstreamSplit& split = compiled.split("sticky");
  for (const char* value :
       {"side=users_next", "side=", "side=0", "side=00000000000000000000000000000000"}) {
    const Answer answer = ask(split, value);
    cr_assert(answer.cookie.starts_with("side=") && answer.cookie != value, "%s", value);
  }
}

Test(upstream_split, a_cookie_over_tls_is_for_tls) {
  const Compiled compiled;
  cr_assert(ask(compiled.split("sticky"), "", true).set_cookie.ends_with("; SameSite=Lax; Secure"));
}

Test(upstream_split, a_secret_is_the_same_in_another_gateway) {
  const Compiled one(1);
  const Compiled other(2);
  for (int client = 0; client < 32; ++client) {
    const Answer here = ask(one.split("sticky"));
    const Answer there = ask(other.split("sticky"), here.cookie);
    cr_assert(there.set_cookie.empty());
    cr_assert_eq(there.upstream, here.upstream);
  }
}

Test(upstream_split, conditions_come_before_shares) {
  const Compiled compiled;
  const UpstreamSplit& sticky = compiled.split("sticky");
  for (int i = 0; i < 32; ++i) {
    const Answer answer = ask(sticky, "", false, "1");
    cr_assert_eq(answer.upstream, "users_next");
    cr_assert(answer.set_cookie.empty());
  }
  const UpstreamSplit& beta = compiled.split("beta");
  cr_assert_eq(ask(beta).upstream, "users");
  cr_assert_eq(ask(beta, "beta=0").upstream, "users");
  cr_assert_eq(ask(beta, "x=y; beta=1").upstream, "users_next");
}
