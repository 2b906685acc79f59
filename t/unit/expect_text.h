// Two texts that have to be the same; a failure shows both.
#pragma once

#include <criterion/criterion.h>

#include <string>

namespace gatehouse {

inline void expect(const std::string& got, const std::string& wanted) {
  cr_expect(got == wanted, "got %s, wanted %s", got.c_str(), wanted.c_str());
}

}  // namespace gatehouse
