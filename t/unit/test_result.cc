// Result<T>: the value or the error, and that both survive copies and moves.
#include "core/result.h"

#include <criterion/criterion.h>

#include <cerrno>
#include <memory>
#include <string>

namespace gatehouse {
namespace {

Result<int> half(int number) {
  if (number % 2 != 0) return Error{"odd"};
  return number / 2;
}

Test(result, carries_the_value) {
  const Result<int> result = half(8);
  cr_assert(result.ok());
  cr_assert(static_cast<bool>(result));
  cr_assert_eq(*result, 4);
}

Test(result, carries_the_error) {
  const Result<int> result = half(7);
  cr_assert_not(result.ok());
  cr_assert_not(static_cast<bool>(result));
  cr_assert_str_eq(result.error().message.c_str(), "odd");
}

Test(result, an_error_in_a_result_of_text_is_not_its_value) {
  Result<std::string> good{std::string("text")};
  Result<std::string> bad{Error{"text"}};
  cr_assert(good.ok());
  cr_assert_not(bad.ok());
  cr_assert_eq(good->size(), 4u);
}

Test(result, moves_a_value_that_cannot_be_copied) {
  Result<std::unique_ptr<int>> result{std::make_unique<int>(5)};
  cr_assert(result.ok());
  std::unique_ptr<int> taken = std::move(result.value());
  cr_assert_eq(*taken, 5);
  cr_assert_null(result.value().get());
}

Test(result, void_is_good_until_told_otherwise) {
  const Result<void> good;
  const Result<void> bad{Error{"disk full"}};
  cr_assert(good.ok());
  cr_assert_not(bad.ok());
  cr_assert_str_eq(bad.error().message.c_str(), "disk full");
}

Test(result, errno_error_names_the_call_and_the_reason) {
  const Error error = errno_error("open /nowhere", ENOENT);
  cr_assert_str_eq(error.message.c_str(), "open /nowhere: No such file or directory");
}

}  // namespace
}  // namespace gatehouse
