// Matching a request; see router.h for the order and router_tables.h for the tables.
#include "http/router.h"

#include "http/router_tables.h"

namespace gatehouse {

namespace {

using Outcome = RouteCandidate::Outcome;

// What match() does with the routes it tries: nothing, or a note for explain.
struct NoTrace {
  void operator()(const RouterEntry&, Outcome, size_t) {}
};
struct ListTrace {
  std::vector<RouteCandidate>& tried;
  void operator()(const RouterEntry& entry, Outcome outcome, size_t index) {
    tried.push_back({entry.route, entry.host, entry.path, outcome, index});
  }
};

struct Check {
  Outcome outcome = Outcome::kTaken;
  size_t index = 0;
};

bool method_fits(const RouterEntry& entry, const RequestHead& head) {
  if ((entry.methods >> static_cast<unsigned>(head.method_id) & 1) != 0) return true;
  if (!entry.other_methods || head.method_id != Method::kOther) return false;
  for (const MethodName& method : entry.conf->method) {
    if (method.name == head.method) return true;
  }
  return false;
}

Check check_conditions(const RouterEntry& entry, const Request& request) {
  if (entry.conditions == 0) return {};
  if (!method_fits(entry, request.head)) return {Outcome::kMethod, 0};
  const RouteConf& conf = *entry.conf;
  for (size_t i = 0; i < conf.header.size(); ++i) {
    if (!conf.header[i].holds(request.fields)) return {Outcome::kHeader, i};
  }
  for (size_t i = 0; i < conf.query.size(); ++i) {
    if (!conf.query[i].holds(request.target.query)) return {Outcome::kQuery, i};
  }
  return {};
}

// One request on its way through the tables.
template <class Tables, class Trace>
class Search {
 public:
  Search(const Tables& tables, Exchange& exchange, Trace trace)
      : tables_(tables),
        exchange_(exchange),
        request_(exchange.request),
        path_(request_.target.path),
        trace_(trace) {}

  const Route* run() {
    exchange_.capture_count = 0;
    const RouterEntry* entry = in_hosts();
    return entry == nullptr ? nullptr : entry->route;
  }

 private:
  const RouterEntry* in_hosts() {
    const std::string_view name = request_.authority.host;
    uint32_t host = tables_.host_names.find(kExactHosts, name);
    if (host != kNoIndex) {
      if (const RouterEntry* entry = in_host(host)) return entry;
    }
    if (tables_.has_wildcards) {
      for (size_t dot = name.find('.', 1); dot != std::string_view::npos;
           dot = name.find('.', dot + 1)) {
        host = tables_.host_names.find(kWildcardHosts, name.substr(dot));
        if (host == kNoIndex) continue;
        if (const RouterEntry* entry = in_host(host)) return entry;
      }
    }
    return tables_.any_host == kNoIndex ? nullptr : in_host(tables_.any_host);
  }

  const RouterEntry* in_host(uint32_t number) {
    const RouterHost& host = tables_.hosts[number];
    // "*" (OPTIONS) and nothing (CONNECT) are no paths.
    if (path_.starts_with('/')) {
      if (host.has_literal) {
        if (const RouterEntry* entry = in_leaf(tables_.literal.find(number, path_))) return entry;
      }
      if (host.root != kNoIndex) {
        value_count_ = 0;
        if (const RouterEntry* entry = below(host.root, 1)) return entry;
      }
      for (uint32_t i = 0; i < host.regex_count; ++i) {
        if (const RouterEntry* entry = in_regex(tables_.regexes[host.regex_first + i]))
          return entry;
      }
    }
    return in_leaf(host.without_path);
  }

  // `at`: where the next segment begins, npos behind the last one. As deep as the deepest pattern.
  const RouterEntry* below(uint32_t number, size_t at) {
    const RouterNode& node = tables_.nodes[number];
    if (at == std::string_view::npos) {
      if (const RouterEntry* entry = named(node.whole)) return entry;
      return in_prefix(node.prefix, path_.size());
    }
    const size_t slash = path_.find('/', at);
    const std::string_view segment = path_.substr(at, slash - at);
    const size_t next = slash == std::string_view::npos ? slash : slash + 1;
    const uint32_t child = child_of(node, number, segment);
    if (child != kNoIndex) {
      if (const RouterEntry* entry = below(child, next)) return entry;
    }
    if (node.capture != kNoIndex && !segment.empty()) {
      values_[value_count_++] = segment;
      if (const RouterEntry* entry = below(node.capture, next)) return entry;
      --value_count_;
    }
    return in_prefix(node.prefix, at);
  }

  uint32_t child_of(const RouterNode& node, uint32_t number, std::string_view segment) const {
    if (node.edges > 1) return tables_.edges.find(number, segment);
    if (node.edges == 0 || segment != std::string_view(node.text, node.text_size)) return kNoIndex;
    return node.child;
  }

  const RouterEntry* named(uint32_t leaf) {
    const RouterEntry* entry = in_leaf(leaf);
    if (entry != nullptr) set_captures(*entry);
    return entry;
  }

  const RouterEntry* in_prefix(uint32_t leaf, size_t rest) {
    const RouterEntry* entry = in_leaf(leaf);
    if (entry == nullptr) return nullptr;
    set_captures(*entry);
    exchange_.captures[exchange_.capture_count++] = {kRestCapture, path_.substr(rest)};
    return entry;
  }

  // Gives the values found on the way the names that the entry has for them.
  void set_captures(const RouterEntry& entry) {
    for (size_t i = 0; i < entry.name_count; ++i) {
      exchange_.captures[i] = {tables_.names[entry.names + i], values_[i]};
    }
    exchange_.capture_count = entry.name_count;
  }

  // All entries of the leaf have one expression: it is run at most once.
  const RouterEntry* in_regex(uint32_t leaf) {
    const Regex& regex = *tables_.entries[leaf].path->regex;
    const RegexOutcome outcome = regex.match(path_, values_);
    if (outcome == RegexOutcome::kMatch) {
      return named(leaf);
    }
    for (const RouterEntry* entry = &tables_.entries[leaf];; ++entry) {
      trace_(*entry, outcome == RegexOutcome::kLimit ? Outcome::kRegexLimit : Outcome::kRegex, 0);
      if (entry->last) return nullptr;
    }
  }

  const RouterEntry* in_leaf(uint32_t leaf) {
    if (leaf == kNoIndex) return nullptr;
    for (const RouterEntry* entry = &tables_.entries[leaf];; ++entry) {
      const Check check = check_conditions(*entry, request_);
      trace_(*entry, check.outcome, check.index);
      if (check.outcome == Outcome::kTaken) return entry;
      if (entry->last) return nullptr;
    }
  }

  const Tables& tables_;
  Exchange& exchange_;
  const Request& request_;
  const std::string_view path_;
  Trace trace_;
  std::string_view values_[Exchange::kMaxCaptures];
  size_t value_count_ = 0;
};

static_assert(kMaxPatternCaptures < Exchange::kMaxCaptures);
static_assert(kRegexMaxGroups < Exchange::kMaxCaptures);

}  // namespace

const Route* Router::match(Exchange& exchange) const {
  return Search<Tables, NoTrace>(*tables_, exchange, NoTrace{}).run();
}

const Route* Router::match(Exchange& exchange, std::vector<RouteCandidate>& tried) const {
  return Search<Tables, ListTrace>(*tables_, exchange, ListTrace{tried}).run();
}

}  // namespace gatehouse
