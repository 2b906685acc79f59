// Compress: responses in gzip, brotli or zstd, for clients that ask for it.
//
//   [route app]
//   compress       = zstd brotli gzip
//   compress_types = text/* application/json application/*+json
//   compress_min   = 1k
//   compress_level = gzip 1 brotli 2 zstd 1
//
// A response is compressed where its type is listed, its size, if known, is at least compress_min,
// and the client's Accept-Encoding takes one of the codings: the one it weighs highest, of equal
// ones the first of the route's list. Left as they are: answers to HEAD, 204, 205, 206, 304, what
// has a Content-Encoding or a digest already, and what says no-transform. Vary: Accept-Encoding
// stands in every response that another client would have got otherwise, and in those to HEAD, 206
// and 304 of such. A strong ETag becomes a weak one, since the bytes are others (RFC 9110
// §8.8.3.3); Content-Length is that of the compressed body where the body was whole, and else gone.
//
// A body of unknown length (chunked, SSE) is flushed with every piece that arrives, so that nothing
// waits in the encoder. One of known length is not: it is whole soon, and smaller for it.
//
// Encoders are borrowed from the worker (core/encoder.h), which bounds their memory; where that is
// lent, and where a whole body would not get smaller, the response goes out as it is.
//
// Nothing is shared between workers. Compressing secrets next to what a client can choose tells
// their lengths (BREACH): leave such routes out. Leaves out: requests' bodies, and files that lie
// there compressed.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/buffer.h"
#include "core/encoder.h"
#include "core/format.h"
#include "core/log.h"
#include "http/accept_encoding.h"
#include "http/client_filter.h"
#include "http/module.h"
#include "modules/registry.h"

namespace gatehouse {

namespace {

enum class CompressWord : uint8_t { kOff, kGzip, kBrotli, kZstd };

// "text/html", "text/*", "application/*+json" or "*".
struct MediaPattern {
  std::string text;
};

struct CompressLevels {
  int level[kCodings] = {1, 2, 1};
};

}  // namespace

constexpr EnumName<CompressWord> kCompressWordNames[] = {
    {CompressWord::kOff, "off"},
    {CompressWord::kGzip, "gzip"},
    {CompressWord::kBrotli, "brotli"},
    {CompressWord::kZstd, "zstd"},
};
template <>
struct ValueType<CompressWord> : EnumValueType<CompressWord, kCompressWordNames> {};

template <>
struct ValueType<MediaPattern> {
  static Result<MediaPattern> parse(std::string_view text) {
    const size_t slash = text.find('/');
    const size_t star = text.find('*');
    const std::string_view tail =
        star == text.npos ? std::string_view() : text.substr(std::min(star + 1, text.size()));
    const bool type_or_all =
        text == "*" || (slash != text.npos && slash > 0 && slash + 1 < text.size() &&
                        text.find('/', slash + 1) == text.npos);
    const bool star_fits =
        star == text.npos || text == "*" ||
        (star == slash + 1 && (tail.empty() || tail.front() == '+') && tail.find('*') == tail.npos);
    const bool plain = text.find_first_of(";,\" \t") == text.npos;
    if (!type_or_all || !star_fits || !plain) return Error{"not a media type"};
    return MediaPattern{std::string(text)};
  }
  static std::string format(const MediaPattern& pattern) { return pattern.text; }
  static std::string expected() {
    return "media types such as application/json, text/*, application/*+json or *";
  }
  static constexpr bool kWord = true;
};

template <>
struct ValueType<CompressLevels> {
  static constexpr std::string_view kNames[kCodings] = {"gzip", "brotli", "zstd"};

  static Result<CompressLevels> parse(std::string_view text) {
    CompressLevels levels;
    if (text.empty()) return Error{"a level is missing"};
    while (!text.empty()) {
      const std::string_view name = take_word(text);
      const auto* const at = std::find(std::begin(kNames), std::end(kNames), name);
      if (at == std::end(kNames)) {
        return unknown_word(name, {std::begin(kNames), std::end(kNames)});
      }
      const auto coding = static_cast<size_t>(at - std::begin(kNames));
      const LevelRange range = kEncoderLevels[coding];
      const Result<int64_t> level = parse_signed(take_word(text), range.low, range.high);
      if (!level) {
        return Error{
            fmt::format("a level of {} is a number from {} to {}", name, range.low, range.high)};
      }
      levels.level[coding] = static_cast<int>(*level);
    }
    return levels;
  }
  static std::string format(const CompressLevels& levels) {
    return fmt::format("gzip {} brotli {} zstd {}", levels.level[0], levels.level[1],
                       levels.level[2]);
  }
  static std::string expected() {
    return "pairs of a coding and a level, of gzip (1 to 9), brotli (0 to 6), zstd (1 to 9): "
           "gzip 6 brotli 4";
  }
};

namespace {

struct CompressConf {
  std::vector<CompressWord> compress;
  std::vector<MediaPattern> types = {{"text/*"},
                                     {"application/json"},
                                     {"application/*+json"},
                                     {"application/javascript"},
                                     {"application/xml"},
                                     {"application/*+xml"},
                                     {"application/wasm"},
                                     {"image/svg+xml"},
                                     {"image/bmp"},
                                     {"font/ttf"},
                                     {"font/otf"}};
  Bytes min = 1_KiB;
  CompressLevels level;
};

struct CompressState final : ModuleState {
  std::vector<Coding> codings;
  std::vector<MediaPattern> types;
  uint64_t min = 0;
  CompressLevels level;
  std::string detail;
};

// ---- What may be compressed ---------------------------------------------------------------------

bool matches(std::string_view pattern, std::string_view type) {
  const size_t star = pattern.find('*');
  if (star == pattern.npos) return equal_ignoring_case(pattern, type);
  const std::string_view head = pattern.substr(0, star);
  const std::string_view tail = pattern.substr(star + 1);
  return type.size() > head.size() + tail.size() &&
         equal_ignoring_case(type.substr(0, head.size()), head) &&
         equal_ignoring_case(type.substr(type.size() - tail.size()), tail);
}

bool is_listed(const CompressState& state, std::string_view content_type) {
  std::string_view type = content_type.substr(0, content_type.find(';'));
  while (type.ends_with(' ') || type.ends_with('\t')) type.remove_suffix(1);
  return std::any_of(state.types.begin(), state.types.end(),
                     [type](const MediaPattern& pattern) { return matches(pattern.text, type); });
}

// The field as it will be sent; null where it is not.
const Field* sent_field(const Response& response, FieldId id) {
  for (const FieldList* list : {&response.added, &response.fields}) {
    if (!list->has(id)) continue;
    for (const Field& field : *list) {
      if (field.id == id && !field.dropped) return &field;
    }
  }
  return nullptr;
}

// True where the comma-separated list holds the word, whatever its case.
bool list_has(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    std::string_view item = list.substr(0, comma);
    list.remove_prefix(std::min(comma + 1, list.size()));
    while (item.starts_with(' ') || item.starts_with('\t')) item.remove_prefix(1);
    while (item.ends_with(' ') || item.ends_with('\t')) item.remove_suffix(1);
    if (equal_ignoring_case(item, word)) return true;
  }
  return false;
}

bool any_list_has(const Response& response, FieldId id, std::string_view word) {
  for (const FieldList* list : {&response.fields, &response.added}) {
    if (!list->has(id)) continue;
    for (const Field& field : *list) {
      if (field.id == id && !field.dropped && list_has(field.value, word)) return true;
    }
  }
  return false;
}

bool has_digest(const FieldList& fields) {
  for (const std::string_view name : {"Content-Digest", "Repr-Digest", "Digest", "Content-MD5"}) {
    const Field* field = fields.find(name);
    if (field != nullptr && !field->dropped) return true;
  }
  return false;
}

// Whether the response's kind is one that is compressed; Content-Encoding is asked about apart.
bool is_compressible(const CompressState& state, const Response& response) {
  if (response.status < 200 || response.status == 204 || response.status == 205) return false;
  if (response.body.kind == BodyLength::Kind::kTunnel) return false;
  const Field* type = sent_field(response, FieldId::kContentType);
  // A 304 need not tell the type of what it stands for.
  if (type == nullptr ? response.status != 304 : !is_listed(state, type->value)) return false;
  return !any_list_has(response, FieldId::kCacheControl, "no-transform") &&
         !has_digest(response.fields);
}

// A body of unknown size counts as large.
bool is_large_enough(const CompressState& state, const Response& response) {
  if (response.body.kind == BodyLength::Kind::kLength) {
    return response.body.length >= state.min && response.body.length > 0;
  }
  return response.body.kind != BodyLength::Kind::kNone;
}

// ---- Compressing --------------------------------------------------------------------------------

constexpr size_t kWholeMax = kBufferSizes[static_cast<unsigned>(BufferClass::kHuge)];

BufferClass class_for(size_t size) {
  for (const BufferClass one : {BufferClass::kHead, BufferClass::kBulk}) {
    // A few bytes of each block are the allocator's.
    if (size + 64 <= kBufferSizes[static_cast<unsigned>(one)]) return one;
  }
  return BufferClass::kHuge;
}

// The client's side with an encoder in front. Decides when the head is sent.
class CompressingClient final : public ClientFilter {
 public:
  CompressingClient(Exchange& exchange, const CompressState& state, Coding coding)
      : ClientFilter(exchange), state_(state), coding_(coding) {}

  Task<bool> send_head(std::string_view first, bool last) override {
    if (!wanted(first, last)) return next_.send_head(first, last);
    return last && first.size() <= kWholeMax ? send_whole(first) : begin(first, last);
  }
  Task<bool> send_body(std::string_view bytes) override {
    if (!encoder_) return next_.send_body(bytes);
    return encode(bytes, flush_);
  }
  Task<bool> send_end(const FieldList* trailers) override {
    if (!encoder_) return next_.send_end(trailers);
    return finish(trailers);
  }

 private:
  bool wanted(std::string_view first, bool last) {
    Response& response = exchange_.response;
    if (exchange_.request.head.method_id == Method::kHead) return false;
    if (response.status == 206 || response.status == 304 || response.status == 226) return false;
    if (sent_field(response, FieldId::kContentEncoding) != nullptr) return false;
    if (!is_compressible(state_, response)) return false;
    uint64_t size = 0;
    if (last) {
      size = first.size();
      if (size < state_.min || size == 0) return false;
    } else if (response.body.kind == BodyLength::Kind::kLength) {
      size = response.body.length;
      if (!is_large_enough(state_, response)) return false;
    }
    flush_ = size == 0 ? Encoder::Flush::kPiece : Encoder::Flush::kNone;
    const int level = state_.level.level[static_cast<unsigned>(coding_)];
    encoder_ = borrow_encoder(coding_, level, size);
    return encoder_ != nullptr;
  }

  // The fields of the response, as they fit its new form.
  void change_fields() {
    Response& response = exchange_.response;
    response.fields.drop(FieldId::kContentEncoding);
    response.fields.drop(FieldId::kContentLength);
    for (FieldList* list : {&response.fields, &response.added}) {
      for (Field& field : *list) {
        if (field.id == FieldId::kEtag && !field.dropped && field.value.starts_with('"')) {
          field.value = exchange_.arena.concat("W/", field.value);
          field.verbatim = false;
        }
        // Ranges are of the plain form, of which the client has nothing.
        if (equal_ignoring_case(field.name, "Accept-Ranges")) field.dropped = true;
      }
    }
    exchange_.add_response_field("Content-Encoding", kCodingNames[static_cast<unsigned>(coding_)]);
  }

  // A body that is here as a whole stays one: its length is told.
  Task<bool> send_whole(std::string_view body) {
    Buffer out(class_for(body.size()));
    // More than the body has would be of no use.
    const std::span<char> room(out.tail(), std::min(out.room(), body.size() - 1));
    size_t consumed = 0;
    Encoder::Step step;
    do {
      const std::span<char> rest = room.subspan(out.size());
      if (rest.empty()) break;
      step = encoder_->encode(body.substr(consumed), Encoder::Flush::kEnd, rest);
      consumed += step.consumed;
      out.commit(step.written);
    } while (!step.done && !step.failed);
    encoder_.reset();
    if (!step.done) {
      const bool there = co_await next_.send_head(body, true);
      co_return there;
    }
    change_fields();
    exchange_.response.body = {BodyLength::Kind::kLength, out.size()};
    const bool there = co_await next_.send_head(out.view(), true);
    co_return there;
  }

  Task<bool> begin(std::string_view first, bool last) {
    change_fields();
    exchange_.response.body = {BodyLength::Kind::kChunked, 0};
    head_sent_ = false;
    if (!first.empty() || !last) {
      const bool there = co_await encode(first, flush_);
      if (!there) co_return false;
    }
    if (!last) co_return true;
    const bool there = co_await finish(nullptr);
    co_return there;
  }

  // Sends what is put out, behind the head where that has not gone out yet.
  Task<bool> encode(std::string_view bytes, Encoder::Flush flush) {
    if (bytes.empty() && flush != Encoder::Flush::kEnd && head_sent_) co_return true;
    Buffer out(BufferClass::kHead);
    Encoder::Step step;
    // No bytes have come yet: only the head goes out.
    if (bytes.empty() && flush != Encoder::Flush::kEnd) step.done = true;
    do {
      if (!step.done) {
        step = encoder_->encode(bytes, flush, {out.tail(), out.room()});
        if (step.failed) {
          GH_LOG(kError, "compress: {} failed (request {})",
                 kCodingNames[static_cast<unsigned>(coding_)], exchange_.request_id);
          next_.abort();
          co_return false;
        }
        bytes.remove_prefix(step.consumed);
        out.commit(step.written);
      }
      if (!head_sent_) {
        head_sent_ = true;
        const bool there = co_await next_.send_head(out.view(), false);
        if (!there) co_return false;
      } else if (!out.empty()) {
        const bool there = co_await next_.send_body(out.view());
        if (!there) co_return false;
      }
      out.clear();
    } while (!step.done);
    co_return true;
  }

  Task<bool> finish(const FieldList* trailers) {
    const bool encoded = co_await encode({}, Encoder::Flush::kEnd);
    if (!encoded) co_return false;
    encoder_.reset();
    const bool there = co_await next_.send_end(trailers);
    co_return there;
  }

  const CompressState& state_;
  Coding coding_;
  Encoder::Flush flush_ = Encoder::Flush::kNone;
  bool head_sent_ = false;
  BorrowedEncoder encoder_;
};

// ---- Hooks --------------------------------------------------------------------------------------

Verdict choose(Exchange& exchange, const void* state) {
  const auto& self = *static_cast<const CompressState*>(state);
  const std::optional<Coding> coding = choose_coding(exchange.request.fields, self.codings);
  if (coding) add_client_filter<CompressingClient>(exchange, self, *coding);
  return Verdict::kContinue;
}

Verdict add_vary(Exchange& exchange, const void* state) {
  const auto& self = *static_cast<const CompressState*>(state);
  Response& response = exchange.response;
  // The coding that this module gave stands in `added`.
  const bool ours = response.added.has(FieldId::kContentEncoding);
  const Field* theirs = response.fields.find(FieldId::kContentEncoding);
  if (!ours && theirs != nullptr && !theirs->dropped) return Verdict::kContinue;
  // Of these nobody knows here how large the whole is.
  const bool partial = response.status == 206 || response.status == 304 ||
                       exchange.request.head.method_id == Method::kHead;
  if (!ours &&
      (!is_compressible(self, response) || (!partial && !is_large_enough(self, response)))) {
    return Verdict::kContinue;
  }
  if (any_list_has(response, FieldId::kVary, "*") ||
      any_list_has(response, FieldId::kVary, "Accept-Encoding")) {
    return Verdict::kContinue;
  }
  static constexpr Field kVary = literal_field(FieldId::kVary, "Vary: Accept-Encoding\r\n");
  response.added.push(kVary);
  return Verdict::kContinue;
}

// ---- Configuration ------------------------------------------------------------------------------

void check(const CompressConf& conf, SectionErrors& errors) {
  for (size_t i = 0; i < conf.compress.size(); ++i) {
    const auto before = conf.compress.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::find(conf.compress.begin(), before, conf.compress[i]) != before) {
      errors.add("compress", "given twice", {}, i);
    } else if (conf.compress[i] == CompressWord::kOff && conf.compress.size() > 1) {
      errors.add("compress", "off stands beside another word", "expected: off alone, or codings",
                 i);
    }
  }
}

constexpr Directive kDirectives[] = {
    directive<&CompressConf::compress>(
        "compress",
        "Codings in which responses are sent to clients that accept them; of those that a client "
        "likes as much the first is taken. Not for routes whose responses hold a secret beside "
        "text that a client can choose (BREACH).",
        "zstd brotli gzip"),
    directive<&CompressConf::types>(
        "compress_types",
        "Media types that are compressed. By default text, JSON, XML, JavaScript, WebAssembly, SVG "
        "and plain fonts.",
        "text/* application/json application/*+json"),
    directive<&CompressConf::min>(
        "compress_min", "Responses whose size is known and smaller than this are left as they are.",
        "1k", range(Bytes{0}, Bytes{uint64_t{1} << 30})),
    directive<&CompressConf::level>(
        "compress_level",
        "How hard each coding tries; higher levels take more processor time, in which the worker "
        "does nothing else.",
        "gzip 4 brotli 3 zstd 2"),
};

constexpr DirectiveTable kTable = directive_table<CompressConf, &check>("route", kDirectives);
constexpr const DirectiveTable* kTables[] = {&kTable};

Result<void> compile(RouteBuilder& builder) {
  const CompressConf& conf = builder.section().get<CompressConf>(kTable);
  if (builder.is_fallback() || conf.compress.empty() ||
      conf.compress.front() == CompressWord::kOff) {
    return {};
  }
  auto made = std::make_unique<CompressState>();
  for (const CompressWord word : conf.compress) {
    made->codings.push_back(word == CompressWord::kGzip     ? Coding::kGzip
                            : word == CompressWord::kBrotli ? Coding::kBrotli
                                                            : Coding::kZstd);
  }
  made->types = conf.types;
  made->min = conf.min.count;
  made->level = conf.level;
  for (const Coding coding : made->codings) {
    const auto which = static_cast<unsigned>(coding);
    made->detail += fmt::format("{} level {}, ", kCodingNames[which], conf.level.level[which]);
  }
  made->detail += fmt::format("from {} bytes", conf.min.count);
  const CompressState* state = builder.own(std::move(made));
  builder.add_hook(Phase::kRewrite, &choose, state, kTable, "compress", state->detail);
  builder.add_hook(Phase::kRespond, &add_vary, state, kTable, "compress");
  return {};
}

}  // namespace

constinit const Module kCompressModule = {"compress", kTables, &compile};

}  // namespace gatehouse
