// Serialising heads; see h1_writer.h.
#include "http/h1_writer.h"

#include <cassert>
#include <charconv>
#include <cstring>

#include "http/chunked.h"

namespace gatehouse {

namespace {

// Line ends, ": ", status lines, framing fields: more than all of them take together.
constexpr size_t kFixedRoom = 512;

size_t lines_size(const FieldList& fields) {
  size_t size = 0;
  for (const Field& field : fields) {
    if (!field.dropped) size += field.name.size() + field.value.size() + 4;
  }
  return size;
}

// Appends without asking for room: the buffer was borrowed for the computed size.
class Pen {
 public:
  explicit Pen(Buffer& buffer)
      : buffer_(buffer), at_(buffer.tail()), limit_(buffer.tail() + buffer.room()) {}
  ~Pen() { buffer_.commit(static_cast<size_t>(at_ - buffer_.tail())); }
  Pen(const Pen&) = delete;
  Pen& operator=(const Pen&) = delete;

  [[gnu::always_inline]] void put(std::string_view text) {
    need(text.size());
    copy(text);
  }
  void put(char c) { *at_++ = c; }
  void put_number(uint64_t number) { at_ = std::to_chars(at_, at_ + 20, number).ptr; }
  void put_line(std::string_view name, std::string_view value) {
    need(name.size() + value.size() + 4);
    copy(name);
    copy(std::string_view(": "));
    copy(value);
    copy(std::string_view("\r\n"));
  }
  void put_lines(const FieldList& fields) {
    const Field* const last = fields.end();
    for (const Field* field = fields.begin(); field != last;) {
      if (field->dropped) {
        ++field;
      } else if (!field->stands_as_written()) {
        put_line(field->name, field->value);
        ++field;
      } else {
        // Lines that came one behind the other go out as one piece.
        const char* const from = field->name.data();
        const char* to = from;
        do {
          to = field->value.data() + field->value.size() + 2;
          ++field;
        } while (field != last && !field->dropped && field->name.data() == to &&
                 field->stands_as_written());
        put({from, static_cast<size_t>(to - from)});
      }
    }
  }

 private:
  void need(size_t size) const { assert(size <= static_cast<size_t>(limit_ - at_)); }

  // Names and values are short: copied by two overlapping words, without a call.
  [[gnu::always_inline]] void copy(std::string_view text) {
    const size_t n = text.size();
    const char* from = text.data();
    if (n > 32) {
      std::memcpy(at_, from, n);
    } else if (n >= 16) {
      copy_ends<16>(from, n);
    } else if (n >= 8) {
      copy_ends<8>(from, n);
    } else if (n >= 4) {
      copy_ends<4>(from, n);
    } else if (n >= 2) {
      copy_ends<2>(from, n);
    } else if (n == 1) {
      *at_ = *from;
    }
    at_ += n;
  }
  // REQUIRES: N <= n <= 2 * N.
  template <size_t N>
  [[gnu::always_inline]] void copy_ends(const char* from, size_t n) {
    std::memcpy(at_, from, N);
    std::memcpy(at_ + n - N, from + n - N, N);
  }

  Buffer& buffer_;
  char* at_;
  const char* limit_;
};

Buffer borrow_for(size_t size) {
  for (unsigned i = 0; i + 1 < kBufferClasses; ++i) {
    if (size <= kBufferSizes[i]) return Buffer(static_cast<BufferClass>(i));
  }
  return Buffer(static_cast<BufferClass>(kBufferClasses - 1));
}

}  // namespace

ClientFraming client_framing(const Exchange& exchange) {
  const Response& response = exchange.response;
  if (response.body.kind == BodyLength::Kind::kTunnel) return ClientFraming::kTunnel;
  if (response.status < 200 || response.status == 204 || response.status == 304) {
    return ClientFraming::kNone;
  }
  const bool chunked_known = exchange.request.head.minor_version >= 1;
  switch (response.body.kind) {
    case BodyLength::Kind::kLength:
      return ClientFraming::kLength;
    case BodyLength::Kind::kChunked:
    case BodyLength::Kind::kUntilClose:
      return chunked_known ? ClientFraming::kChunked : ClientFraming::kUntilClose;
    case BodyLength::Kind::kNone:
    case BodyLength::Kind::kTunnel:
      break;
  }
  return ClientFraming::kNone;
}

std::string_view status_phrase(uint16_t status) {
  switch (status) {
    case 100:
      return "Continue";
    case 101:
      return "Switching Protocols";
    case 102:
      return "Processing";
    case 103:
      return "Early Hints";
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 203:
      return "Non-Authoritative Information";
    case 204:
      return "No Content";
    case 205:
      return "Reset Content";
    case 206:
      return "Partial Content";
    case 207:
      return "Multi-Status";
    case 208:
      return "Already Reported";
    case 300:
      return "Multiple Choices";
    case 301:
      return "Moved Permanently";
    case 302:
      return "Found";
    case 303:
      return "See Other";
    case 304:
      return "Not Modified";
    case 307:
      return "Temporary Redirect";
    case 308:
      return "Permanent Redirect";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 402:
      return "Payment Required";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 406:
      return "Not Acceptable";
    case 407:
      return "Proxy Authentication Required";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 410:
      return "Gone";
    case 411:
      return "Length Required";
    case 412:
      return "Precondition Failed";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 416:
      return "Range Not Satisfiable";
    case 417:
      return "Expectation Failed";
    case 421:
      return "Misdirected Request";
    case 422:
      return "Unprocessable Content";
    case 423:
      return "Locked";
    case 424:
      return "Failed Dependency";
    case 425:
      return "Too Early";
    case 426:
      return "Upgrade Required";
    case 428:
      return "Precondition Required";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 451:
      return "Unavailable For Legal Reasons";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    case 507:
      return "Insufficient Storage";
    case 511:
      return "Network Authentication Required";
    default:
      return {};
  }
}

Buffer write_response_head(const Exchange& exchange, const ResponseHeadOptions& options,
                           size_t extra) {
  const Response& response = exchange.response;
  const size_t size = kFixedRoom + response.phrase.size() + lines_size(response.fields) +
                      lines_size(response.added);
  Buffer buffer = borrow_for(size + extra);
  Pen pen(buffer);
  if (response.status == 200) [[likely]] {
    pen.put(std::string_view("HTTP/1.1 200 OK\r\n"));
  } else {
    pen.put(std::string_view("HTTP/1.1 "));
    pen.put_number(response.status);
    pen.put(' ');
    const std::string_view standard = status_phrase(response.status);
    pen.put(standard.empty() ? response.phrase : standard);
    pen.put(std::string_view("\r\n"));
  }
  pen.put_lines(response.fields);
  pen.put_lines(response.added);
  if (!response.fields.has(FieldId::kDate) && !options.date.empty()) {
    pen.put_line("Date", options.date);
  }
  switch (options.framing) {
    case ClientFraming::kLength:
      pen.put(std::string_view("Content-Length: "));
      pen.put_number(response.body.length);
      pen.put(std::string_view("\r\n"));
      break;
    case ClientFraming::kChunked:
      pen.put(std::string_view("Transfer-Encoding: chunked\r\n"));
      break;
    case ClientFraming::kTunnel:
      pen.put_line("Connection", "upgrade");
      pen.put_line("Upgrade", exchange.request.facts.upgrade);
      break;
    case ClientFraming::kNone:
    case ClientFraming::kUntilClose:
      break;
  }
  if (options.framing != ClientFraming::kTunnel) {
    if (options.close) {
      pen.put(std::string_view("Connection: close\r\n"));
    } else if (exchange.request.head.minor_version == 0) {
      pen.put(std::string_view("Connection: keep-alive\r\n"));
    }
  }
  pen.put(std::string_view("\r\n"));
  return buffer;
}

Buffer write_interim_head(uint16_t status, const FieldList& fields) {
  Buffer buffer = borrow_for(kFixedRoom + lines_size(fields));
  Pen pen(buffer);
  pen.put(std::string_view("HTTP/1.1 "));
  pen.put_number(status);
  pen.put(' ');
  pen.put(status_phrase(status));
  pen.put(std::string_view("\r\n"));
  pen.put_lines(fields);
  pen.put(std::string_view("\r\n"));
  return buffer;
}

Buffer write_request_head(const Exchange& exchange, std::string_view host) {
  const Request& request = exchange.request;
  const RequestFacts& facts = request.facts;
  const size_t size = kFixedRoom + request.head.method.size() + request.target.wire.size() +
                      host.size() + facts.upgrade.size() + lines_size(request.fields) +
                      lines_size(request.added);
  Buffer buffer = borrow_for(size);
  Pen pen(buffer);
  pen.put(request.head.method);
  pen.put(' ');
  pen.put(request.target.wire);
  pen.put(std::string_view(" HTTP/1.1\r\nHost: "));
  pen.put(host);
  pen.put(std::string_view("\r\n"));
  pen.put_lines(request.fields);
  pen.put_lines(request.added);
  if (facts.body.kind == BodyLength::Kind::kLength) {
    pen.put(std::string_view("Content-Length: "));
    pen.put_number(facts.body.length);
    pen.put(std::string_view("\r\n"));
  } else if (facts.body.kind == BodyLength::Kind::kChunked) {
    pen.put(std::string_view("Transfer-Encoding: chunked\r\n"));
  }
  if (!facts.upgrade.empty()) {
    pen.put_line("Connection", "upgrade");
    pen.put_line("Upgrade", facts.upgrade);
  } else if (facts.te_trailers) {
    pen.put(std::string_view("TE: trailers\r\nConnection: TE\r\n"));
  }
  pen.put(std::string_view("\r\n"));
  return buffer;
}

Buffer write_last_chunk(const FieldList& trailers) {
  Buffer buffer = borrow_for(kFixedRoom + lines_size(trailers));
  Pen pen(buffer);
  pen.put(kLastChunkHeader);
  pen.put_lines(trailers);
  pen.put(std::string_view("\r\n"));
  return buffer;
}

}  // namespace gatehouse
