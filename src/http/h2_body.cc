// See h2_body.h.
#include "http/h2_body.h"

#include <algorithm>

namespace gatehouse {

void H2Body::append(std::string_view bytes) {
  size_ += bytes.size();
  while (!bytes.empty()) {
    if (first_ == buffers_.size() || buffers_.back().room() == 0) {
      buffers_.emplace_back(BufferClass::kHead);
    }
    Buffer& last = buffers_.back();
    const size_t n = std::min(bytes.size(), last.room());
    last.append(bytes.substr(0, n));
    bytes.remove_prefix(n);
  }
}

std::string_view H2Body::front() const {
  return first_ == buffers_.size() ? std::string_view() : buffers_[first_].view();
}

void H2Body::consume(size_t n) {
  if (n == 0) return;
  buffers_[first_].consume(n);
  size_ -= n;
  if (!buffers_[first_].empty()) return;
  buffers_[first_++].release();
  if (first_ == buffers_.size()) {
    buffers_.clear();
    first_ = 0;
  }
}

void H2Body::clear() {
  buffers_.clear();
  first_ = size_ = 0;
}

}  // namespace gatehouse
