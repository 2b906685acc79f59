// Access log: one line for each exchange, in the combined format, as JSON, or as configured.
//
//   [log access]
//   file   = /var/log/gatehouse/access.log
//   format = json                   # combined (the default), json, or a text with $variables
//   sample = 2xx 1% 3xx 10%         # the other classes are written in full
//   [route app]
//   log    = access audit           # or off; the log called "access" is the default where it is
//
// A line is rendered when the exchange is over, into a buffer that is kept, and handed to the
// worker's LogWriter (core/log_writer.h), which batches it; nothing is allocated once warm. What
// the client chose is escaped, so that one request is one line, and JSON is valid UTF-8.
//
// Sampling decides by a hash of the request id: the same request is in the logs of all gateways it
// passed, or in none. What is left out is in the metrics all the same, and does not count as
// dropped.
//
// Shared: nothing but the file, and the mark that tells who left half a line in it. A full disk
// stops no traffic: lines are dropped and counted.
// Leaves out: requests whose first byte never came, which are connections and not exchanges.
#include <algorithm>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.h"
#include "core/directive.h"
#include "core/log_conf.h"
#include "core/log_writer.h"
#include "core/stable_names.h"
#include "http/bound_generation.h"
#include "http/exchange.h"
#include "http/generation.h"
#include "http/module.h"
#include "http/route.h"
#include "http/text_template.h"
#include "http/variables.h"
#include "modules/access_log.h"
#include "modules/registry.h"

namespace gatehouse {
namespace {

constexpr std::string_view kDefaultLog = "access";
constexpr std::string_view kOff = "off";
constexpr uint32_t kWhole = 10'000;  // 100 % in hundredths of a percent

constexpr std::string_view kCombined =
    "$client_address - - [$time_combined] \"$request_line\" $status $bytes_out "
    "\"$header_referer\" \"$header_user_agent\"";

// The members of a JSON line, in order; one without a value is left out.
struct JsonMember {
  std::string_view key;
  std::string_view variable;
};
constexpr JsonMember kJsonMembers[] = {
    {"time", "time_iso8601"},
    {"request_id", "request_id"},
    {"client", "client_address"},
    {"client_port", "client_port"},
    {"peer", "peer_address"},
    {"pool", "pool"},
    {"worker", "worker"},
    {"listener", "listener"},
    {"route", "route"},
    {"method", "method"},
    {"scheme", "scheme"},
    {"host", "host"},
    {"path", "path"},
    {"query", "query"},
    {"raw_target", "raw_target"},
    {"protocol", "protocol"},
    {"status", "status"},
    {"reason", "reason"},
    {"bytes_in", "bytes_in"},
    {"bytes_out", "bytes_out"},
    {"duration", "duration"},
    {"upstream", "upstream"},
    {"target", "target"},
    {"tries", "tries"},
    {"upstream_duration", "upstream_duration"},
    {"upstream_connect_duration", "upstream_connect_duration"},
    {"upstream_head_duration", "upstream_head_duration"},
    {"upstream_bytes_in", "upstream_bytes_in"},
    {"upstream_bytes_out", "upstream_bytes_out"},
    {"referer", "header_referer"},
    {"user_agent", "header_user_agent"},
};

struct CompiledMember {
  std::string prefix;  // ,"key":
  Variable variable;
  bool number;
  bool of_target;  // says nothing where no target was tried
};

const std::vector<CompiledMember>& json_members() {
  static const std::vector<CompiledMember> kMembers = [] {
    std::vector<CompiledMember> members;
    for (const JsonMember& member : kJsonMembers) {
      Result<Variable> variable = parse_variable(member.variable);
      // A name that is not in the list is a mistake in the table above; the unit test finds it.
      if (!variable) continue;
      const bool number = variable_list()[static_cast<size_t>(variable->id)].number;
      const bool of_target = member.key == "tries" || member.key.starts_with("upstream");
      members.push_back(
          {fmt::format(",\"{}\":", member.key), std::move(*variable), number, of_target});
    }
    return members;
  }();
  return kMembers;
}

bool keep(const LogSample& sample, const Exchange& exchange) {
  const unsigned status = exchange.response.status;
  const uint32_t share = sample.hundredths[status >= 100 && status < 600 ? status / 100 : 0];
  return share >= kWhole || sample_point(exchange.request_id) < share;
}

// What the hook of one route knows about one of its logs.
struct RouteLog final : ModuleState {
  std::string name;
  const AccessLogConf* conf = nullptr;
  mutable LogWriter* writer = nullptr;  // the worker's; bound by attach
};

bool reads_response_fields(const LogFormat& format) {
  const std::vector<TextTemplate::Piece>& pieces = format.text.pieces();
  return std::any_of(pieces.begin(), pieces.end(), [](const TextTemplate::Piece& piece) {
    return piece.has_variable && piece.variable.id == VariableId::kResponseHeader;
  });
}

Verdict write_line(Exchange& exchange, const void* state) {
  const auto& log = *static_cast<const RouteLog*>(state);
  if (log.writer == nullptr || !keep(log.conf->sample, exchange)) return Verdict::kContinue;
  static thread_local fmt::memory_buffer line;
  line.clear();
  render_log_line(log.conf->format, exchange, line);
  log.writer->append({line.data(), line.size()});
  return Verdict::kContinue;
}

// ---- Configuration ------------------------------------------------------------------------------

struct RouteLogConf {
  std::vector<std::string> log;
};

constexpr Directive kAccessLogDirectives[] = {
    directive<&AccessLogConf::format>(
        "format", "What a line says: the combined format, JSON, or a text with $variables.",
        "$client_address $request_line $status $reason"),
    directive<&AccessLogConf::sample>(
        "sample",
        "The share of exchanges that is written, for each class of status (2xx; none: no response "
        "was sent). Classes that are not named are written in full.",
        "2xx 1% 4xx 100%"),
};
constexpr DirectiveTable kAccessLogTable =
    directive_table<AccessLogConf>("log", kAccessLogDirectives);

constexpr Directive kRouteLogDirectives[] = {
    directive<&RouteLogConf::log>(
        "log", "The logs that get a line for each exchange; the one called access by default.",
        "access audit", DirectiveFlag::kWords, expects("names of [log] sections, or off")),
};
constexpr DirectiveTable kRouteLogTable =
    directive_table<RouteLogConf>("route", kRouteLogDirectives);

constexpr const DirectiveTable* kTables[] = {&kAccessLogTable, &kRouteLogTable};

// `entry`: the name's place in the key; where it was not named there, `key` is empty.
Result<void> add_log(RouteBuilder& builder, const std::string& name, std::string_view key,
                     size_t entry) {
  const ConfigSection* section = builder.config().find("log", name);
  if (section == nullptr) {
    std::vector<std::string_view> names;
    for (const ConfigSection& each : builder.config().sections("log")) names.push_back(each.name());
    const std::string_view nearest = nearest_word(name, names);
    builder.blame(kRouteLogTable, key,
                  nearest.empty() ? "expected: names of [log] sections, or off"
                                  : fmt::format("did you mean \"{}\"?", nearest),
                  entry);
    return Error{fmt::format("there is no [log {}]", name)};
  }
  auto log = std::make_unique<RouteLog>();
  log->name = name;
  log->conf = &section->get<AccessLogConf>(kAccessLogTable);
  if (reads_response_fields(log->conf->format)) builder.keep_response_fields();
  builder.add_hook(Phase::kLog, &write_line, builder.own(std::move(log)), kRouteLogTable, key);
  return {};
}

Result<void> compile_route(RouteBuilder& builder) {
  const std::vector<std::string>& logs = builder.section().get<RouteLogConf>(kRouteLogTable).log;
  if (logs.empty()) {
    if (builder.config().find("log", kDefaultLog) == nullptr) return {};
    return add_log(builder, std::string(kDefaultLog), "", 0);
  }
  if (logs.size() == 1 && logs.front() == kOff) return {};
  for (size_t i = 0; i < logs.size(); ++i) {
    const auto here = logs.begin() + static_cast<std::ptrdiff_t>(i);
    if (logs[i] == kOff || std::find(logs.begin(), here, logs[i]) != here) {
      builder.blame(kRouteLogTable, "log", "expected: names of [log] sections, or off alone", i);
      return Error{logs[i] == kOff ? "off stands beside a name" : "given twice"};
    }
    if (Result<void> added = add_log(builder, logs[i], "log", i); !added) return added;
  }
  return {};
}

void bind_route(const Route& route, BoundGeneration& bound) {
  for (const Hook& hook : route.log) {
    if (hook.function != &write_line) continue;
    const auto& log = *static_cast<const RouteLog*>(hook.state);
    log.writer = bound.log_writer(log.name);
  }
}

Result<void> attach(BoundGeneration& bound) {
  for (const auto& route : bound.generation->routes()) bind_route(*route, bound);
  for (const auto& listener : bound.generation->listeners()) {
    if (listener->fallback) bind_route(*listener->fallback, bound);
  }
  return {};
}

}  // namespace

// ---- Lines --------------------------------------------------------------------------------------

uint32_t sample_point(std::string_view request_id) {
  uint64_t hash = stable_hash(request_id);
  // The low bits of FNV-1a know little of the last bytes.
  hash ^= hash >> 32;
  hash *= 0x9e3779b97f4a7c15;
  return static_cast<uint32_t>((hash >> 32) * kWhole >> 32);
}

void render_log_line(const LogFormat& format, const Exchange& exchange, TextBuffer& out) {
  if (format.kind != LogFormat::Kind::kJson) {
    format.text.render(exchange, TextEscape::kLog, out);
    return;
  }
  static thread_local fmt::memory_buffer value;
  const size_t begin = out.size();
  for (const CompiledMember& member : json_members()) {
    if (member.of_target && exchange.target == nullptr) continue;
    value.clear();
    append_variable(member.variable, exchange, value);
    if (value.size() == 0) continue;
    append_text(out, member.prefix);
    const std::string_view text(value.data(), value.size());
    if (member.number) {
      append_text(out, text);
    } else {
      out.push_back('"');
      append_escaped(text, TextEscape::kJson, out);
      out.push_back('"');
    }
  }
  if (exchange.target_reused) append_text(out, ",\"target_reused\":true");
  if (out.size() == begin) out.push_back('{');
  out[begin] = '{';  // in the place of the first comma
  out.push_back('}');
}

// ---- Values -------------------------------------------------------------------------------------

LogFormat::LogFormat() {
  // The text is a constant that parses; the unit test holds that.
  if (Result<TextTemplate> combined = TextTemplate::parse(kCombined)) text = std::move(*combined);
}

Result<LogFormat> ValueType<LogFormat>::parse(std::string_view text) {
  LogFormat format;
  if (text == "combined") return format;
  if (text == "json") {
    format.kind = LogFormat::Kind::kJson;
    return format;
  }
  if (text.find('$') == std::string_view::npos) {
    return Error{"neither combined nor json, and there is no $variable in it"};
  }
  Result<TextTemplate> parsed = TextTemplate::parse(text);
  if (!parsed) return parsed.error();
  format.kind = LogFormat::Kind::kText;
  format.text = std::move(*parsed);
  return format;
}

std::string ValueType<LogFormat>::format(const LogFormat& format) {
  switch (format.kind) {
    case LogFormat::Kind::kCombined:
      return "combined";
    case LogFormat::Kind::kJson:
      return "json";
    case LogFormat::Kind::kText:
      break;
  }
  return format.text.source();
}

std::string ValueType<LogFormat>::expected() {
  return "combined, json, or a text with $variables";
}

namespace {
constexpr std::string_view kClassNames[] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};
}  // namespace

Result<LogSample> ValueType<LogSample>::parse(std::string_view text) {
  LogSample sample;
  std::array<bool, kStatusClasses> named{};
  std::string_view word = take_word(text);
  if (word.empty()) return Error{"empty"};
  while (!word.empty()) {
    size_t number = 0;
    while (number < kStatusClasses && kClassNames[number] != word) ++number;
    if (number == kStatusClasses) {
      return unknown_word(word, {std::begin(kClassNames), std::end(kClassNames)});
    }
    if (named[number]) return Error{fmt::format("{} appears twice", word)};
    named[number] = true;
    const std::string_view share_text = take_word(text);
    if (share_text.empty()) return Error{fmt::format("{} lacks its share", word)};
    Result<Percent> share = ValueType<Percent>::parse(share_text);
    if (!share) return Error{fmt::format("{}: {}", word, share.error().message)};
    sample.hundredths[number] = share->hundredths;
    word = take_word(text);
  }
  return sample;
}

std::string ValueType<LogSample>::format(const LogSample& sample) {
  std::string text;
  for (size_t i = 0; i < kStatusClasses; ++i) {
    if (sample.hundredths[i] == kWhole) continue;
    if (!text.empty()) text += ' ';
    text += fmt::format("{} {}", kClassNames[i],
                        ValueType<Percent>::format(Percent{sample.hundredths[i]}));
  }
  return text.empty() ? "2xx 100%" : text;
}

std::string ValueType<LogSample>::expected() {
  return "pairs of a class and a share, such as \"2xx 1% 4xx 100%\"; the classes are 1xx to 5xx "
         "and none";
}

constinit const Module kAccessLogModule{"access_log", kTables, &compile_route, &attach};

}  // namespace gatehouse
