// fmt, without compiling its formatting again in each file.
//
// fmt 9 leaves the body of detail::vformat_to() to whoever calls format_to(): three seconds of
// compiling and 80 kB of object for each such file. Its shared and its static library have it
// compiled; here the compiler is told so. From version 10 on fmt does this itself. Any file may
// include <fmt/format.h> alone: it is then slower to compile, nothing else.
#pragma once

#include <fmt/format.h>

#if FMT_VERSION < 100000 && !defined(FMT_HEADER_ONLY)
FMT_BEGIN_NAMESPACE
namespace detail {
extern template void vformat_to<char>(buffer<char>&, basic_string_view<char>,
                                      basic_format_args<FMT_BUFFER_CONTEXT(char)>, locale_ref);
}  // namespace detail
FMT_END_NAMESPACE
#endif
