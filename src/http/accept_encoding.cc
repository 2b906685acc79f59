// Choosing a content coding; see accept_encoding.h.
#include "http/accept_encoding.h"

#include <algorithm>
#include <string_view>

#include "http/chars.h"

namespace gatehouse {

namespace {

constexpr int kUnnamed = -1;

// In thousandths.
struct Weights {
  int coding[kCodings] = {kUnnamed, kUnnamed, kUnnamed};
  int identity = kUnnamed;
  int rest = kUnnamed;  // of "*"
};

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::string_view take_until(std::string_view& text, char end) {
  const size_t at = std::min(text.find(end), text.size());
  const std::string_view piece = trim(text.substr(0, at));
  text.remove_prefix(std::min(at + 1, text.size()));
  return piece;
}

// "0.8" in thousandths (RFC 9110 §12.4.2); -1 for anything malformed.
int parse_weight(std::string_view text) {
  if (text.empty() || text.size() > 5 || (text[0] != '0' && text[0] != '1')) return -1;
  if (text.size() > 1 && text[1] != '.') return -1;
  int weight = text[0] == '1' ? 1000 : 0;
  int scale = 100;
  for (const char c : text.substr(std::min<size_t>(2, text.size()))) {
    if (c < '0' || c > '9') return -1;
    weight += (c - '0') * scale;
    scale /= 10;
  }
  return weight <= 1000 ? weight : -1;
}

// False where the element is malformed.
bool read_element(std::string_view element, Weights& weights) {
  const std::string_view name = take_until(element, ';');
  if (name.empty() || !chars::all_of(name, chars::kToken)) return false;
  int weight = 1000;
  if (!element.empty()) {
    const std::string_view parameter = trim(element);
    if (parameter.size() < 3 || (parameter[0] | 0x20) != 'q' || parameter[1] != '=') return false;
    weight = parse_weight(parameter.substr(2));
    if (weight < 0) return false;
  }
  if (name == "*") {
    weights.rest = weight;
  } else if (equal_ignoring_case(name, "identity")) {
    weights.identity = weight;
  } else if (equal_ignoring_case(name, "x-gzip")) {
    weights.coding[static_cast<unsigned>(Coding::kGzip)] = weight;
  } else {
    for (unsigned i = 0; i < kCodings; ++i) {
      if (equal_ignoring_case(name, kCodingNames[i])) weights.coding[i] = weight;
    }
  }
  return true;
}

}  // namespace

std::optional<Coding> choose_coding(const FieldList& fields, std::span<const Coding> offered) {
  if (!fields.has(FieldId::kAcceptEncoding)) return {};
  Weights weights;
  for (const Field& field : fields) {
    if (field.id != FieldId::kAcceptEncoding) continue;
    std::string_view rest = field.value;
    while (!rest.empty()) {
      const std::string_view element = take_until(rest, ',');
      if (!element.empty() && !read_element(element, weights)) return {};
    }
  }
  std::optional<Coding> best;
  // What is wanted more than the plain form: as much is enough.
  int best_weight = std::max(weights.identity, 1) - 1;
  for (const Coding coding : offered) {
    const int named = weights.coding[static_cast<unsigned>(coding)];
    const int weight = named != kUnnamed ? named : weights.rest;
    if (weight <= best_weight) continue;
    best = coding;
    best_weight = weight;
  }
  return best;
}

}  // namespace gatehouse
