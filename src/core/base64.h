// Base64 as MIME has it (RFC 4648 §4), in pieces.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace gatehouse {

// Appends the text for `bytes`, padded.
void append_base64(std::string_view bytes, std::string& out);

// Decodes text that comes in pieces cut anywhere. Padding may stand in the middle, as where several
// padded texts follow each other. White space and everything else is refused, and so are bits that
// padding leaves over and that are not zero.
class Base64Decoder {
 public:
  // Appends what `text` completes to `out`. False where it is malformed, from then on.
  bool decode(std::string_view text, std::string& out);
  // True where the text may end here.
  bool at_end() const { return !failed_ && count_ == 0; }

 private:
  uint32_t bits_ = 0;
  uint8_t count_ = 0;    // characters of the present group of four
  uint8_t padding_ = 0;  // of them '='
  bool failed_ = false;
};

}  // namespace gatehouse
