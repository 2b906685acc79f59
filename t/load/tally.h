// What a load client counts in one window of time: answers, latencies, failures with examples.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace gatehouse::load {

// Latencies in buckets of under 1 % width: 128 to each power of two, in units of 64 ns.
class Histogram {
 public:
  void add(uint64_t ns) {
    ++counts_[index(ns >> 6)];
    ++total_;
    max_ns_ = std::max(max_ns_, ns);
  }
  void add(const Histogram& other) {
    for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
    total_ += other.total_;
    max_ns_ = std::max(max_ns_, other.max_ns_);
  }
  std::string json() const {
    std::array<char, 160> text{};
    std::snprintf(text.data(), text.size(),
                  R"({"count":%llu,"p50_us":%.1f,"p99_us":%.1f,"p999_us":%.1f,"max_us":%.1f})",
                  static_cast<unsigned long long>(total_), quantile_us(0.5), quantile_us(0.99),
                  quantile_us(0.999), static_cast<double>(max_ns_) / 1000.0);
    return text.data();
  }

 private:
  double quantile_us(double q) const {
    const auto wanted = static_cast<uint64_t>(q * static_cast<double>(total_));
    uint64_t seen = 0;
    for (size_t i = 0; i < counts_.size(); ++i) {
      seen += counts_[i];
      if (seen > wanted) return static_cast<double>(value(i) << 6) / 1000.0;
    }
    return 0;
  }
  static size_t index(uint64_t v) {
    if (v < 128) return static_cast<size_t>(v);
    const auto shift = static_cast<size_t>(std::bit_width(v) - 8);
    return std::min((shift << 7) + static_cast<size_t>(v >> shift), size_t{4095});
  }
  static uint64_t value(size_t i) {
    if (i < 256) return i;
    const size_t shift = (i >> 7) - 1;
    return static_cast<uint64_t>((i & 127) + 128) << shift;
  }
  std::array<uint64_t, 4096> counts_{};
  uint64_t total_ = 0;
  uint64_t max_ns_ = 0;
};

inline std::string json_text(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (c < ' ' || c > '~') {
      std::array<char, 8> escape{};
      std::snprintf(escape.data(), escape.size(), "\\u%04x", static_cast<unsigned char>(c));
      quoted += escape.data();
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

class Tally {
 public:
  static constexpr size_t kExamples = 3;       // of each kind
  static constexpr size_t kFailures = 50'000;  // told one by one

  uint64_t sent = 0;      // requests of which at least one byte was written
  uint64_t answered = 0;  // complete answers, whatever they said
  uint64_t ok = 0;        // those that were right and in time
  uint64_t closes = 0;    // kept-alive connections that the server ended between two requests
  uint64_t connects = 0;
  uint64_t skipped = 0;     // requests that were due and never sent: this program was too slow
  uint64_t websockets = 0;  // handshakes that succeeded
  Histogram http;
  Histogram echoes;

  // `at_ns`: of the monotonic clock. `local`: the address that the failed connection came from.
  void fail(const std::string& kind, uint64_t at_ns, const std::string& local,
            std::string_view text) {
    Failures& failures = failures_[kind];
    ++failures.count;
    if (failures.examples.size() < kExamples) failures.examples.emplace_back(text);
    if (list_.size() < kFailures) list_.push_back({kind, at_ns, local});
  }

  void add(const Tally& other) {
    sent += other.sent;
    answered += other.answered;
    ok += other.ok;
    closes += other.closes;
    connects += other.connects;
    skipped += other.skipped;
    websockets += other.websockets;
    http.add(other.http);
    echoes.add(other.echoes);
    for (const auto& [kind, failures] : other.failures_) {
      Failures& mine = failures_[kind];
      mine.count += failures.count;
      for (const std::string& text : failures.examples) {
        if (mine.examples.size() < kExamples) mine.examples.push_back(text);
      }
    }
    for (const Failure& failure : other.list_) {
      if (list_.size() < kFailures) list_.push_back(failure);
    }
  }

  // One line. `open`: WebSockets that are open now.
  void print(const std::string& name, double seconds, size_t open) const {
    std::string counts;
    std::string examples;
    for (const auto& [kind, failures] : failures_) {
      if (!counts.empty()) counts += ',';
      counts += json_text(kind) + ":" + std::to_string(failures.count);
      if (!examples.empty()) examples += ',';
      examples += json_text(kind) + ":[";
      for (size_t i = 0; i < failures.examples.size(); ++i) {
        examples += (i == 0 ? "" : ",") + json_text(failures.examples[i]);
      }
      examples += ']';
    }
    std::string list;
    for (const Failure& failure : list_) {
      if (!list.empty()) list += ',';
      list += "[" + json_text(failure.kind) + "," + std::to_string(failure.at_ns / 1000) + "," +
              json_text(failure.local) + "]";
    }
    std::printf(
        "{\"window\":%s,\"seconds\":%.3f,\"sent\":%llu,\"answered\":%llu,\"ok\":%llu,"
        "\"closes\":%llu,\"connects\":%llu,\"skipped\":%llu,\"http\":%s,"
        "\"websockets\":{\"open\":%zu,\"opened\":%llu,\"echoes\":%s},"
        "\"failures\":{%s},\"examples\":{%s},\"failed\":[%s]}\n",
        json_text(name).c_str(), seconds, number(sent), number(answered), number(ok),
        number(closes), number(connects), number(skipped), http.json().c_str(), open,
        number(websockets), echoes.json().c_str(), counts.c_str(), examples.c_str(), list.c_str());
    std::fflush(stdout);
  }

 private:
  struct Failures {
    uint64_t count = 0;
    std::vector<std::string> examples;
  };
  struct Failure {
    std::string kind;
    uint64_t at_ns;
    std::string local;
  };
  static unsigned long long number(uint64_t value) { return value; }

  std::map<std::string, Failures> failures_;
  std::vector<Failure> list_;
};

}  // namespace gatehouse::load
