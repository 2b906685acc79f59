// What most files include, parsed once for all of them: the Makefile makes a precompiled header of
// it for g++ with sanitizers and passes that before each source.
//
// Only headers that hardly ever change stand here. No file relies on it or includes it: the usual
// build compiles without it. <nlohmann/json.hpp> is left out, because loading it costs the files
// without JSON more than it spares those with it.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <chrono>
#include <coroutine>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/format.h"
