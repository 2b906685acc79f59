// Packing values into bytes that travel between processes of this machine in a sealed memfd.
//
// Numbers are 64-bit words of the machine's order, a text has its length before it. The Unpacker
// believes nothing: after the first failure everything it gives is empty or zero and ok() is false.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace gatehouse {

class Packer {
 public:
  explicit Packer(std::string_view magic) : out_(magic) {}

  void put(uint64_t number) { out_.append(reinterpret_cast<const char*>(&number), sizeof(number)); }
  void put(std::string_view text) {
    put(uint64_t{text.size()});
    out_ += text;
  }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

class Unpacker {
 public:
  // Fails at once where `bytes` do not begin with `magic`.
  Unpacker(std::string_view bytes, std::string_view magic) : rest_(bytes) {
    if (bytes.starts_with(magic)) {
      rest_.remove_prefix(magic.size());
    } else {
      fail();
    }
  }

  bool ok() const { return ok_; }
  bool at_end() const { return ok_ && rest_.empty(); }
  // How many bytes are left: no honest count of items is larger.
  size_t left() const { return rest_.size(); }

  uint64_t number(uint64_t max) {
    uint64_t number = 0;
    if (rest_.size() < sizeof(number)) return fail();
    std::memcpy(&number, rest_.data(), sizeof(number));
    rest_.remove_prefix(sizeof(number));
    return number <= max ? number : fail();
  }
  std::string text() {
    const uint64_t size = number(rest_.size());
    if (!ok_ || size > rest_.size()) {
      fail();
      return {};
    }
    std::string text(rest_.substr(0, size));
    rest_.remove_prefix(size);
    return text;
  }

 private:
  uint64_t fail() {
    ok_ = false;
    rest_ = {};
    return 0;
  }

  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace gatehouse
