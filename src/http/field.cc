// The parts of FieldList that the hot path does not take.
#include "http/field.h"

#include <algorithm>

namespace gatehouse {

void FieldList::grow() {
  const size_t capacity = capacity_ * 2;
  auto larger = std::make_unique<Field[]>(capacity);
  std::copy_n(data_, size_, larger.get());
  heap_ = std::move(larger);
  data_ = heap_.get();
  capacity_ = capacity;
}

const Field* FieldList::find(std::string_view name) const {
  const FieldId id = field_id(name);
  if (id != FieldId::kOther) return find(id);
  for (const Field& field : *this) {
    if (equal_ignoring_case(field.name, name)) return &field;
  }
  return nullptr;
}

void copy_texts(FieldList& fields, Arena& arena) {
  for (Field& field : fields) {
    field.name = arena.copy(field.name);
    field.value = arena.copy(field.value);
    field.verbatim = false;
  }
}

}  // namespace gatehouse
