// Which ends of a try count as failures: for breakers, retries and passive ejection.
//
//   connect timeout reset bad_response 5xx 429
//
// Words for what happens on the way, and statuses of answers, alone or by class (`5xx`).
#pragma once

#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.h"

namespace gatehouse {

// How a try can fail other than by its status; bits of FailureSet::ways.
enum class FailureWay : uint8_t {
  kConnect = 1,      // no connection was made, refused or not in time
  kTimeout = 2,      // the answer did not begin in time
  kReset = 4,        // the connection broke before the answer had begun, or in its middle
  kBadResponse = 8,  // what came is no answer
};

class FailureSet {
 public:
  static constexpr unsigned kFirstStatus = 400;
  static constexpr unsigned kLastStatus = 599;

  constexpr FailureSet() = default;
  // connect, timeout, reset, bad_response and 5xx.
  static FailureSet usual();

  bool has(FailureWay way) const { return (ways_ & static_cast<uint8_t>(way)) != 0; }
  bool has_status(unsigned status) const {
    return status >= kFirstStatus && status <= kLastStatus && statuses_[status - kFirstStatus];
  }
  bool any_status() const { return statuses_.any(); }
  bool empty() const { return ways_ == 0 && statuses_.none(); }
  void add(FailureWay way) { ways_ |= static_cast<uint8_t>(way); }
  // REQUIRES: from 400 to 599.
  void add_status(unsigned status) { statuses_.set(status - kFirstStatus); }

  // Adds what one word means. False where it means nothing here: `why` is set where it looks like
  // a status all the same.
  bool add_word(std::string_view word, std::string& why);
  // The words, in the order of their declaration above, whole classes as one.
  std::string format() const;
  // The words that add_word() knows, without the statuses.
  static constexpr std::string_view kWords[] = {"connect", "timeout", "reset", "bad_response"};

  friend bool operator==(const FailureSet&, const FailureSet&) = default;

 private:
  uint8_t ways_ = 0;
  std::bitset<kLastStatus - kFirstStatus + 1> statuses_;
};

}  // namespace gatehouse
