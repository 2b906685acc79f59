// The bytes of an HTTP/2 request body that have arrived and are not read yet.
//
// A queue of borrowed buffers, as long as the stream's window lets it become. What is handed out
// stays where it is until it is consumed.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "core/buffer.h"

namespace gatehouse {

class H2Body {
 public:
  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }

  void append(std::string_view bytes);
  // The bytes at the front that lie in one piece; empty where there are none.
  std::string_view front() const;
  // REQUIRES: `n` is no more than front() was.
  void consume(size_t n);
  // Forgets everything and gives all memory back but the list's.
  void clear();

 private:
  std::vector<Buffer> buffers_;
  size_t first_ = 0;
  size_t size_ = 0;
};

}  // namespace gatehouse
