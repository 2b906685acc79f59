// One field line of a message head, and the list of them.
//
// A Field is three words: views into the buffer that holds the head, and the number of the name,
// found once by the parser. A FieldList is reused for one message after the other: up to kInline
// fields it allocates nothing, and what it had to allocate for a larger message it keeps until
// shrink(). It is about 1 KiB large: borrow it for an exchange, do not keep it in an idle
// connection. It remembers which names it holds, so that asking for an absent field costs one test.
//
// `dropped` means "not to be handed on", nothing else: find() and all() see dropped fields too,
// for the checks need to read the hop-by-hop fields that never leave the gateway.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "core/arena.h"
#include "http/field_names.h"

namespace gatehouse {

struct Field {
  std::string_view name;
  std::string_view value;  // without the white space around it
  FieldId id = FieldId::kOther;
  bool dropped = false;  // not to be handed on to the next hop
  // The views lie in a buffer that holds the line as it would be written: "name: value" CRLF. Set
  // by the parser; who changes name or value clears it.
  bool verbatim = false;

  // The line may be copied from where it stands. Looks again, for a hook that changed the value
  // and forgot the mark must not break the message in two.
  bool stands_as_written() const {
    const char* const end = value.data() + value.size();
    return verbatim && value.data() == name.data() + name.size() + 2 && end[0] == '\r' &&
           end[1] == '\n';
  }
};

// A field whose whole line, "name: value" CRLF, is one literal.
consteval Field literal_field(FieldId id, std::string_view line) {
  const size_t colon = line.find(':');
  return {line.substr(0, colon), line.substr(colon + 2, line.size() - colon - 4), id, false, true};
}

class FieldList {
 public:
  static constexpr size_t kInline = 24;

  FieldList() = default;
  FieldList(const FieldList&) = delete;
  FieldList& operator=(const FieldList&) = delete;

  // Forgets the fields, keeps the memory.
  void clear() {
    size_ = 0;
    seen_ = 0;
    repeated_ = 0;
  }

  // Forgets the fields and gives back memory beyond the inline room.
  void shrink() {
    clear();
    heap_.reset();
    data_ = inline_;
    capacity_ = kInline;
  }

  // Forgets all but the first `size`; has() and repeated() still know the names of the others.
  void truncate(size_t size) {
    assert(size <= size_);
    size_ = size;
  }

  // Returned reference and all iterators are valid until the next push.
  Field& push(const Field& field) {
    Field& added = make(field.id);
    added = field;
    return added;
  }
  // Member by member: a Field made elsewhere and copied here costs twice.
  Field& push(std::string_view name, std::string_view value, bool verbatim = false) {
    const FieldId id = field_id(name);
    Field& added = make(id);
    added.name = name;
    added.value = value;
    added.id = id;
    added.dropped = false;
    added.verbatim = verbatim;
    return added;
  }

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  Field& operator[](size_t i) {
    assert(i < size_);
    return data_[i];
  }
  const Field& operator[](size_t i) const {
    assert(i < size_);
    return data_[i];
  }
  Field* begin() { return data_; }
  Field* end() { return data_ + size_; }
  const Field* begin() const { return data_; }
  const Field* end() const { return data_ + size_; }

  // Whether the list holds the name at all, and whether more than once. kOther: any unknown name.
  bool has(FieldId id) const { return (seen_ >> static_cast<unsigned>(id) & 1) != 0; }
  // Whether it holds any of the names whose bits, 1 << id, are set.
  bool has_any(uint64_t ids) const { return (seen_ & ids) != 0; }
  bool repeated(FieldId id) const { return (repeated_ >> static_cast<unsigned>(id) & 1) != 0; }

  // The first field of that name, dropped or not; null where there is none.
  const Field* find(FieldId id) const { return const_cast<FieldList*>(this)->find(id); }
  Field* find(FieldId id) {
    if (!has(id)) return nullptr;
    for (Field& field : *this) {
      if (field.id == id) return &field;
    }
    return nullptr;
  }

  // The first field of that name, compared without regard to case; null where there is none.
  const Field* find(std::string_view name) const;

  // Marks every field of that name as not to be handed on.
  void drop(FieldId id) {
    if (!has(id)) return;
    for (Field& field : *this) {
      if (field.id == id) field.dropped = true;
    }
  }

 private:
  void grow();
  // Room for one more field of that name, yet to be filled in.
  Field& make(FieldId id) {
    if (size_ == capacity_) [[unlikely]]
      grow();
    const uint64_t bit = uint64_t{1} << static_cast<unsigned>(id);
    repeated_ |= seen_ & bit;
    seen_ |= bit;
    return data_[size_++];
  }

  size_t size_ = 0;
  size_t capacity_ = kInline;
  uint64_t seen_ = 0;      // bit per FieldId
  uint64_t repeated_ = 0;  // bit per FieldId
  Field* data_ = inline_;
  std::unique_ptr<Field[]> heap_;
  Field inline_[kInline];
};

// Copies the names and values into `arena`, so that they outlive the buffer they were read into.
void copy_texts(FieldList& fields, Arena& arena);

}  // namespace gatehouse
