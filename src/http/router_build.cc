// Building a router: entries, their order, ties; see router.h and router_tables.h.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "http/router_tables.h"

namespace gatehouse {

uint32_t ScopedTextTable::find_or_add(uint32_t scope, std::string_view text, uint32_t value) {
  const uint32_t found = find(scope, text);
  if (found != kNoIndex) return found;
  if ((used_ + 1) * 4 > slots_.size() * 3) grow();
  const uint64_t key = hash(scope, text);
  size_t i = key & mask_;
  while (slots_[i].value != kNoIndex) i = (i + 1) & mask_;
  slots_[i] = {key, text.data(), static_cast<uint32_t>(text.size()), scope, value};
  ++used_;
  return value;
}

void ScopedTextTable::grow() {
  std::vector<Slot> old = std::move(slots_);
  slots_ = std::vector<Slot>(std::max<size_t>(16, old.size() * 2));
  mask_ = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.value == kNoIndex) continue;
    size_t i = slot.hash & mask_;
    while (slots_[i].value != kNoIndex) i = (i + 1) & mask_;
    slots_[i] = slot;
  }
}

namespace {

bool is_exact(ConditionKind kind) {
  return kind == ConditionKind::kEquals;
}

void count_conditions(RouterEntry& entry) {
  const RouteConf& conf = *entry.conf;
  size_t count = conf.header.size() + conf.query.size();
  size_t exact = 0;
  for (const FieldCondition& condition : conf.header) exact += is_exact(condition.kind);
  for (const QueryCondition& condition : conf.query) exact += is_exact(condition.kind);
  if (!conf.method.empty()) {
    ++count;
    ++exact;
    entry.methods = 0;
    for (const MethodName& method : conf.method) {
      if (method.id == Method::kOther) {
        entry.other_methods = true;
        continue;
      }
      entry.methods |= uint32_t{1} << static_cast<unsigned>(method.id);
      if (method.id == Method::kGet) {
        entry.methods |= uint32_t{1} << static_cast<unsigned>(Method::kHead);
      }
    }
  }
  entry.conditions = static_cast<uint16_t>(std::min<size_t>(count, UINT16_MAX));
  entry.exact_conditions = static_cast<uint16_t>(std::min<size_t>(exact, UINT16_MAX));
}

bool methods_overlap(const RouterEntry& a, const RouterEntry& b) {
  if ((a.methods & b.methods) != 0) return true;
  // No list at all has every bit set, and would have overlapped: both have lists.
  for (const MethodName& method : a.conf->method) {
    if (method.id != Method::kOther) continue;
    const auto& others = b.conf->method;
    if (std::find(others.begin(), others.end(), method) != others.end()) return true;
  }
  return false;
}

template <class Condition>
bool any_exclude(const std::vector<Condition>& a, const std::vector<Condition>& b) {
  for (const Condition& one : a) {
    for (const Condition& other : b) {
      if (exclude_each_other(one, other)) return true;
    }
  }
  return false;
}

// Whether one request could match both, host and path being the same.
bool overlap(const RouterEntry& a, const RouterEntry& b) {
  const bool other_against_any = (a.conf->method.empty() && !b.conf->method.empty()) ||
                                 (b.conf->method.empty() && !a.conf->method.empty());
  if (!other_against_any && !methods_overlap(a, b)) return false;
  return !any_exclude(a.conf->header, b.conf->header) && !any_exclude(a.conf->query, b.conf->query);
}

std::string name_of(const Route& route) {
  std::string text = "[route " + route.name + "]";
  if (route.section != nullptr) text += " at " + route.section->where(route.origin);
  return text;
}

std::string place_of(const RouterEntry& entry) {
  const std::string host =
      entry.host == nullptr ? "any host" : "host " + ValueType<HostPattern>::format(*entry.host);
  if (entry.path == nullptr) return host + ", any path";
  return host + ", path " + ValueType<PathPattern>::format(*entry.path);
}

}  // namespace

class RouterBuilder {
 public:
  RouterBuilder(Router& router, std::vector<RouterProblem>& problems)
      : router_(router), tables_(*router.tables_), problems_(problems) {}

  void build() {
    uint32_t order = 0;
    for (const Route* route : router_.routes_) add_route(*route, order++);
    place_edges();
    place_entries();
    find_ties();
    find_unreachable();
  }

 private:
  // What is known of an entry besides itself until all are in their places.
  struct Pending {
    RouterEntry entry;
    uint32_t leaf = 0;
  };
  // An expression of one host; its entries are the leaf's.
  struct PendingRegex {
    uint32_t host = 0;
    size_t length = 0;
    uint32_t leaf = 0;  // ascends in the order written
  };

  struct Edge {
    uint32_t node = 0;
    std::string_view text;
    uint32_t child = 0;
  };

  void add_route(const Route& route, uint32_t order) {
    RouterEntry entry;
    entry.route = &route;
    entry.conf = route.conf;
    entry.order = order;
    count_conditions(entry);
    if (route.conf->host.empty()) {
      add_paths(entry, any_host());
      return;
    }
    for (const HostPattern& host : route.conf->host) {
      entry.host = &host;
      add_paths(entry, host_number(host));
    }
  }

  void add_paths(RouterEntry entry, uint32_t host) {
    if (entry.conf->path.empty()) {
      add_entry(entry, leaf_at(tables_.hosts[host].without_path));
      return;
    }
    for (const PathPattern& path : entry.conf->path) {
      entry.path = &path;
      name_captures(entry);
      add_entry(entry, leaf_of(path, host));
    }
  }

  void name_captures(RouterEntry& entry) {
    std::vector<std::string_view> names;
    if (entry.path->kind == PathPattern::Kind::kRegex) {
      const std::vector<std::string>& groups = entry.path->regex->group_names();
      names.assign(groups.begin(), groups.end());
    } else {
      for (const PathSegment& segment : entry.path->segments) {
        if (segment.capture) names.push_back(segment.text);
      }
    }
    const auto next = static_cast<uint32_t>(tables_.names.size());
    const auto [found, is_new] = names_.try_emplace(names, next);
    if (is_new) tables_.names.insert(tables_.names.end(), names.begin(), names.end());
    entry.names = found->second;
    entry.name_count = static_cast<uint8_t>(names.size());
  }

  void add_entry(const RouterEntry& entry, uint32_t leaf) { pending_.push_back({entry, leaf}); }

  uint32_t add_host() {
    tables_.hosts.emplace_back();
    return static_cast<uint32_t>(tables_.hosts.size() - 1);
  }
  uint32_t any_host() {
    if (tables_.any_host == kNoIndex) tables_.any_host = add_host();
    return tables_.any_host;
  }
  uint32_t host_number(const HostPattern& host) {
    if (host.kind == HostPattern::Kind::kAny) return any_host();
    const bool wildcard = host.kind == HostPattern::Kind::kWildcard;
    tables_.has_wildcards |= wildcard;
    const auto next = static_cast<uint32_t>(tables_.hosts.size());
    const uint32_t number =
        tables_.host_names.find_or_add(wildcard ? kWildcardHosts : kExactHosts, host.name, next);
    if (number == next) add_host();
    return number;
  }

  uint32_t leaf_at(uint32_t& leaf) {
    if (leaf == kNoIndex) leaf = leaves_++;
    return leaf;
  }

  uint32_t leaf_of(const PathPattern& path, uint32_t host) {
    if (path.kind == PathPattern::Kind::kRegex) return regex_leaf(path, host);
    if (path.literal()) {
      tables_.hosts[host].has_literal = true;
      const uint32_t leaf = tables_.literal.find_or_add(host, keep(path.shape()), leaves_);
      if (leaf == leaves_) ++leaves_;
      return leaf;
    }
    uint32_t node = tables_.hosts[host].root;
    if (node == kNoIndex) tables_.hosts[host].root = node = add_node();
    for (const PathSegment& segment : path.segments) node = child(node, segment);
    RouterNode& end = tables_.nodes[node];
    return leaf_at(path.kind == PathPattern::Kind::kPrefix ? end.prefix : end.whole);
  }

  uint32_t regex_leaf(const PathPattern& path, uint32_t host) {
    const std::string& text = path.regex->pattern();
    const auto [found, is_new] = regex_leaves_.try_emplace({host, text}, leaves_);
    if (is_new) {
      regexes_.push_back({host, text.size(), leaves_});
      ++leaves_;
    }
    return found->second;
  }

  uint32_t add_node() {
    tables_.nodes.emplace_back();
    return static_cast<uint32_t>(tables_.nodes.size() - 1);
  }
  uint32_t child(uint32_t node, const PathSegment& segment) {
    if (segment.capture) {
      if (tables_.nodes[node].capture == kNoIndex) {
        const uint32_t made = add_node();
        tables_.nodes[node].capture = made;
      }
      return tables_.nodes[node].capture;
    }
    const uint32_t found = edge_table_.find(node, segment.text);
    if (found != kNoIndex) return found;
    const Edge edge{node, keep(segment.text), add_node()};
    ++tables_.nodes[node].edges;
    edges_.push_back(edge);
    return edge_table_.find_or_add(node, edge.text, edge.child);
  }

  void place_edges() {
    for (const Edge& edge : edges_) {
      RouterNode& node = tables_.nodes[edge.node];
      if (node.edges > 1) {
        tables_.edges.find_or_add(edge.node, edge.text, edge.child);
      } else {
        node.text = edge.text.data();
        node.text_size = static_cast<uint32_t>(edge.text.size());
        node.child = edge.child;
      }
    }
  }

  std::string_view keep(std::string_view text) {
    char* copy = static_cast<char*>(tables_.texts.allocate(text.size(), 1));
    std::memcpy(copy, text.data(), text.size());
    return {copy, text.size()};
  }

  // Sorts the entries, and turns numbers of leaves into indexes of their first entries.
  void place_entries() {
    std::sort(pending_.begin(), pending_.end(), [](const Pending& a, const Pending& b) {
      return std::tuple(a.leaf, b.entry.conditions, b.entry.exact_conditions, a.entry.order) <
             std::tuple(b.leaf, a.entry.conditions, a.entry.exact_conditions, b.entry.order);
    });
    // A route that says the same host and path twice stands there once.
    pending_.erase(std::unique(pending_.begin(), pending_.end(),
                               [](const Pending& a, const Pending& b) {
                                 return a.leaf == b.leaf && a.entry.route == b.entry.route;
                               }),
                   pending_.end());
    std::vector<uint32_t> first(leaves_, kNoIndex);
    tables_.entries.reserve(pending_.size());
    for (size_t i = 0; i < pending_.size(); ++i) {
      Pending& pending = pending_[i];
      pending.entry.last = i + 1 == pending_.size() || pending_[i + 1].leaf != pending.leaf;
      if (first[pending.leaf] == kNoIndex) first[pending.leaf] = static_cast<uint32_t>(i);
      tables_.entries.push_back(pending.entry);
    }
    pending_.clear();

    const auto place = [&first](uint32_t leaf) { return leaf == kNoIndex ? leaf : first[leaf]; };
    tables_.literal.change_values(place);
    for (RouterNode& node : tables_.nodes) {
      node.whole = place(node.whole);
      node.prefix = place(node.prefix);
    }
    for (RouterHost& host : tables_.hosts) host.without_path = place(host.without_path);

    std::sort(regexes_.begin(), regexes_.end(), [](const PendingRegex& a, const PendingRegex& b) {
      return std::tuple(a.host, b.length, a.leaf) < std::tuple(b.host, a.length, b.leaf);
    });
    for (const PendingRegex& regex : regexes_) {
      RouterHost& host = tables_.hosts[regex.host];
      if (host.regex_count++ == 0) host.regex_first = static_cast<uint32_t>(tables_.regexes.size());
      tables_.regexes.push_back(place(regex.leaf));
    }
  }

  void find_ties() {
    const std::vector<RouterEntry>& entries = tables_.entries;
    std::set<std::pair<const Route*, const Route*>> said;
    for (size_t i = 0; i < entries.size(); ++i) {
      for (size_t j = i; !entries[j].last;) {
        ++j;
        if (entries[j].conditions != entries[i].conditions ||
            entries[j].exact_conditions != entries[i].exact_conditions) {
          break;
        }
        if (!overlap(entries[i], entries[j])) continue;
        if (!said.emplace(entries[i].route, entries[j].route).second) continue;
        add_problem(
            entries[j],
            "ties with " + name_of(*entries[i].route) + ": both could take the same request (" +
                place_of(entries[j]) + ")",
            "expected: another host or path for one of them, or a further condition (method, "
            "header, query)");
        break;
      }
    }
  }

  // An expression behind an unconditional "/*" of the same host would never be asked.
  void find_unreachable() {
    for (const RouterHost& host : tables_.hosts) {
      if (host.regex_count == 0 || host.root == kNoIndex) continue;
      const uint32_t leaf = tables_.nodes[host.root].prefix;
      if (leaf == kNoIndex) continue;
      size_t last = leaf;
      while (!tables_.entries[last].last) ++last;
      const RouterEntry& all = tables_.entries[last];
      if (all.conditions != 0) continue;
      for (uint32_t i = 0; i < host.regex_count; ++i) {
        const RouterEntry* entry = &tables_.entries[tables_.regexes[host.regex_first + i]];
        for (;; ++entry) {
          add_problem(*entry,
                      "never matches: paths with * come before expressions, and " +
                          name_of(*all.route) + " takes /* of the same host",
                      "expected: no path at all in the route that takes the rest");
          if (entry->last) break;
        }
      }
    }
  }

  void add_problem(const RouterEntry& entry, std::string problem, std::string expected) {
    RouterProblem made;
    made.route = entry.route;
    if (entry.path != nullptr) {
      made.key = entry.conf->grpc.empty() ? "path" : "grpc";
      made.entry = static_cast<size_t>(entry.path - entry.conf->path.data());
    } else if (entry.host != nullptr) {
      made.key = "host";
      made.entry = static_cast<size_t>(entry.host - entry.conf->host.data());
    }
    made.problem = std::move(problem);
    made.expected = std::move(expected);
    problems_.push_back(std::move(made));
  }

  Router& router_;
  Router::Tables& tables_;
  std::vector<RouterProblem>& problems_;
  std::vector<Pending> pending_;
  std::vector<PendingRegex> regexes_;
  std::map<std::vector<std::string_view>, uint32_t> names_;
  std::vector<Edge> edges_;
  ScopedTextTable edge_table_;
  std::map<std::pair<uint32_t, std::string>, uint32_t> regex_leaves_;
  uint32_t leaves_ = 0;
};

Router::Router() : tables_(std::make_unique<Tables>()) {}
Router::~Router() = default;

std::unique_ptr<Router> Router::build(std::span<const Route* const> routes,
                                      std::vector<RouterProblem>& problems) {
  std::unique_ptr<Router> router(new Router());
  router->routes_.assign(routes.begin(), routes.end());
  RouterBuilder(*router, problems).build();
  return router;
}

void report_router_problems(std::span<const RouterProblem> problems, const DirectiveTable& table,
                            ConfigErrors& errors) {
  std::set<std::pair<const Route*, std::string_view>> said;
  for (const RouterProblem& problem : problems) {
    if (!said.emplace(problem.route, problem.problem).second) continue;
    problem.route->section->report(errors, table, problem.key, problem.problem, problem.expected,
                                   problem.entry);
  }
}

}  // namespace gatehouse
